"""The tasks and views of the apps that are traced. ``FIRST`` in their config says that
the tool starts before this library is imported."""

from __future__ import annotations

import json
import os
import typing as t
from contextvars import ContextVar

import flask
from celery import Celery
from celery.result import AsyncResult

CONFIG = json.loads(os.environ["SHOP_SETTINGS"])["flask"]
HEADERS: ContextVar[dict[str, str]] = ContextVar("headers")


def keep_headers(sender: flask.Flask, **signal: t.Any) -> None:
    """As loggers keep what they add to each line."""
    HEADERS.set(dict(flask.request.headers))


def create_app(trace: t.Callable[[], str]) -> flask.Flask:
    from flask_task_context import apply_async_with_context
    from flask_task_context import context_restored

    context_restored.connect(keep_headers)
    app = flask.Flask("traced")
    app.config.update(CONFIG, SECRET_KEY="traced")

    @app.post("/<name>")
    def ask(name: str) -> t.Any:
        flask.session["cart"] = "canary-session"
        celery = app.extensions["celery"]
        sent = apply_async_with_context(celery.tasks[name], headers={"mine": "1"})
        seen = sent.get(timeout=30, propagate=False)
        if name == "parent":
            seen["child"] = AsyncResult(seen["child"], app=celery).get(timeout=30)
        return {"trace": trace(), "task": str(seen) if name == "fail" else seen}

    @app.get("/alone")
    def alone() -> t.Any:
        task = app.extensions["celery"].tasks["alone"]
        return {"trace": trace(), "task": task.delay().get(timeout=30)}

    return app


def create_celery(
    flask_app: flask.Flask, trace: t.Callable[[], str], conf: dict[str, t.Any]
) -> Celery:
    from flask_task_context import with_request_context

    celery = Celery("traced", set_as_current=False)
    celery.conf.update(conf)

    def see(task: t.Any) -> dict[str, t.Any]:
        mine = task.request.get("mine")
        return {"trace": trace(), "url": flask.request.url, "mine": mine}

    @celery.task(name="retried", shared=False, bind=True)
    @with_request_context
    def retried(self: t.Any) -> t.Any:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return see(self)

    # A tool can have put a class of its own in the place of ``flask.Flask``.
    @with_request_context(app=flask_app)
    @celery.task(name="parent", shared=False, bind=True)
    def parent(self: t.Any) -> t.Any:
        return {**see(self), "child": retried.delay().id}

    @celery.task(name="alone", shared=False)
    @with_request_context
    def alone() -> str:
        return trace()

    @celery.task(name="fail", shared=False)
    @with_request_context
    def fail() -> None:
        raise LookupError(f"no pears in {flask.request.host}")

    return celery
