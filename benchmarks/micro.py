"""Capture, restore and run, without a broker, in several processes.

The numbers are kept as ``pyperf`` benchmarks. (``pyperf.Runner`` would measure one
way after the other.)
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import typing as t
import uuid
from pathlib import Path

import flask
import pyperf
from celery._state import _task_stack
from celery.app.trace import build_tracer

from benchmarks.alternate import Contest
from benchmarks.alternate import alternate
from benchmarks.report import Results
from benchmarks.ways import CELERYEXT
from benchmarks.ways import ROUTES
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import Shape
from benchmarks.ways import arguments
from benchmarks.ways import article_context
from benchmarks.ways import create_celery
from benchmarks.ways import do_nothing
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import capture_context
from flask_task_context import restore_context

PROCESSES = 4
Cases = t.Iterator[tuple[str, dict[str, Contest]]]


def cases() -> Cases:
    for routes in ROUTES:
        apps = Apps.create(routes)
        for name, shape in SHAPES.items():
            yield f"capture|{name}, {routes:,} routes", capture(apps, shape)
            yield f"restore|{name}, {routes:,} routes", restore(apps, shape)
    apps = Apps.create(100)
    tasks = create_celery(apps).tasks
    with in_worker(tasks["ours"]):
        contests = {
            "docs": Contest(lambda _: in_app_context(apps.signed)),
            "ours": Contest(lambda _: tasks["ours"].run()),
            "encrypted": Contest(lambda _: tasks["encrypted"].run()),
        }
        yield "no context|no context in the message", contests
    yield "run|a task of no work, without a broker", run(apps, tasks)


def capture(apps: Apps, shape: Shape) -> dict[str, Contest]:
    environ = environ_of(apps.signed, shape)

    def signed() -> t.Any:
        return visit(apps.signed, shape, environ)

    def encrypted() -> t.Any:
        return visit(apps.encrypted, shape, environ)

    return {
        "article": Contest(lambda _: article_context(), signed),
        "article in JSON": Contest(lambda _: json.dumps(article_context()), signed),
        "arguments": Contest(lambda _: arguments(), signed),
        "ours": Contest(lambda _: capture_context(), signed),
        "encrypted": Contest(lambda _: capture_context(), encrypted),
    }


def restore(apps: Apps, shape: Shape) -> dict[str, Contest]:
    environ = environ_of(apps.signed, shape)
    with visit(apps.signed, shape, environ):
        signed = capture_context()
        article = article_context()
    with visit(apps.encrypted, shape, environ):
        encrypted = capture_context()

    def open_and_close(context: t.Any) -> None:
        with context:
            pass

    def flask_itself(environ: dict[str, t.Any]) -> None:
        with apps.signed.request_context(environ):
            pass

    def article_way(_: object) -> None:
        with apps.signed.test_request_context(**article):
            pass

    return {
        "Flask itself": Contest(
            flask_itself, lambda: contextlib.nullcontext(dict(environ))
        ),
        "article": Contest(article_way),
        "ours": Contest(lambda _: open_and_close(restore_context(signed, apps.signed))),
        "encrypted": Contest(
            lambda _: open_and_close(restore_context(encrypted, apps.encrypted))
        ),
    }


@contextlib.contextmanager
def in_worker(task: t.Any) -> t.Iterator[None]:
    """As Celery's tracer prepares a message without headers."""
    _task_stack.push(task)
    task.push_request(id=uuid.uuid4().hex, called_directly=False, headers=None)
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


def in_app_context(app: flask.Flask) -> None:
    with app.app_context():
        do_nothing()


def run(apps: Apps, tasks: t.Any) -> dict[str, Contest]:
    """What a worker does with a message once it has it."""
    shape = SHAPES["browser"]
    environ = environ_of(apps.signed, shape)
    with visit(apps.signed, shape, environ):
        signed, article, given = capture_context(), article_context(), arguments()
    with visit(apps.encrypted, shape, environ):
        encrypted = capture_context()
    hidden = {"_flask_request_context": article}
    return {
        "bare": _traced(tasks["bare"]),
        "arguments": _traced(tasks["bare"], args=given),
        "docs": _traced(tasks["docs"]),
        "Flask itself": _traced(tasks["Flask itself"]),
        **{way: _traced(tasks[way]) for way in CELERYEXT},
        "article": _traced(tasks["article"], kwargs=hidden),
        "ours": _traced(tasks["ours"], headers=signed),
        "encrypted": _traced(tasks["encrypted"], headers=encrypted),
    }


def _traced(
    task: t.Any,
    args: tuple[t.Any, ...] = (),
    kwargs: dict[str, t.Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Contest:
    tracer = build_tracer(task.name, task, app=task.app)

    def traced(_: object) -> t.Any:
        message = {"id": "x", "task": task.name, "headers": headers, **(headers or {})}
        return tracer("x", args, dict(kwargs or {}), message)

    if failure := traced(None).info:
        raise RuntimeError(f"{task.name} fails: {failure}")
    return Contest(traced)


# -- several processes ---------------------------------------------------------


def measure(results: Results, quick: bool, progress: t.Callable[[float], None]) -> None:
    suite: pyperf.BenchmarkSuite | None = None
    processes = 2 if quick else PROCESSES
    for _ in range(processes):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "suite.json"
            values, calls = (3, 20) if quick else (8, 50)
            numbers = [str(values), str(calls)]
            command = [sys.executable, "-m", "benchmarks.micro", str(file), *numbers]
            subprocess.run(command, check=True)
            one = pyperf.BenchmarkSuite.load(str(file))
        if suite is None:
            suite = one
        else:
            suite.add_runs(one)
        progress(1 / processes)
    assert suite is not None
    for benchmark in suite:
        part, case, way = benchmark.get_name().split("|")
        results.add(part, case, way, benchmark.median() * 1e6)


def main(file: str, values: str, calls: str) -> None:
    benchmarks = []
    for case, contests in cases():
        for way, seconds in alternate(contests, int(values), int(calls)).items():
            metadata = {"name": f"{case}|{way}", "unit": "second"}
            run = pyperf.Run(seconds, metadata=metadata, collect_metadata=False)
            benchmarks.append(pyperf.Benchmark([run]))
    pyperf.BenchmarkSuite(benchmarks).dump(file, replace=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
