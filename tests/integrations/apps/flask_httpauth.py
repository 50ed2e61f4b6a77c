"""An app with Flask-HTTPAuth."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask_httpauth import HTTPBasicAuth

from flask_task_context import capture_context
from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

auth = HTTPBasicAuth()


@auth.verify_password  # type: ignore[untyped-decorator]
def verify(name: str, password: str) -> str | None:
    return name if password == "pears" else None


def who() -> t.Any:
    return [auth.current_user(), "Authorization" in flask.request.headers]


@auth.login_required  # type: ignore[untyped-decorator]
def verified_again() -> t.Any:
    return auth.current_user()


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("httpauth")
    app.config.update(config, SECRET_KEY="httpauth")

    @app.get("/")
    @auth.login_required  # type: ignore[untyped-decorator]
    def ask() -> t.Any:
        again = in_task("verified_again")
        [header] = capture_context().values()
        return {**both(who), "again": again, "header": header}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(who, verified_again, conf=conf)
