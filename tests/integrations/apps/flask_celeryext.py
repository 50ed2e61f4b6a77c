"""An app with Flask-CeleryExt; ``BASE`` in its config names the class of its tasks."""

from __future__ import annotations

import typing as t

import flask
import flask_celeryext
from celery import Celery

from tests.integrations.apps import other_tasks


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("project")
    app.config.update(config, SECRET_KEY="project")
    return other_tasks.add_views(app)


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    flask_app.config.update({f"CELERY_{key.upper()}": conf[key] for key in conf})
    base = getattr(flask_celeryext, flask_app.config["BASE"])

    def create(app: flask.Flask) -> Celery:
        celery = flask_celeryext.create_celery_app(app)
        celery.Task = base
        return celery

    return flask_celeryext.FlaskCeleryExt(flask_app, create_celery_app=create).celery
