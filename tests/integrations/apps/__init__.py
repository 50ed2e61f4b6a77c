"""What the apps have in common: their Celery app, and how a view asks a task."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


def celery_with(*functions: t.Callable[..., t.Any], conf: dict[str, t.Any]) -> Celery:
    """A Celery app with two tasks for each function: one of its name, and
    ``<name>_after_hooks``, which runs before-request functions first."""
    celery = Celery("integration", set_as_current=False)
    celery.conf.update(conf)
    for function in functions:
        name, hooked = function.__name__, with_request_context(before_request=True)
        celery.task(with_request_context(function), name=name, shared=False)
        celery.task(hooked(function), name=f"{name}_after_hooks", shared=False)
    return celery


def task_named(name: str) -> t.Any:
    return flask.current_app.extensions["celery"].tasks[name]


def in_task(name: str, *args: t.Any) -> t.Any:
    """What the task gives, or the error that it ends with."""
    return outcome(delay_with_context(task_named(name), *args))


def outcome(result: t.Any) -> t.Any:
    value = result.get(timeout=30, propagate=False, interval=0.05)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value


def both(function: t.Callable[[], t.Any]) -> dict[str, t.Any]:
    """What the function gives in the view, and in the task of its name."""
    return {"view": function(), "task": in_task(function.__name__)}


def all_three(function: t.Callable[[], t.Any]) -> dict[str, t.Any]:
    """The same, and in the task that runs before-request functions first."""
    hooked = in_task(f"{function.__name__}_after_hooks")
    return {**both(function), "task after hooks": hooked}
