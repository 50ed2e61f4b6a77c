"""An app with packages that work on each response: Flask-Talisman, Flask-CORS,
Flask-Compress and Flask-DebugToolbar."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask_compress import Compress
from flask_cors import CORS
from flask_debugtoolbar import DebugToolbarExtension
from flask_talisman import Talisman
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.integrations.apps import all_three
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

AFTER: list[str] = []  # What the last task's hooks have put on its response.


def link() -> str:
    return flask.url_for("ask", _external=True)


def hooks() -> list[str]:
    return AFTER


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("headers")
    app.config.update(
        config, SECRET_KEY="headers", COMPRESS_MIN_SIZE=0, DEBUG_TB_ENABLED=True
    )
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]

    @app.after_request
    def note(response: flask.Response) -> flask.Response:
        AFTER[:] = [response.status, *sorted(dict(response.headers))]
        return response

    Talisman(app)
    CORS(app)
    Compress(app)
    DebugToolbarExtension(app)

    @app.get("/")
    def ask() -> t.Any:
        return all_three(link)

    @app.get("/hooks")
    def ask_hooks() -> t.Any:
        return in_task("hooks")

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(link, hooks, conf=conf)
