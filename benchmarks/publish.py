"""Sending a task from inside a request, to real brokers."""

from __future__ import annotations

import functools
import typing as t

from benchmarks.alternate import Contest
from benchmarks.alternate import alternate
from benchmarks.brokers import own_queue
from benchmarks.brokers import purge
from benchmarks.report import Results
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import arguments
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import delay_with_context


def measure(
    results: Results,
    brokers: list[str],
    quick: bool,
    progress: t.Callable[[float], None],
) -> None:
    apps = Apps.create(100)
    shape = SHAPES["browser"]
    environ = environ_of(apps.signed, shape)
    signed = functools.partial(visit, apps.signed, shape, environ)
    encrypted = functools.partial(visit, apps.encrypted, shape, environ)
    values, calls = (3, 50) if quick else (30, 100)
    for broker in brokers:
        with own_queue(apps, broker) as app:
            tasks = app.tasks
            contests = {
                "bare": Contest(lambda _, tasks=tasks: tasks["bare"].delay(), signed),
                "arguments": Contest(
                    lambda _, tasks=tasks: tasks["bare"].delay(*arguments()), signed
                ),
                "article": Contest(
                    lambda _, tasks=tasks: tasks["article"].delay(), signed
                ),
                "ours": Contest(
                    lambda _, tasks=tasks: delay_with_context(tasks["ours"]), signed
                ),
                "encrypted": Contest(
                    lambda _, tasks=tasks: delay_with_context(tasks["encrypted"]),
                    encrypted,
                ),
            }
            between = functools.partial(purge, app)
            found = alternate(contests, values, calls, between)
        for way, seconds in found.items():
            results.add("publish", broker, way, *(s * 1e6 for s in seconds))
        progress(1 / len(brokers))
