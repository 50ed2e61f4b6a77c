"""An app with the ``celery_init_app`` of Flask's documentation."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from celery import Task

from tests.integrations.apps import other_tasks


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("project")
    app.config.update(config, SECRET_KEY="project")
    return other_tasks.add_views(app)


def celery_init_app(app: flask.Flask) -> Celery:
    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    flask_app.config["CELERY"] = conf
    return celery_init_app(flask_app)
