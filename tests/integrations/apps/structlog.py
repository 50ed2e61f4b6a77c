"""An app with structlog and the documentation's recipe; ``LOG`` in its config is the log."""

from __future__ import annotations

import typing as t
from pathlib import Path

import flask
import structlog
from celery import Celery

from flask_task_context import apply_async_with_context
from flask_task_context import with_request_context
from tests.integrations.recipes import recipe_module

log = structlog.get_logger()
recipe = recipe_module("bind_contextvars(**", "logs")


def pack() -> None:
    log.info("packed", url=flask.request.url if flask.request else None)


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("structlog")
    app.config.update(config, SECRET_KEY="structlog")
    file = Path(config["LOG"]).open("a")  # noqa: SIM115 - for the process's life
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file),
    )

    @app.before_request
    def bind() -> None:
        structlog.contextvars.clear_contextvars()
        visitor = flask.request.headers.get("X-Visitor")
        structlog.contextvars.bind_contextvars(visitor=visitor, items=[1, 2])

    @app.get("/buy")
    def buy() -> str:
        log.info("bought")
        task = app.extensions["celery"].tasks["pack"]
        apply_async_with_context(task.si() | task.si()).get(timeout=30)
        task.delay().get(timeout=30)
        return "bought"

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = Celery("structlog", set_as_current=False)
    celery.conf.update(conf)
    celery.task(with_request_context(pack), name="pack", shared=False)
    return celery
