"""The tasks of a project that has another way to give its tasks a Flask app: as it
left them, and with the request."""

from __future__ import annotations

import typing as t

import flask
from celery import shared_task

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


def see() -> dict[str, t.Any]:
    url = flask.request.url if flask.request else None
    return {"app": flask.current_app.name, "url": url}


@shared_task(ignore_result=False)
def theirs(a: int, b: int) -> t.Any:
    return [a + b, see()]


@shared_task(ignore_result=False)
@with_request_context
def below(a: int, b: int) -> t.Any:
    return [a + b, see()]


@with_request_context
@shared_task(ignore_result=False)
def above(a: int, b: int) -> t.Any:
    return [a + b, see()]


@shared_task(ignore_result=False, bind=True)
@with_request_context
def retried(self: t.Any, a: int, b: int) -> t.Any:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return [a + b, see()]


# Not by their ``__name__``: reading it would make the tasks, before their base is set.
TASKS = {"theirs": theirs, "below": below, "above": above, "retried": retried}


def add_views(app: flask.Flask) -> flask.Flask:
    @app.get("/plain/<name>")
    def plain(name: str) -> t.Any:
        return TASKS[name].delay(1, 2).get(timeout=30)

    @app.get("/ours/<name>")
    def ours(name: str) -> t.Any:
        return delay_with_context(TASKS[name], 1, 2).get(timeout=30)

    return app
