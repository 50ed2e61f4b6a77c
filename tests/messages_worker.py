"""A worker that lacks what the test names, and one that lacks nothing."""

import os
import sys

if os.environ["LACKS"] == "cryptography":
    sys.modules["cryptography"] = None  # type: ignore[assignment]

import json

import flask
from celery import current_task

from flask_task_context import init_app
from flask_task_context import with_request_context
from tests import shop


def create_flask_app() -> flask.Flask:
    made_anew = os.environ["LACKS"] == "a key of every process"
    flask_app = shop.create_app(
        SECRET_KEY=os.urandom(24) if made_anew else "shop key",
    )

    @flask_app.before_request
    def close() -> str | None:
        return "closed today" if current_task else None

    return flask_app


if os.environ["LACKS"] != "an app":
    init_app(create_flask_app())
app = shop.create_celery(**json.loads(os.environ["SHOP_SETTINGS"])["celery"])
app.task(with_request_context(before_request=True)(shop.where), name="shop.visit")
