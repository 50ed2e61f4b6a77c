"""A Flask app that breaks off at any point of a task, and the tasks to see what is left."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from pathlib import Path

import flask
from celery import Celery
from celery import current_task
from flask import g
from flask import request

import flask_task_context
from flask_task_context import capture_context
from flask_task_context import context_restored
from flask_task_context import with_request_context

#: Where a task can be broken off, in the order in which they come.
POINTS = (
    "restored",
    "preprocessor",
    "before",
    "body",
    "after this",
    "after",
    "teardown request",
    "teardown app",
)


def recurse() -> None:
    recurse()


def reach_soft_time_limit() -> None:
    """As the main process tells it, with no time that a busy machine may miss."""
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(60)


def strike(point: str) -> None:
    """Break off here, if the task's request says so."""
    struck = point in g.get("points", ()) and current_task
    kind = g.kind if struck else None
    if kind == "recursion":
        recurse()
    elif kind == "soft time limit":
        reach_soft_time_limit()
    elif kind is not None:
        raise {
            "ValueError": ValueError,
            "ConnectionError": ConnectionError,
            "SystemExit": SystemExit,
            "KeyboardInterrupt": KeyboardInterrupt,
            "GeneratorExit": GeneratorExit,
        }[kind](point)


def restored(sender: flask.Flask, **signal: t.Any) -> None:
    g.points, g.kind = [request.headers["X-Point"]], request.headers["X-Kind"]
    strike("restored")


def create_app() -> flask.Flask:
    app = flask.Flask("interrupts")
    app.config["SECRET_KEY"] = "interrupted key"

    @app.get("/<name>")
    def index(name: str) -> str:
        return name

    @app.url_value_preprocessor
    def preprocess(endpoint: t.Any, values: t.Any) -> None:
        strike("preprocessor")

    @app.before_request
    def before() -> None:
        strike("before")

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        strike("after")
        return response

    @app.teardown_request
    def teardown_request(error: BaseException | None) -> None:
        if current_task and (notes := os.environ.get("INTERRUPTS_NOTES")):
            with Path(notes).open("a") as file:
                file.write(f"{request.path} {type(error).__name__}\n")
        strike("teardown request")

    @app.teardown_appcontext
    def teardown_app(error: BaseException | None) -> None:
        strike("teardown app")

    context_restored.connect(restored, app)
    return app


def capture(
    app: flask.Flask, name: str, point: str = "", kind: str = ""
) -> dict[str, str]:
    """A visitor's request, whose task is to be broken off at a point."""
    headers = {"X-Point": point, "X-Kind": kind}
    with app.test_request_context(f"/{name}", headers=headers):
        return capture_context()


def left() -> list[str]:
    """What stands in this thread's contexts: nothing, outside of a task's request."""
    return [
        name
        for name, there in {
            "app context": flask.has_app_context(),
            "request context": flask.has_request_context(),
            "what is carried": flask_task_context._carried.get(),
        }.items()
        if there
    ]


def work() -> str:
    @flask.after_this_request
    def after_this(response: flask.Response) -> flask.Response:
        strike("after this")
        return response

    strike("body")
    return request.path


def torn(points: list[str], kind: str) -> int:
    """Break off there at the first try, in a request or in an app context alone."""
    retries = int(current_task.request.retries)
    g.points, g.kind = points if retries == 0 else [], kind
    return retries


def create_celery(**conf: t.Any) -> Celery:
    app = Celery("interrupts", set_as_current=False)
    app.conf.update(conf)
    decorated = with_request_context(before_request=True)(work)
    app.task(decorated, name="work", shared=False)
    app.task(left, name="left", shared=False)
    app.task(
        with_request_context(torn),
        name="torn",
        autoretry_for=(ConnectionError,),
        retry_kwargs={"countdown": 0},
        shared=False,
    )
    return app
