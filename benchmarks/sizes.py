"""Bytes in the message, and milliseconds of import."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import typing as t

import celery

from benchmarks.brokers import Message
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
    for way in ("article", "ours", "encrypted"):
        growth = (chain_price(apps, way, 20) - chain_price(apps, way, 10)) / 10
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


def chain_price(apps: Apps, way: str, steps: int) -> int:
    """Bytes that the context adds to a chain's first message."""
    app = create_celery(apps)
    canvas = celery.chain(*[app.tasks[way].si() for _ in range(steps)])
    send = canvas.delay
    if way in ("ours", "encrypted"):
        send = functools.partial(delay_with_context, canvas)
    flask_app = apps.encrypted if way == "encrypted" else apps.signed
    shape = SHAPES["browser"]
    without = message_of(app, canvas.delay)
    with visit(flask_app, shape, environ_of(flask_app, shape)):
        message = message_of(app, send)
    return size_of(message) - size_of(without)


def size_of(message: Message) -> int:
    return len(message.body) + len(json.dumps(message.headers))


def import_time(statements: str) -> float:
    """Seconds, in a fresh process and with compiled files."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", IMPORTS.format(statements)]
    output = subprocess.run(command, check=True, env=environ, capture_output=True)
    return float(output.stdout)
