"""The blog of the Flask tutorial, and a worker that writes its authors mails."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from flask import Flask

import flask_task_context

from . import auth
from . import blog
from . import db


def create_app(test_config: Mapping[str, Any] | None = None) -> Flask:
    # The database and the queue are in instance/, or in INSTANCE_PATH.
    app = Flask(__name__, instance_path=os.environ.get("INSTANCE_PATH"))
    folder = Path(app.instance_path)
    folder.mkdir(parents=True, exist_ok=True)
    app.config.from_mapping(
        SECRET_KEY="dev",  # one key for the web server and the worker
        DATABASE=folder / "blog.sqlite",
        CELERY={
            "broker_url": f"sqla+sqlite:///{folder}/blog-queue.sqlite",
            "task_default_queue": "blog",
            "task_ignore_result": True,
        },
    )
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY, ...
    app.config.from_mapping(test_config)

    celery_init_app(app)
    flask_task_context.init_app(app)
    db.init_app(app)
    app.register_blueprint(auth.bp)
    app.register_blueprint(blog.bp)
    return app


def celery_init_app(app: Flask) -> Celery:
    """A plain Celery app. Celery itself reads CELERY_BROKER_URL, which wins."""
    celery_app = Celery(app.name)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
