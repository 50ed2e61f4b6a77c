"""Sending a task from inside a request, to real brokers."""

from __future__ import annotations

import contextlib
import functools
import typing as t

from celery import Celery

import flask_task_context
from benchmarks.alternate import Contest
from benchmarks.alternate import alternate
from benchmarks.brokers import own_queue
from benchmarks.brokers import purge
from benchmarks.report import Results
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import Shape
from benchmarks.ways import arguments
from benchmarks.ways import article_context
from benchmarks.ways import create_celery
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import capture_context
from flask_task_context import delay_with_context


def measure(
    results: Results,
    brokers: list[str],
    quick: bool,
    progress: t.Callable[[float], None],
) -> None:
    apps = Apps.create(100)
    values, calls = (3, 50) if quick else (12, 100)
    for broker in brokers:
        with own_queue(functools.partial(create_celery, apps), broker) as app:
            between = functools.partial(purge, app)
            for name, shape in SHAPES.items():
                contests = ways(apps, app, shape)
                found = alternate(contests, values, calls, between)
                for way, seconds in found.items():
                    case = f"{broker}, {name}"
                    results.add("publish", case, way, *(s * 1e6 for s in seconds))
                progress(1 / len(brokers) / (len(SHAPES) + 1))
            contests = pieces(apps, app)
            for piece, seconds in alternate(contests, values, calls, between).items():
                micro = [s * 1e6 for s in seconds]
                results.add("pieces", f"after a publish to {broker}", piece, *micro)
        progress(1 / len(brokers) / (len(SHAPES) + 1))
    for case, medians in results.table("publish").items():
        for way, median in medians.items():
            if way != "bare":
                results.add("price", case, way, median - medians["bare"])


def ways(apps: Apps, app: Celery, shape: Shape) -> dict[str, Contest]:
    tasks = app.tasks
    environ = environ_of(apps.signed, shape)
    signed = functools.partial(visit, apps.signed, shape, environ)
    encrypted = functools.partial(visit, apps.encrypted, shape, environ)
    with signed():
        ready = capture_context()
    return {
        "bare": Contest(lambda _: tasks["bare"].delay(), signed),
        "a ready header": Contest(
            lambda _: tasks["bare"].apply_async(headers=ready), signed
        ),
        "arguments": Contest(lambda _: tasks["bare"].delay(*arguments()), signed),
        "article": Contest(lambda _: tasks["article"].delay(), signed),
        "ours": Contest(lambda _: delay_with_context(tasks["ours"]), signed),
        "encrypted": Contest(
            lambda _: delay_with_context(tasks["encrypted"]), encrypted
        ),
    }


def pieces(apps: Apps, app: Celery) -> dict[str, Contest]:
    """Where a capture's time goes when its code is as cold as a publish leaves it."""
    library: t.Any = flask_task_context
    shape = SHAPES["browser"]
    environ = environ_of(apps.signed, shape)
    settings = library._settings(apps.signed)
    key = settings.keys[0]

    def environ_part(context: t.Any) -> t.Any:
        missing = library._Missing()
        return library._environ_of(context.request.environ, settings, missing)

    def session_part(context: t.Any) -> t.Any:
        return library._session_values(context, settings, library._Missing())

    def json_part(parts: t.Any) -> str:
        return t.cast("str", library._encode_parts(parts, settings, library._Missing()))

    @contextlib.contextmanager
    def after_a_publish() -> t.Iterator[t.Any]:
        with visit(apps.signed, shape, environ):
            context = library._active_context()
            parts = {
                "server": list(map(environ.get, library._ALWAYS)),
                "environ": environ_part(context),
                "session": session_part(context),
            }
            payload = json_part(parts)
            app.tasks["bare"].delay()
            yield context, parts, payload

    def piece(call: t.Callable[..., object]) -> Contest:
        return Contest(lambda given: call(*given), after_a_publish)

    return {
        "the article's dict": piece(lambda *_: article_context()),
        "a whole capture": piece(lambda *_: capture_context()),
        "its environ": piece(
            lambda context, *_: (
                list(map(context.request.environ.get, library._ALWAYS)),
                environ_part(context),
            )
        ),
        "its session": piece(lambda context, *_: session_part(context)),
        "JSON": piece(lambda _, parts, __: json_part(parts)),
        "HMAC": piece(lambda *given: key.sign(given[2])),
        "settings": piece(lambda *_: library._settings(apps.signed)),
    }
