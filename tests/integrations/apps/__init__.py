"""What the apps have in common: their Celery app, and how a view asks a task."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


def celery_with(
    *functions: t.Callable[..., t.Any], conf: dict[str, t.Any], **options: t.Any
) -> Celery:
    """A Celery app with these functions as tasks, named as the functions are."""
    celery = Celery("integration", set_as_current=False)
    celery.conf.update(conf)
    for function in functions:
        add_task(celery, function, function.__name__, **options)
    return celery


def add_task(
    celery: Celery, function: t.Callable[..., t.Any], name: str, **options: t.Any
) -> None:
    """``options`` are those of ``with_request_context``."""
    body = with_request_context(**options)(function)
    celery.task(body, name=name, shared=False)


def task_named(name: str) -> t.Any:
    return flask.current_app.extensions["celery"].tasks[name]


def in_task(name: str, *args: t.Any) -> t.Any:
    """What the task gives, or the error that it ends with."""
    return outcome(delay_with_context(task_named(name), *args))


def outcome(result: t.Any) -> t.Any:
    value = result.get(timeout=30, propagate=False)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value


def both(function: t.Callable[[], t.Any]) -> dict[str, t.Any]:
    """What the function gives in the view, and in the task of its name."""
    return {"view": function(), "task": in_task(function.__name__)}
