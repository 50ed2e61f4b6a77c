"""Bytes in the message, and milliseconds of import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t

import celery

from benchmarks.brokers import message_of
from benchmarks.report import Results
from benchmarks.ways import HEADER
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import Shape
from benchmarks.ways import article_context
from benchmarks.ways import create_celery
from benchmarks.ways import environ_of
from benchmarks.ways import form_of
from benchmarks.ways import visit
from flask_task_context import capture_context
from flask_task_context import delay_with_context

# An application with a task has loaded these; Celery itself loads its parts late.
IMPORTS = """
import time
import flask
from celery import Celery, Task
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""
ENCRYPTION = """
from flask_task_context import init_app
app = flask.Flask("shop")
app.config.update(SECRET_KEY="key", TASK_CONTEXT_ENCRYPT=True)
init_app(app)
"""


def measure(results: Results, quick: bool, progress: t.Callable[[float], None]) -> None:
    apps = Apps.create(100)
    for name, shape in SHAPES.items():
        for way, size in sizes_of(apps, shape).items():
            results.add("bytes", f"{name} request", way, size)
    one, more = sizes_of(apps, form_of(1)), sizes_of(apps, form_of(101))
    for way, size in more.items():
        results.add("growth", "each more form field", way, (size - one[way]) / 100)
    short, long = chain_sizes(apps, 10), chain_sizes(apps, 20)
    for way, size in long.items():
        growth = (size - short[way] - long["bare"] + short["bare"]) / 10
        if way != "bare":
            results.add("growth", "each more step of a chain", way, growth)
    ways = {"ours": "import flask_task_context", "encrypted": ENCRYPTION}
    rounds = 3 if quick else 30
    for _ in range(rounds):
        for way, statements in ways.items():
            results.add("import", "import", way, import_time(statements) * 1e3)
        progress(1 / rounds)


def sizes_of(apps: Apps, shape: Shape) -> dict[str, int]:
    sizes = {}
    for way, app in (("ours", apps.signed), ("encrypted", apps.encrypted)):
        with visit(app, shape, environ_of(app, shape)):
            sizes[way] = len(capture_context()[HEADER])
            article = len(json.dumps(article_context()))
    return {"article": article, "article + body": article + len(shape.body), **sizes}


def chain_sizes(apps: Apps, steps: int) -> dict[str, int]:
    """Bytes of a chain's first message."""
    app = create_celery(apps)
    shape = SHAPES["browser"]
    sizes = {}
    for way in ("bare", "article", "ours", "encrypted"):
        task = app.tasks[way]
        canvas = celery.chain(*[task.si() for _ in range(steps)])
        flask_app = apps.encrypted if way == "encrypted" else apps.signed
        with visit(flask_app, shape, environ_of(flask_app, shape)):
            if way in ("ours", "encrypted"):
                message = message_of(app, lambda c=canvas: delay_with_context(c))
            else:
                message = message_of(app, canvas.delay)
        sizes[way] = len(message.body) + len(json.dumps(message.headers))
    return sizes


def import_time(statements: str) -> float:
    """Seconds, in a fresh process and with compiled files."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", IMPORTS.format(statements)]
    output = subprocess.run(command, check=True, env=environ, capture_output=True)
    return float(output.stdout)
