"""A task that is broken off, wherever it is: nothing of its request is left."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import flask
import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from flask import request

import flask_task_context
from flask_task_context import BadContext
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import interrupts
from tests.conftest import ROOT
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.ways import lines_of

BROKEN_OFF = {
    "ValueError": ValueError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "recursion": RecursionError,
}
IN_A_PROCESS = {**BROKEN_OFF, "soft time limit": SoftTimeLimitExceeded}


#: Where an error is logged, and the task's result stands: its work is done.
DONE = {"after this", "after"}


def text_of(point: str, kind: str) -> str:
    texts = {
        "recursion": "maximum recursion depth",
        "soft time limit": r"^SoftTimeLimitExceeded\(.*\)$",
    }
    return texts.get(kind, f"^{point}$")


def ends_it(point: str, kind: str) -> t.ContextManager[t.Any]:
    """The exception is the task's, but that of a function after a request."""
    if point in DONE and issubclass(IN_A_PROCESS[kind], Exception):
        return contextlib.nullcontext()
    return pytest.raises(IN_A_PROCESS[kind], match=text_of(point, kind))


@pytest.fixture
def app() -> flask.Flask:
    app = interrupts.create_app()
    init_app(app)
    return app


@pytest.fixture
def celery() -> Celery:
    return interrupts.create_celery(broker_url="memory://")


# -- in this process -------------------------------------------------------------------


@pytest.mark.parametrize("kind", BROKEN_OFF)
@pytest.mark.parametrize("point", interrupts.POINTS)
def test_whatever_breaks_off_a_task_leaves_nothing(
    app: flask.Flask, celery: Celery, point: str, kind: str
) -> None:
    """The exception is the task's, no context stays, and the next task has its own."""
    task = celery.tasks["work"]
    headers = interrupts.capture(app, "broken", point, kind)
    with ends_it(point, kind):
        task.apply(headers=headers).get()
    assert interrupts.left() == []
    followed = task.apply(headers=interrupts.capture(app, "next"))
    assert followed.get() == "/next"
    assert interrupts.left() == []


@pytest.mark.parametrize("kind", BROKEN_OFF)
@pytest.mark.parametrize("point", ["restored", "teardown request", "teardown app"])
def test_restore_context_leaves_nothing(
    app: flask.Flask, celery: Celery, point: str, kind: str
) -> None:
    """The context manager is left clean by a receiver or a teardown that raises."""
    headers = interrupts.capture(app, "broken", point, kind)

    def body() -> None:
        with restore_context(headers):
            assert point != "restored"

    task = celery.task(body, name="restores", shared=False)
    with pytest.raises(BROKEN_OFF[kind], match=text_of(point, kind)):
        task.apply().get()
    assert interrupts.left() == []


def test_every_depth_of_recursion(app: flask.Flask, celery: Celery) -> None:
    """A task that is started just below the recursion limit runs, or fails with an error
    that says so; nearer to it none runs, and at no depth does it leave a context."""
    headers = interrupts.capture(app, "deep")
    task = celery.tasks["work"]
    ended: list[str] = []

    def call_at(depth: int) -> t.Any:
        return call_at(depth - 1) if depth else task.run()

    def frames() -> int:
        frame, count = sys._getframe(), 0
        while frame := frame.f_back:  # type: ignore[assignment]
            count += 1
        return count

    def body() -> None:
        room = sys.getrecursionlimit() - frames()
        for depth in range(room - 250, room):
            try:
                ended.append(call_at(depth))
            except (RecursionError, BadContext) as error:
                ended.append("too deep" if "recursion" in str(error) else repr(error))
            assert interrupts.left() == []

    # A task that is called directly takes the message of the one around it.
    celery.task(body, name="around", shared=False).apply(headers=headers).get()
    runs = ended.count("/deep")
    assert runs > 10
    assert ended == ["/deep"] * runs + ["too deep"] * (250 - runs)


def in_deep_thread(function: t.Callable[[], None]) -> None:
    """Run it where there is room for thousands of calls."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            errors.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size(512 * 1024 * 1024)
    sys.setrecursionlimit(100_000)
    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        # Too low a limit for it would end the whole process, where it has timed out.
        if not thread.is_alive():
            sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]


def test_a_thousand_nested_eager_calls(app: flask.Flask, celery: Celery) -> None:
    """All share the first one's request, and nothing is left of it."""
    seen: list[str] = []

    @with_request_context
    def nest(depth: int) -> None:
        seen.append(request.path)
        if depth:
            task.apply((depth - 1,)).get()

    nest.__name__ = "body"
    task = celery.task(nest, name="nest", shared=False)

    def run() -> None:
        task.apply((1000,), headers=interrupts.capture(app, "nested")).get()
        assert interrupts.left() == []

    in_deep_thread(run)
    assert seen == ["/nested"] * 1001


def test_a_thousand_nested_requests(app: flask.Flask) -> None:
    """Each is restored inside another one, and found again when the inner one ends."""
    contexts = [interrupts.capture(app, str(number)) for number in range(1000)]

    def nest(number: int) -> None:
        if number < len(contexts):
            with restore_context(contexts[number]):
                nest(number + 1)
                assert request.path == f"/{number}"

    def run() -> None:
        nest(0)
        assert interrupts.left() == []

    in_deep_thread(run)


STRIKES = """
import json
from stress.interrupts import strike_at_random
struck = strike_at_random({!r}, 1500, seed=3)
print(json.dumps([struck.problems, struck.hits, list(struck.places)]))
"""


