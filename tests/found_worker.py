"""A worker that is told of no Flask app: it has to be found."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import flask
from celery import Celery
from celery import current_app
from celery import shared_task

from flask_task_context import with_request_context
from tests import shop


def create_app() -> flask.Flask:
    with Path(os.environ["LOADS"]).open("a") as file:
        file.write("loaded\n")
    time.sleep(0.3)
    # As many factories do: it is the current Celery app then, and the default one.
    Celery("of the factory", broker="memory://").set_default()
    return shop.create_app()


SOURCES = {
    "FLASK_APP": None,
    "string": "tests.found_worker:create_app",
    "factory": create_app,
}
app = Celery("found")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"])["celery"])
app.conf.accept_content = ["json"]


@shared_task(name="found.nap", max_retries=1)
@with_request_context(app=SOURCES[os.environ["APP_SOURCE"]])
def nap(seconds: float) -> str:
    time.sleep(seconds)
    if not nap.request.retries:
        raise nap.retry(countdown=0)
    return f"{current_app.main} {shop.where()}"
