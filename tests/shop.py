"""The Flask app, the Celery app and the tasks that the tests send."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask import g
from flask import request
from flask import session
from flask import url_for

import flask_task_context
from flask_task_context import with_request_context

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(**config: t.Any) -> flask.Flask:
    """A shop whose one view does what the test tells it to."""
    app = flask.Flask("shop")
    app.config.update(
        {"SECRET_KEY": "shop key", "TASK_CONTEXT_G": ["tenant"], **config}
    )

    @app.route("/item/<int:number>", methods=METHODS, provide_automatic_options=False)
    def item(number: int) -> t.Any:
        return app.extensions["view"]()

    @app.get("/")
    def index() -> str:
        return "shop"

    return app


def see() -> dict[str, t.Any]:
    """What a visitor's request looks like from here."""
    return {
        "url": request.url,
        "method": request.method,
        "endpoint": request.endpoint,
        "view_args": request.view_args,
        "args": request.args.to_dict(flat=False),
        "form": request.form.to_dict(flat=False),
        "language": request.accept_languages.best_match(["en", "de", "fr"]),
        "remote_addr": request.remote_addr,
        "session": dict(session),
        "tenant": g.get("tenant"),
        "link": url_for("item", number=7, _external=True),
    }


def where() -> str:
    """Which kind of context this code runs in."""
    if flask.has_request_context():
        return request.url
    return "app context" if flask.has_app_context() else "no context"


def where_of(failed: t.Any, error: t.Any, traceback: t.Any) -> str:
    """An errback of three arguments."""
    return where()


def fail(message: str) -> None:
    raise ValueError(message)


def add(x: int, y: int = 0) -> int:
    return x + y


def send(task: t.Any, name: str) -> str:
    """Send another task, with no word of a context."""
    return str(task.app.tasks[name].delay().id)


def retry(task: t.Any, times: int) -> list[t.Any]:
    if task.request.retries < times:
        raise task.retry(countdown=0, max_retries=times)
    return [task.request.retries, request.url, task.request.headers]


def create_celery(**conf: t.Any) -> Celery:
    """A plain Celery app with the shop's tasks; ``plain.*`` are not decorated."""
    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    for function in (see, where, where_of, fail, add):
        app.task(
            with_request_context(function),
            name=f"shop.{function.__name__}",
            shared=False,
        )
        with_request_context(
            app.task(function, name=f"above.{function.__name__}", shared=False)
        )
        app.task(function, name=f"plain.{function.__name__}", shared=False)
    for bound in (send, retry):
        app.task(
            with_request_context(bound),
            name=f"shop.{bound.__name__}",
            bind=True,
            shared=False,
        )
        app.task(bound, name=f"plain.{bound.__name__}", bind=True, shared=False)
    return app


def start_worker_process() -> Celery:
    """What ``celery -A`` loads; the test's settings are in the environment."""
    import json
    import os

    settings = json.loads(os.environ["SHOP_SETTINGS"])
    flask_task_context.init_app(create_app(**settings["flask"]))
    return create_celery(**settings["celery"])
