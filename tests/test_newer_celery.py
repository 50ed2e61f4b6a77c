"""Newer ways to run: spawned processes, soft shutdown, quorum queues, threads that
inherit context variables."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import typing as t
from contextlib import nullcontext
from pathlib import Path

import celery
import flask
import kombu
import pytest
from flask import g
from kombu.transport.pyamqp import Connection

from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from tests import newer_tasks
from tests import shop
from tests.conftest import Worker
from tests.conftest import broker_url
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.ways import lines_of

URL = "http://anna.example/item/3"
KINDS = ["app below", "app above", "shared below", "shared above"]


def since(*version: int) -> pytest.MarkDecorator:
    wanted = ".".join(map(str, version))
    return pytest.mark.skipif(
        version > celery.VERSION, reason=f"Celery {wanted} is the first that has it"
    )


class Site:
    """A sender that has none of the tasks, and its workers."""

    def __init__(self, broker: str, folder: Path, **conf: t.Any) -> None:
        self.settings = {**celery_settings(broker, folder), **conf}
        self.folder = folder
        conf = dict(self.settings)
        self.celery = newer_tasks.create_celery(conf, set_as_current=False)
        self.flask = shop.create_app()
        self.workers: list[Worker] = []

    def start(self, *options: str, **environ: str) -> Worker:
        log = self.folder / f"{len(self.workers)}.log"
        worker = Worker(
            self.settings,
            log,
            *(options or ("--pool=prefork", "-c1")),
            module="tests.newer_worker",
            environ={"INIT": "tasks", **environ},
        )
        self.workers.append(worker)
        return worker

    def send(
        self, name: str, *args: t.Any, url: str | None = URL, **options: t.Any
    ) -> t.Any:
        visit = self.flask.test_request_context(url) if url else nullcontext()
        with visit:
            signature = self.celery.signature(name)
            return apply_async_with_context(signature, args, **options)


@contextlib.contextmanager
def site_on(broker: str, folder: Path, **conf: t.Any) -> t.Iterator[Site]:
    site = Site(broker, folder, **conf)
    try:
        yield site
    finally:
        for worker in site.workers:
            worker.stop()
        if broker == "rabbitmq":
            with site.celery.connection_for_write() as connection:
                name = site.settings["task_default_queue"]
                connection.default_channel.exchange_delete(name)
        drop_queue(site.celery)


def get(result: t.Any) -> t.Any:
    return result.get(timeout=30, interval=0.02)


# -- spawned processes -----------------------------------------------------------------


SPAWNED = {"worker_pool_start_method": "spawn"}
#: How a spawned process gets to know the app.
KNOWN: dict[str, tuple[dict[str, t.Any], dict[str, str]]] = {
    "by the tasks' module": ({}, {"INIT": "tasks"}),
    "by include": ({"include": ["tests.newer_worker"]}, {"INIT": "worker"}),
    "by FLASK_APP": ({}, {"INIT": "", "FLASK_APP": "tests.newer_tasks:create_app"}),
    "by app=": ({}, {"INIT": "", "APP": "tests.newer_tasks:create_app"}),
}


@since(5, 7)
@pytest.mark.parametrize("way", KNOWN)
def test_a_spawned_process_runs_tasks_in_their_requests(
    way: str, tmp_path: Path
) -> None:
    """However decorated, with each of the ways to tell it of the app."""
    conf, environ = KNOWN[way]
    with site_on("redis", tmp_path, **SPAWNED, **conf) as site:
        worker = site.start(**environ)
        assert [get(site.send(f"{kind} where")) for kind in KINDS] == [URL] * 4
        assert "INFO/SpawnPoolWorker" in worker.log.read_text()


@since(5, 7)
def test_errbacks_of_a_spawned_process_that_was_killed(tmp_path: Path) -> None:
    """Those that the main process calls, and those that another process runs, have the
    request."""
    with site_on("redis", tmp_path, **SPAWNED) as site:
        site.start()
        for kind in KINDS:
            path = tmp_path / f"{kind}.notes"
            site.send(
                f"{kind} die",
                link_error=[
                    site.celery.signature(f"{kind} {name}", kwargs={"path": str(path)})
                    for name in ("errback_one", "errback_three")
                ],
            )
            assert sorted(lines_of(path, 2, 30)) == [f"one {URL}", f"three {URL}"]


@since(5, 7)
def test_a_spawned_process_does_not_import_what_the_command_names(
    tmp_path: Path,
) -> None:
    """An ``init_app`` in a module without a task is not called there, as it is for a
    forked process, and the error says what is missing."""
    missing = r"^No Flask app for this task: call 'flask_task_context\.init_app\(app\)'"
    with site_on("redis", tmp_path) as site:
        site.start(INIT="worker")
        assert get(site.send("app below where")) == URL
    with site_on("redis", tmp_path, **SPAWNED) as site:
        site.start(INIT="worker")
        for kind in KINDS:
            with pytest.raises(RuntimeError, match=missing):
                get(site.send(f"{kind} where"))


# -- soft shutdown ---------------------------------------------------------------------


@since(5, 5)
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("by", ["SIGQUIT", "SIGTERM"])
def test_a_task_that_a_soft_shutdown_gives_back_runs_in_its_request(
    by: str, broker: str, tmp_path: Path
) -> None:
    """With ``acks_late`` the next worker has the same header. The teardown functions of
    the run that was broken off have its ``SystemExit``."""
    notes, ends = tmp_path / "notes", tmp_path / "ends"
    environ = {
        "NOTES": str(ends),
        "REMAP_SIGTERM": "SIGQUIT" if by == "SIGTERM" else "",
    }
    with site_on(broker, tmp_path, worker_soft_shutdown_timeout=0.5) as site:
        worker = site.start(**environ)
        result = site.send("app below stall_once", str(notes))
        (first,) = lines_of(notes, 1, 30)
        os.kill(worker.process.pid, getattr(signal, by))
        worker.wait_for("Initiating Soft Shutdown")
        worker.process.wait(20)
        site.start(**environ)
        assert get(result) == URL
        assert lines_of(notes, 2, 30) == [first, first]
        assert first.endswith(f" {URL}")
        assert lines_of(ends, 2, 30) == ["end SystemExit", "end NoneType"]


# -- quorum queues ---------------------------------------------------------------------


DELAYED = [f"celery_delayed_{level}" for level in range(28)]


@pytest.fixture
def delayed() -> t.Iterator[None]:
    """Celery's own exchanges and queues are gone after the test, if they were before."""
    with kombu.Connection(broker_url("rabbitmq")) as connection:
        found = is_declared(connection)
        yield
        if not found:
            channel = connection.channel()
            for name in DELAYED:
                channel.queue_delete(name)
            for name in [*DELAYED, "celery_delayed_delivery"]:
                channel.exchange_delete(name)


