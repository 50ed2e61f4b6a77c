"""An app with Flask-Login."""

from __future__ import annotations

import typing as t

import flask
import flask_login
from celery import Celery

from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def who() -> t.Any:
    user = flask_login.current_user
    return [user.get_id(), user.is_anonymous]


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("login")
    app.config.update(config, SECRET_KEY="login")
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)

    @manager.request_loader
    def load_from_header(request: flask.Request) -> User | None:
        name = request.headers.get("X-Api-Key")
        return User(name) if name else None

    @app.post("/login/<name>")
    def login(name: str) -> t.Any:
        flask_login.login_user(User(name), remember="remember" in flask.request.form)
        return both(who)

    @app.get("/")
    def ask() -> t.Any:
        return both(who)

    @app.get("/sent-first")
    def ask_before_the_user_is_loaded() -> t.Any:
        return {"task": in_task("who"), "view": who()}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(who, conf=conf)
