"""The tasks of ``newer_worker``, each decorated in four ways."""

from __future__ import annotations

import contextvars
import functools
import hashlib
import json
import os
import queue
import signal
import threading
import time
import typing as t
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flask
import kombu
from celery import Celery
from celery import current_app
from celery import shared_task

import flask_task_context
from flask_task_context import with_request_context
from tests import shop


def create_celery(conf: dict[str, t.Any], **options: t.Any) -> Celery:
    made = Celery("newer", **options)
    if conf.pop("quorum_queues", False):
        name = conf["task_default_queue"]
        kind = kombu.Exchange(name, conf["task_default_exchange_type"])
        arguments = {"x-queue-type": "quorum"}
        queue = kombu.Queue(name, kind, name, queue_arguments=arguments)
        made.conf.task_queues = [queue]
    made.conf.update(conf)
    return made


def create_app() -> flask.Flask:
    made = shop.create_app()

    @made.teardown_request
    def note_end(error: BaseException | None) -> None:
        if path := os.environ.get("NOTES"):
            note(path, f"end {type(error).__name__}")

    return made


def note(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def where() -> str:
    return shop.where()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def errback_one(task_id: str, *, path: str) -> None:
    note(path, f"one {shop.where()}")


def errback_three(request: t.Any, exc: t.Any, traceback: t.Any, *, path: str) -> None:
    note(path, f"three {shop.where()}")


def stall_once(self: t.Any, path: str) -> str:
    """As Celery's ``cold shutdown`` finds it: at work, and not done."""
    first = not Path(path).exists()
    note(path, f"{self.request.headers['flask_task_context']} {shop.where()}")
    if first:
        time.sleep(60)
    return shop.where()


def arrives(self: t.Any, countdown: float | None = None) -> list[t.Any]:
    """Its header's length and digest, by which way it came, and where it runs. (The
    file of a large result can be read while it is written.)"""
    if countdown is not None and not self.request.retries:
        raise self.retry(countdown=countdown)
    header = self.request.headers["flask_task_context"]
    return [*digest(header), self.request.delivery_info["routing_key"], shop.where()]


def digest(header: str) -> tuple[int, str]:
    return len(header), hashlib.sha256(header.encode()).hexdigest()


class Thread:
    """A thread that is begun when there is something to do, and stays. It has the
    context variables of who began it, as ``thread_inherit_context`` gives them."""

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[t.Callable[[], None]] = queue.SimpleQueue()
        self.begun = False

    def submit(self, body: t.Callable[[], t.Any]) -> Future[t.Any]:
        if not self.begun:
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self.serve,), daemon=True).start()
            self.begun = True
        future: Future[t.Any] = Future()
        self.work.put(lambda: future.set_result(body()))
        return future

    def serve(self) -> None:
        while True:
            self.work.get()()


POOLS: dict[str, t.Any] = {"thread": Thread(), "executor": ThreadPoolExecutor(1)}


def pooled(pool: str, way: str) -> list[str]:
    """Where work is that a thread does for this task, and the id of what it sends."""
    headers = flask_task_context.capture_context()
    work: t.Callable[[], list[str]] = send_where
    if way == "copied context":
        work = functools.partial(contextvars.copy_context().run, send_where)
    elif way == "restored":
        work = functools.partial(contextvars.Context().run, restored, headers)
    elif way == "restored in place":
        work = functools.partial(restored, headers)
    elif way == "copied request":
        work = flask.copy_current_request_context(send_where)
    return t.cast("list[str]", POOLS[pool].submit(work).result(10))


def restored(headers: dict[str, str]) -> list[str]:
    with flask_task_context.restore_context(headers):
        return send_where()


def send_where() -> list[str]:
    return [shop.where(), current_app.send_task("app below where").id]


if "SHOP_SETTINGS" in os.environ:
    app = create_celery(json.loads(os.environ["SHOP_SETTINGS"])["celery"])
    decorate = with_request_context(app=os.environ.get("APP"))
    for kind, make in {
        "app below": lambda body, **o: app.task(**o)(decorate(body)),
        "app above": lambda body, **o: decorate(app.task(**o)(body)),
        "shared below": lambda body, **o: shared_task(**o)(decorate(body)),
        "shared above": lambda body, **o: decorate(shared_task(**o)(body)),
    }.items():
        make(where, name=f"{kind} where")
        make(die, name=f"{kind} die")
        make(errback_one, name=f"{kind} errback_one")
        make(errback_three, name=f"{kind} errback_three")
        make(stall_once, name=f"{kind} stall_once", bind=True, acks_late=True)
        make(arrives, name=f"{kind} arrives", bind=True)
        make(pooled, name=f"{kind} pooled")

if os.environ.get("INIT") == "tasks":
    flask_task_context.init_app(create_app())
