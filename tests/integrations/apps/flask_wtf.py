"""An app with Flask-WTF, whose form is rendered in a task."""

from __future__ import annotations

import typing as t

import flask
import flask_wtf
from celery import Celery
from flask_wtf.csrf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from wtforms import StringField

from tests.integrations.apps import all_three
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

PAGE = (
    '<form method="post" action="{{ url_for("save") }}">'
    "{{ form.csrf_token }}{{ form.name }}</form>"
    '<meta name="csrf-token" content="{{ csrf_token() }}">'
)


class NameForm(flask_wtf.FlaskForm):  # type: ignore[misc]
    name = StringField()


def page() -> str:
    return flask.render_template_string(PAGE, form=NameForm())


def validate() -> t.Any:
    form = NameForm()
    return [form.validate_on_submit(), form.name.data, form.errors]


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("wtf")
    app.config.update(config, SECRET_KEY="wtf")
    CSRFProtect(app)

    @app.get("/form")
    def show() -> t.Any:
        generate_csrf()  # puts the visitor's token into the session
        return in_task("page")

    @app.get("/form-without-token")
    def show_without_token() -> t.Any:
        return in_task("page")

    @app.post("/save")
    def save() -> t.Any:
        return all_three(validate)

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(page, validate, conf=conf)