def is_declared(connection: Connection) -> bool:
    channel = connection.channel()
    try:
        channel.exchange_declare("celery_delayed_delivery", "topic", passive=True)
    except connection.channel_errors:
        return False
    return True


def largest(site: Site) -> dict[str, str]:
    """A header of just the size that TASK_CONTEXT_MAX_SIZE allows."""
    filling = 60_000
    while True:
        with site.flask.test_request_context(URL):
            g.tenant = "x" * filling
            headers = capture_context()
        room = 64 * 1024 - len(headers["flask_task_context"])
        if not room:
            return headers
        filling += room


@since(5, 5)
@pytest.mark.usefixtures("delayed")
@pytest.mark.parametrize(
    ("exchange", "conf"),
    [
        ("topic", {"task_default_queue_type": "quorum"}),
        ("topic", {"quorum_queues": True}),
        ("direct", {"task_default_queue_type": "quorum"}),
    ],
    ids=["default type", "task_queues", "direct exchange"],
)
def test_a_quorum_queue_keeps_the_largest_context(
    exchange: str, conf: dict[str, t.Any], tmp_path: Path
) -> None:
    """Also with a countdown, and in a retry with one: on a topic exchange RabbitMQ delays
    these itself, on a direct one the worker does."""
    conf = {**conf, "task_default_exchange_type": exchange}
    with site_on("rabbitmq", tmp_path, **conf) as site:
        site.start()
        headers = largest(site)
        assert len(headers["flask_task_context"]) == 64 * 1024
        for args, options in [((), {}), ((), {"countdown": 1}), ((1,), {})]:
            result = site.celery.send_task(
                "app below arrives", args, headers=headers, **options
            )
            *header, key, where = get(result)
            sent = newer_tasks.digest(headers["flask_task_context"])
            assert (*header, where) == (*sent, URL)
            delayed = exchange == "topic" and (args or options)
            assert re.match(r"([01]\.){28}test-" if delayed else "test-", key)


# -- threads that inherit context variables --------------------------------------------


#: From Flask 3.2 on an app context hides a request.
MERGED = hasattr(flask.ctx.AppContext, "has_request")
ANNA, BEN = URL, "http://ben.example/item/3"
NONE = "app context"
#: By how work is given to a thread that Anna's task has begun: where Anna's, Ben's and
#: nobody's work is, and what it sends.
THREADS = {
    # Flask's own variable has her request still, but nothing is sent in her name.
    "plain": [[ANNA, ANNA], [ANNA, NONE], [ANNA, NONE]],
    "copied context": [[ANNA, ANNA], [BEN, BEN], [NONE, NONE]],
    "restored": [[ANNA, ANNA], [BEN, BEN], [NONE, NONE]],
    "restored in place": [[ANNA, ANNA], [BEN, BEN], [NONE if MERGED else ANNA, NONE]],
    # As in any thread, Ben's plain ``send_task`` carries nothing there.
    "copied request": [[ANNA, ANNA], [BEN, NONE]],
}
INHERITS = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="Python 3.14 is the first whose threads inherit"
)


@pytest.mark.parametrize("way", THREADS)
@pytest.mark.parametrize("pool", ["thread", pytest.param("executor", marks=INHERITS)])
def test_a_thread_that_inherits_its_first_visitor(
    pool: str, way: str, tmp_path: Path
) -> None:
    """Work that brings no context of its own is in the request that began the thread;
    what brings one is in that."""
    with site_on("redis", tmp_path) as site:
        site.start("--pool=threads", "-c1", PYTHON_THREAD_INHERIT_CONTEXT="1")
        seen = []
        for url in (ANNA, BEN, None)[: len(THREADS[way])]:
            where, sent = get(site.send("app below pooled", pool, way, url=url))
            seen.append([where, get(site.celery.AsyncResult(sent))])
        assert seen == THREADS[way]
        assert get(site.send("app below where", url=None)) == NONE
