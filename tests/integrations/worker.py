"""What ``celery -A`` loads in the worker of one integration, and the WSGI server
where that is a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import typing as t

import flask
from celery import Celery


def start(module: t.Any, config: dict[str, t.Any]) -> tuple[flask.Flask, Celery]:
    # After the module, which may have a tool start before this library.
    from flask_task_context import init_app

    flask_app = module.create_app(**config["flask"])
    init_app(flask_app)
    celery_app = module.create_celery(flask_app, **config["celery"])
    flask_app.extensions["celery"] = celery_app
    return flask_app, celery_app


flask_app, app = start(
    importlib.import_module(os.environ["INTEGRATION"]),
    json.loads(os.environ["SHOP_SETTINGS"]),
)
