"""An app with prometheus-flask-exporter; its metrics are in files in ``METRICS``, which
the site and the worker have together."""

from __future__ import annotations

import json
import os
import typing as t

import flask
from celery import Celery

from flask_task_context import with_request_context
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

CONFIG = json.loads(os.environ["SHOP_SETTINGS"])["flask"]
os.environ["PROMETHEUS_MULTIPROC_DIR"] = CONFIG["METRICS"]

if CONFIG["RECIPE"]:
    from tests.integrations.recipes import recipe_module

    recipe = recipe_module("do_not_track", "packages")


def work() -> str:
    return "done"


def fail() -> None:
    raise LookupError("no pears")


def create_app(**config: t.Any) -> flask.Flask:
    from prometheus_flask_exporter import PrometheusMetrics

    app = flask.Flask("prometheus")
    app.config.update(config, SECRET_KEY="prometheus")
    PrometheusMetrics(app)

    @app.get("/<task>")
    def ask(task: str) -> t.Any:
        return [in_task(task)]

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = celery_with(work, fail, conf=conf)
    hookless = with_request_context(after_request=False)
    celery.task(hookless(work), name="work_without_hooks", shared=False)
    celery.task(hookless(fail), name="fail_without_hooks", shared=False)
    return celery
