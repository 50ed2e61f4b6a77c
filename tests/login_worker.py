"""An app with Flask-Login, and its worker."""

from __future__ import annotations

import json
import os
import typing as t

import flask
import flask_login
from celery import Celery

from flask_task_context import init_app
from flask_task_context import with_request_context


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def who() -> t.Any:
    user = flask_login.current_user
    return [user.get_id(), user.is_anonymous]


def create(
    settings: dict[str, t.Any], config: dict[str, t.Any]
) -> tuple[flask.Flask, Celery]:
    app = flask.Flask("login")
    app.config.update(config, SECRET_KEY="login")
    flask_login.LoginManager(app).user_loader(User)
    init_app(app)
    celery = Celery("login", set_as_current=False)
    celery.conf.update(settings)
    celery.task(with_request_context(who), name="who", shared=False)
    return app, celery


def start() -> Celery:
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    return create(settings["celery"], settings["flask"])[1]


if "SHOP_SETTINGS" in os.environ:  # in the worker's own process
    app = start()
