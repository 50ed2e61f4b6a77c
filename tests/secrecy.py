"""What the tests of sessions, credentials, keys and sizes have in common."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
import time
import typing as t
import urllib.parse
import uuid
from pathlib import Path

import flask
import redis
from celery import Celery
from flask import request
from flask import session
from flask.json.tag import TaggedJSONSerializer

import flask_task_context
from flask_task_context import with_request_context
from tests import shop
from tests.conftest import Shop
from tests.conftest import Worker
from tests.conftest import broker_url
from tests.conftest import celery_settings
from tests.conftest import drop_queue

HEADER = "flask_task_context"


# -- tasks ---------------------------------------------------------------------


def everything() -> dict[str, t.Any]:
    """All that a task can read of the visitor's credentials, and the rest."""
    return {
        "headers": dict(request.headers),
        "cookies": request.cookies,
        "form": request.form.to_dict(flat=False),
        "files": {name: f.read().decode() for name, f in request.files.items()},
        "json": request.get_json(silent=True),
        "session": dict(session),
    }


def tagged_session() -> str:
    """The session with its types, as Flask's cookie would hold it."""
    return TaggedJSONSerializer().dumps(dict(session))


def change_session() -> dict[str, t.Any]:
    session["changed"] = "by the task"
    session.pop("cart", None)
    session["again"] = 1
    return dict(session)


def leave_mark(path: str) -> str:
    """Shows that the body ran, in whatever process."""
    Path(path).touch()
    return request.url if flask.has_request_context() else "no request"


def count(*words: str) -> list[int]:
    """How often the words are in the request: tells without repeating them."""
    text = json.dumps(everything())
    return [text.count(word) for word in words]


def read_password() -> str:
    return request.form["password"]


TASKS = (
    everything,
    tagged_session,
    change_session,
    leave_mark,
    count,
    read_password,
)


def add_tasks(app: Celery) -> None:
    for function in TASKS:
        app.task(
            with_request_context(function),
            name=f"shop.{function.__name__}",
            shared=False,
        )


def create_app(**config: t.Any) -> flask.Flask:
    """The shop; with ``SESSION_REDIS_URL`` its sessions are Flask-Session's."""
    app = shop.create_app(**config)
    if config.get("SESSION_REDIS_URL"):
        from flask_session import Session

        app.config["SESSION_REDIS"] = redis.Redis.from_url(config["SESSION_REDIS_URL"])
        Session(app)
    if config.get("HOOKS_CHANGE_SESSION"):

        @app.after_request
        def change(response: flask.Response) -> flask.Response:
            session["changed"] = "by a hook"
            return response

    return app


def start_worker_process() -> Celery:
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    flask_task_context.init_app(create_app(**settings["flask"]))
    app = shop.create_celery(**settings["celery"])
    add_tasks(app)
    return app


# -- the sending side ------------------------------------------------------------


def make_shop(settings: dict[str, t.Any], **config: t.Any) -> Shop:
    made = Shop(settings, **config)
    made.flask = create_app(**{"PROPAGATE_EXCEPTIONS": True, **config})
    add_tasks(made.celery)
    return made


def capture(made: Shop, **request: t.Any) -> dict[str, str]:
    """The context of a request whose Cookie header the test client leaves alone."""
    seen: list[dict[str, str]] = []

    def view() -> str:
        seen.append(flask_task_context.capture_context())
        return "ok"

    made.flask.extensions["view"] = view
    client = made.flask.test_client(use_cookies=False)
    assert client.post("/item/3", **request).status_code == 200
    return seen[0]


@contextlib.contextmanager
def shop_without_worker(broker: str, folder: Path, **config: t.Any) -> t.Iterator[Shop]:
    """A shop whose messages wait in a queue of its own, and are gone at the end."""
    made = make_shop(celery_settings(broker, folder), **config)
    try:
        yield made
    finally:
        drop_queue(made.celery)


def start_worker(
    settings: dict[str, t.Any],
    log: Path,
    *options: str,
    environ: dict[str, str] | None = None,
    **config: t.Any,
) -> Worker:
    """A worker process with a name of its own, for a shop with this configuration."""
    return Worker(
        settings,
        log,
        f"--hostname={uuid.uuid4().hex[:12]}@tests",
        *options,
        module="tests.secrecy_worker",
        flask_config=config,
        environ=environ,
    )


def queue_length(app: Celery) -> int:
    """How many messages wait in the app's queue."""
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue]
        declared = queue(connection.default_channel).queue_declare()
        return t.cast("int", declared.message_count)


def take_message(app: Celery) -> t.Any:
    """The next waiting message, taken off its queue."""
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue]
        message = queue(connection.default_channel).get(no_ack=True)
        assert message is not None
        return message


