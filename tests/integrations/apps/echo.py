"""A plain app whose view and task say what they see of the request."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask import request

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


def see() -> dict[str, t.Any]:
    return {
        "url": request.url,
        "name": (request.view_args or {})["name"],
        "query": request.args.getlist("q"),
        "header": request.headers["X-Tag"],
        "form": request.form.to_dict(flat=False),
        "json": request.get_json(silent=True),
        "data": request.get_data(as_text=True),
        "address": request.remote_addr,
    }


def variables() -> list[str]:
    return sorted(request.environ)


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("echo")
    app.config.update(config, SECRET_KEY="echo")

    @app.post("/echo/<name>")
    def echo(name: str) -> t.Any:
        tasks = app.extensions["celery"].tasks
        results = [delay_with_context(tasks[task]) for task in ("see", "variables")]
        task, sent = (result.get(timeout=30) for result in results)
        return {"view": see(), "task": task, "variables": sent}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = Celery("echo", set_as_current=False)
    celery.conf.update(conf)
    for body in (see, variables):
        task = with_request_context(body)
        celery.task(task, name=body.__name__, shared=False)
    return celery
