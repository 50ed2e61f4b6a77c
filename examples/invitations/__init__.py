"""A small Flask application whose mails are written by a Celery worker."""

from __future__ import annotations

from celery import Celery
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import flask_task_context

from . import views


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="dev",  # one key for the web server and the worker
        CELERY={},
        MAIL_SERVER="localhost",
        MAIL_PORT=25,
        MAIL_FOLDER=None,  # a Maildir whose messages the page shows
    )
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_MAIL_PORT, ...
    app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
        app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1
    )
    celery_init_app(app)
    flask_task_context.init_app(app)
    app.register_blueprint(views.bp)
    return app


def celery_init_app(app: Flask) -> Celery:
    """Make the Celery app as Flask's documentation does, less the Task subclass.

    Celery itself reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
    """
    celery_app = Celery(app.name)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