def take_raw(app: Celery) -> bytes:
    """The bytes of the next waiting message as the broker keeps it."""
    if app.conf.broker_url.startswith("redis"):
        client = redis.Redis.from_url(app.conf.broker_url)
        with contextlib.closing(client):
            raw = client.lpop(app.conf.task_default_queue)
        assert isinstance(raw, bytes)
        return raw
    message = take_message(app)
    properties = repr([message.headers, message.properties]).encode()
    body = message.body
    return properties + (body if isinstance(body, bytes) else body.encode())


def watch(
    broker: str, folder: Path, send: t.Callable[[Shop], None], **config: t.Any
) -> dict[str, str]:
    """Send a task that works, one that fails and one that no worker knows, each with
    the request that ``send`` makes, and give what can be read of them afterwards:
    in the queue, in the DEBUG log, in the line about the unknown task, in events
    and in the results of ``result_extended``; and the results of the first."""
    settings = {
        **celery_settings(broker, folder),
        "result_extended": True,
        "task_send_sent_event": True,
    }
    made = make_shop(settings, **config)
    results: list[t.Any] = []

    def view() -> None:
        headers = flask_task_context.capture_context()
        words = {"args": ("canary", "kept"), "headers": headers}
        made.tasks["shop.count"].apply_async(**words)
        results.append(made.tasks["shop.count"].apply_async(**words))
        made.tasks["shop.fail"].apply_async(("on purpose",), headers=headers)
        made.celery.send_task("shop.unknown", headers=headers)

    made.flask.extensions["view"] = lambda: (view(), "ok")[1]
    try:
        send(made)
        length = queue_length(made.celery)
        raw = [take_raw(made.celery) for _ in range(length)]
        assert length == 4 * len(results)
        with collecting_events(made.celery) as events:
            results.clear()
            send(made)
            log = folder / "worker.log"
            worker = start_worker(settings, log, "--loglevel=DEBUG", "-E", **config)
            try:
                seen = [result.get(timeout=30) for result in results]
                worker.wait_for("Received unregistered task")
                deadline = time.monotonic() + 60
                while sum(e["type"] == "task-failed" for e in events) < len(results):
                    assert time.monotonic() < deadline, [e["type"] for e in events]
                    time.sleep(0.05)
            finally:
                worker.kill()
        files = (folder / "results").iterdir()
        text = log.read_text()
        return {
            "queue": readable(b"\n".join(raw)),
            "debug log": readable(text),
            "unregistered": readable(text[text.index("Received unregistered task") :]),
            "events": readable(json.dumps(events)),
            "results": readable(b"\n".join(file.read_bytes() for file in files)),
            "seen": repr(seen),
        }
    finally:
        drop_queue(made.celery)


@contextlib.contextmanager
def collecting_events(app: Celery) -> t.Iterator[list[dict[str, t.Any]]]:
    """All event messages, as ``celery events`` and Flower receive them."""
    events: list[dict[str, t.Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        with receiver.consumer_context() as (used, _, _):
            thread = threading.Thread(target=drain, args=(receiver, used))
            receiver.should_stop = False
            thread.start()
            try:
                yield events
            finally:
                receiver.should_stop = True
                thread.join(10)


def drain(receiver: t.Any, connection: t.Any) -> None:
    while not receiver.should_stop:
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.2)


@contextlib.contextmanager
def private_redis() -> t.Iterator[str]:
    """The URL of an empty Redis database that no other process uses."""
    address, _, _ = broker_url("redis").rpartition("/")
    mark = uuid.uuid4().hex
    for number in range(15, 0, -1):
        url = f"{address}/{number}"
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            if client.set("claimed by", mark, nx=True, ex=600) and client.dbsize() == 1:
                break
            if client.get("claimed by") == mark.encode():
                client.delete("claimed by")
    else:
        raise RuntimeError("no empty Redis database")
    try:
        yield url
    finally:
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            client.flushdb()


def readable(data: bytes | str) -> str:
    """All that a reader can make of ``data`` without a key: as it is, with its
    JSON and percent escapes undone, and with each run of base64 decoded; in UTF-8
    or UTF-16."""
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    seen = [text]
    for _ in range(3):
        text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
        seen.append(text := urllib.parse.unquote(text.replace("\\", "")))
    for run in re.findall(r"[\w+/-]{8,}", text, re.ASCII):
        for start in range(4):
            part = run[start:].replace("-", "+").replace("_", "/")
            whole = part[: len(part) // 4 * 4]
            seen.append(base64.b64decode(whole).decode("latin-1"))
    return "\n".join(seen).replace("\0", "")
