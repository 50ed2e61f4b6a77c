"""An app with tasks of celery-singleton and of celery-once."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import flask
from celery import Celery
from celery_once import AlreadyQueued
from celery_once import QueueOnce
from celery_singleton import Singleton

from flask_task_context import CaptureError
from flask_task_context import apply_async_with_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from tests.integrations.apps import outcome
from tests.integrations.apps import task_named


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("unique")
    app.config.update(
        config, SECRET_KEY="unique", TASK_CONTEXT_AUTO=True, TASK_CONTEXT_G=["user"]
    )

    @app.post("/<way>/<name>")
    def send(way: str, name: str) -> t.Any:
        task = task_named(name)
        if "unsendable" in flask.request.args:
            flask.g.user = object()
        try:
            if way == "forged":
                forged = {"flask_task_context": "forged"}
                return [apply_async_with_context(task, (3,), headers=forged).id]
            if way == "plain":
                return [task.delay(3).id]
            return [delay_with_context(task, 3).id]
        except (AlreadyQueued, CaptureError) as error:
            return [type(error).__name__]

    @app.get("/result/<name>/<id>")
    def result(name: str, id: str) -> t.Any:  # noqa: A002
        return [outcome(task_named(name).AsyncResult(id))]

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    config = flask_app.config
    celery = Celery("unique", set_as_current=False)
    celery.conf.update(conf, singleton_backend_url=config["REDIS"])
    celery.conf.singleton_key_prefix = config["PREFIX"]
    settings = {"url": config["REDIS"], "default_timeout": 60}
    celery.conf.ONCE = {"backend": "celery_once.backends.Redis", "settings": settings}

    def pack(order: int) -> str:
        while not Path(config["GO"]).exists():
            time.sleep(0.05)
        return flask.request.host

    bases = {"singleton": Singleton, "once": QueueOnce}
    for name, base in bases.items():
        task = celery.task(
            with_request_context(pack),
            name=f"{config['PREFIX']}.{name}",
            base=base,
            shared=False,
            **({"unique_on": ["order"]} if name == "singleton" else {}),
        )
        celery.tasks[name] = celery.tasks[task.name]
    return celery
