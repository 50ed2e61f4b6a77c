"""An app with Flask-Babel, whose visitors choose a timezone."""

from __future__ import annotations

import time
import typing as t
from datetime import datetime

import flask
import flask_babel
from celery import Celery

from tests.integrations.apps import all_three
from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task
from tests.integrations.apps import outcome
from tests.integrations.apps import task_named
from tests.integrations.recipes import recipe_module

recipe = recipe_module("select_locale", "packages")
TIMEZONES = {"anna": "Europe/Berlin", "ben": "Asia/Tokyo"}


def greeting() -> t.Any:
    return [
        flask_babel.gettext("Hello, %(name)s!", name="you"),
        flask_babel.format_datetime(datetime(2026, 7, 1, 12, 0), "short"),
        flask_babel.format_decimal(1234.5),
        str(flask_babel.get_timezone()),
    ]


def slow_greeting() -> t.Any:
    before = greeting()
    time.sleep(1)
    return [before, greeting()]


def user_timezone() -> t.Any:
    return str(flask_babel.get_timezone())


def select_timezone() -> str | None:
    if not flask.has_request_context():
        return None
    if user := flask.g.get("user"):
        return TIMEZONES[user]
    return flask.session.get("timezone")


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("babel")
    app.config.update(config, SECRET_KEY="babel")
    flask_babel.Babel(
        app, locale_selector=recipe.select_locale, timezone_selector=select_timezone
    )

    @app.before_request
    def load_user() -> None:
        flask.g.user = flask.session.get("name")

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["name"] = name
        return ""

    @app.post("/timezone")
    def choose_timezone() -> str:
        flask.session["timezone"] = flask.request.form["timezone"]
        return ""

    @app.get("/")
    def ask() -> t.Any:
        return both(greeting)

    @app.get("/slow")
    def ask_slowly() -> t.Any:
        return {"view": greeting(), "task": in_task("slow_greeting")}

    @app.get("/timezone")
    def ask_for_the_timezone() -> t.Any:
        return all_three(user_timezone)

    @app.get("/forced")
    def ask_in_a_forced_locale() -> t.Any:
        with flask_babel.force_locale("de"):
            return both(greeting)

    @app.get("/without-context")
    def ask_without_context() -> t.Any:
        return {"task": outcome(task_named("greeting").delay())}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(greeting, slow_greeting, user_timezone, conf=conf)
