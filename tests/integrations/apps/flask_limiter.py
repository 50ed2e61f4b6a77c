"""An app with Flask-Limiter, whose views send tasks."""

from __future__ import annotations

import typing as t

import flask
import flask_limiter
from celery import Celery
from flask_limiter.util import get_remote_address

from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task
from tests.integrations.recipes import recipe_module


def work() -> str:
    return "done"


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("limiter")
    app.config.update(config, SECRET_KEY="limiter", RATELIMIT_HEADERS_ENABLED=True)
    limiter = flask_limiter.Limiter(get_remote_address, app=app)
    if app.config.get("TASKS_ARE_FREE"):
        recipe_module("in_a_task", "packages", limiter=limiter)

    @app.get("/default/<task>")
    def limited_by_default(task: str) -> t.Any:
        return [in_task(task), in_task(task)]

    @app.get("/decorated/<task>")
    @limiter.limit("5 per hour")
    def limited_by_decorator(task: str) -> t.Any:
        return [in_task(task), in_task(task)]

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(work, conf=conf)