@pytest.mark.parametrize("way", ["signal", "thread"])
def test_an_exception_at_random_moments(way: str) -> None:
    """Wherever a soft time limit strikes, nothing is left. (``python -m
    stress.interrupts`` strikes some thousand times more often.)"""
    # In a process of its own: coverage would be struck too, and keep its lock.
    command = [sys.executable, "-c", STRIKES.format(way)]
    done = subprocess.run(
        command, check=True, cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    problems, hits, places = json.loads(done.stdout.splitlines()[-1])
    assert problems == []
    assert hits > 50
    assert {"restore", "body", "teardown"} <= set(places)


# -- in workers ------------------------------------------------------------------------


@contextlib.contextmanager
def working(folder: Path, *options: str) -> t.Iterator[tuple[Celery, Worker]]:
    settings = {**celery_settings("redis", folder), "worker_lost_wait": 0.3}
    worker = Worker(
        settings,
        folder / "worker.log",
        *options,
        module="tests.interrupts_worker",
        environ={"INTERRUPTS_NOTES": str(folder / "notes")},
    )
    celery = interrupts.create_celery(**settings)
    try:
        yield celery, worker
    finally:
        worker.stop()
        drop_queue(celery)


def get(result: t.Any) -> t.Any:
    return result.get(timeout=30, interval=0.02)


def assert_clean(app: flask.Flask, celery: Celery) -> None:
    """What a task that carries no context finds, and what the next visitor sees."""
    assert get(celery.tasks["left"].delay()) == []
    followed = celery.tasks["work"].apply_async(headers=interrupts.capture(app, "next"))
    assert get(followed) == "/next"


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_worker_is_clean_after_each_error(
    app: flask.Flask, pool: str, tmp_path: Path
) -> None:
    """An error at any point fails that task alone, with the error's own text, and so
    does a soft time limit; after the body both are logged, since the work is done."""
    kinds = ["ValueError", "recursion", "soft time limit"]
    broken = [
        (p, k) for p in interrupts.POINTS for k in kinds[: 2 + (pool == "prefork")]
    ]
    with working(tmp_path, f"--pool={pool}", "-c1") as (celery, _):
        for point, kind in broken:
            headers = interrupts.capture(app, "broken", point, kind)
            with ends_it(point, kind):
                get(celery.tasks["work"].apply_async(headers=headers))
            assert_clean(app, celery)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes == [line for struck in broken for line in noted(*struck)]


def noted(point: str, kind: str) -> list[str]:
    """What teardown functions are told of that task, and of the next one."""
    error = IN_A_PROCESS[kind]
    logged = point in DONE and issubclass(error, Exception)
    told = "NoneType" if logged or point.startswith("teardown") else error.__name__
    return [f"/broken {told}", "/next NoneType"]


EXITS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit")
STRUCK = ("restored", "before", "body", "after", "teardown request", "teardown app")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_is_clean_after_each_exit(
    app: flask.Flask, pool: str, tmp_path: Path
) -> None:
    """Teardown functions get what ends the process or its task, and the next task
    finds nothing. (In threads, Celery reports no result for such a task.)"""
    struck = list(itertools.product(EXITS, STRUCK))
    if pool == "prefork":  # Which takes five seconds to replace a process.
        struck = [each for each in struck if "body" in each or "SystemExit" in each]
    count = len(struck) + 1 if pool == "prefork" else 1
    with working(tmp_path, f"--pool={pool}", f"-c{count}") as (celery, _):
        for kind, point in struck:
            headers = interrupts.capture(app, "broken", point, kind)
            celery.tasks["work"].apply_async(headers=headers)
            assert_clean(app, celery)
        notes = lines_of(tmp_path / "notes", 2 * len(struck))
    # By two processes, in any order.
    expected = [line for kind, point in struck for line in noted(point, kind)]
    assert sorted(notes) == sorted(expected)


@pytest.mark.parametrize("kind", EXITS)
def test_an_exit_ends_a_solo_worker(
    app: flask.Flask, kind: str, tmp_path: Path
) -> None:
    """With Celery's solo pool it is the worker itself that ends, after teardown."""
    with working(tmp_path, "--pool=solo") as (celery, worker):
        headers = interrupts.capture(app, "broken", "body", kind)
        celery.tasks["work"].apply_async(headers=headers)
        assert worker.process.wait(60) != 0
    assert (tmp_path / "notes").read_text() == f"/broken {kind}\n"


@pytest.mark.parametrize("with_request", [True, False])
def test_an_error_of_a_teardown_function_is_the_tasks(
    app: flask.Flask, with_request: bool, tmp_path: Path
) -> None:
    """As itself, in each Flask: ``autoretry_for`` knows it, and a soft time limit that
    strikes there stays one."""
    headers = interrupts.capture(app, "torn") if with_request else None
    with working(tmp_path, "--pool=prefork", "-c1") as (celery, _):
        send = functools.partial(celery.tasks["torn"].apply_async, headers=headers)
        for point in ("teardown request", "teardown app")[not with_request :]:
            assert get(send(([point], "ConnectionError"))) == 1, "of the second try"
            with pytest.raises(SoftTimeLimitExceeded):
                get(send(([point], "soft time limit")))
        assert_clean(app, celery)


def test_errors_of_two_teardown_functions(app: flask.Flask, tmp_path: Path) -> None:
    """The result tells both, where Flask collects them; it is JSON."""
    headers = interrupts.capture(app, "torn")
    both = (["teardown request", "teardown app"], "ValueError")
    text = r"ValueError\('teardown request'\).*ValueError\('teardown app'\)"
    if not flask_task_context._GROUPS:  # before Flask 3.2, or Python 3.11
        text = "^teardown (request|app)$"
    with working(tmp_path, "--pool=prefork", "-c1") as (celery, _):
        with pytest.raises(Exception, match=text):
            get(celery.tasks["torn"].apply_async(both, headers=headers))
        assert_clean(app, celery)
