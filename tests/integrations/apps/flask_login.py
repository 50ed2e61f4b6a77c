"""An app with Flask-Login."""

from __future__ import annotations

import typing as t

import flask
import flask_login
from celery import Celery

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def who() -> t.Any:
    user = flask_login.current_user
    return [user.get_id(), user.is_anonymous]


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("login")
    app.config.update(config, SECRET_KEY="login")
    flask_login.LoginManager(app).user_loader(User)

    @app.post("/login/<name>")
    def login(name: str) -> t.Any:
        flask_login.login_user(User(name), remember="remember" in flask.request.form)
        return ask()

    @app.get("/")
    def ask() -> t.Any:
        task = app.extensions["celery"].tasks["who"]
        return {"view": who(), "task": delay_with_context(task).get(timeout=30)}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = Celery("login", set_as_current=False)
    celery.conf.update(conf)
    celery.task(with_request_context(who), name="who", shared=False)
    return celery
