"""A worker whose release has something wrong: the wrong key, or no app.

``SHOP_SETTINGS`` says what, and how its tasks answer to it.
"""

from __future__ import annotations

import json
import os
import typing as t

import flask
import kombu
from celery import Celery
from celery import Task
from flask import request

import flask_task_context
from flask_task_context import ContextError
from flask_task_context import with_request_context


class Requeued(Task):
    """Gives a message that it cannot run back to the broker (with ``acks_late``)."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        from celery.exceptions import Reject

        try:
            return super().__call__(*args, **kwargs)
        except ContextError as error:
            raise Reject(error, requeue=True) from error


def work() -> str:
    return request.url


def alive() -> str:
    return "alive"


#: How a task can answer to a context that the worker cannot take.
WAYS: dict[str, dict[str, t.Any]] = {
    "fails": {},
    "late": {"acks_late": True, "reject_on_worker_lost": True},
    "kept": {"acks_late": True, "acks_on_failure_or_timeout": False},
    "requeued": {"acks_late": True, "base": Requeued},
    "retried": {
        "autoretry_for": (ContextError,),
        "retry_backoff": False,
        "default_retry_delay": 1,
        "max_retries": 60,
    },
    # An app that cannot be loaded is a RuntimeError, or what its module raises.
    "retried always": {
        "autoretry_for": (Exception,),
        "default_retry_delay": 1,
        "max_retries": 60,
    },
}


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("troubled")
    app.config.update({"SECRET_KEY": "right key", **config})

    @app.get("/<name>")
    def index(name: str) -> str:
        return name

    return app


def create_broken_app() -> flask.Flask:
    """What an app does whose settings are missing."""
    raise LookupError("no DATABASE_URL")


def create_celery(app_option: str | None = None, **conf: t.Any) -> Celery:
    celery = Celery("troubled", set_as_current=False)
    dead_letters = conf.pop("dead_letters", None)
    celery.conf.update(conf)
    if dead_letters:
        name = conf["task_default_queue"]
        arguments = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters,
        }
        exchange = kombu.Exchange(name, "direct")
        queue = kombu.Queue(name, exchange, name, queue_arguments=arguments)
        celery.conf.task_queues = [queue]
    for way, options in WAYS.items():
        body = with_request_context(app=app_option)(work)
        celery.task(body, name=way, shared=False, **options)
    celery.task(alive, name="alive", shared=False)
    return celery


def start() -> Celery:
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    config = settings["flask"]
    # The release to come, which reads the format that this one does not.
    flask_task_context._FORMAT = config.pop("FORMAT", "1")
    app_option = config.pop("APP", None)
    if app_option is None:
        flask_task_context.init_app(create_app(**config))
    return create_celery(app_option, **settings["celery"])


if "SHOP_SETTINGS" in os.environ:
    app = start()
