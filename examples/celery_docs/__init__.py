"""The Celery pattern of Flask's documentation, whose task knows the visitor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery import Task
from flask import Flask

import flask_task_context

from . import views


def create_app() -> Flask:
    # The queue and the results are in instance/, or in INSTANCE_PATH.
    app = Flask(__name__, instance_path=os.environ.get("INSTANCE_PATH"))
    folder = Path(app.instance_path)
    folder.mkdir(parents=True, exist_ok=True)
    app.config.from_mapping(
        SECRET_KEY="dev",  # one key for the web server and the worker
        CELERY={
            "broker_url": f"sqla+sqlite:///{folder}/celery-docs-queue.sqlite",
            "result_backend": f"db+sqlite:///{folder}/celery-docs-results.sqlite",
            "task_default_queue": "celery-docs",
            "task_ignore_result": True,
        },
    )
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY, ...
    celery_init_app(app)
    flask_task_context.init_app(app)
    app.register_blueprint(views.bp)
    return app


def celery_init_app(app: Flask) -> Celery:
    """Nothing in here is changed. Every task has an app context, from its class."""

    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
