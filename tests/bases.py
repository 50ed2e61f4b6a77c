"""A shop whose tasks have base classes of their own, and handlers."""

from __future__ import annotations

import json
import os
import signal
import time
import typing as t

import celery
import flask
from celery import Celery
from celery import Task
from celery.signals import task_failure
from flask import g
from pydantic import BaseModel

import flask_task_context
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests.meetings import note

# -- base classes -------------------------------------------------------------------


def where() -> str | None:
    return flask.request.url if flask.has_request_context() else None


def queued(base: Task, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """What a task has queued is sent when it has succeeded, by its base class."""
    outer = g.get("mails")
    g.mails = []
    result = super(type(base).queued_by, base).__call__(*args, **kwargs)
    sent, g.mails = g.mails, outer
    return [where(), sent, result]


@with_request_context
class Bare(Task):  # type: ignore[misc]
    """Without a ``__call__``."""


@with_request_context
class Queues(Task):  # type: ignore[misc]
    __call__ = queued


class QueuesByCall(Task):  # type: ignore[misc]
    __call__ = with_request_context(queued)


class Inherits(Queues):
    """Does more around the ``__call__`` that is decorated."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return super().__call__(*args, **kwargs)


class Opens(Task):  # type: ignore[misc]
    """Opens a request of its own, as Flask-CeleryExt's ``RequestContextTask`` does."""

    flask_app: flask.Flask

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.flask_app.test_request_context("/", "http://base.example/"):
            return super().__call__(*args, **kwargs)


Queues.queued_by = Queues
QueuesByCall.queued_by = QueuesByCall
BASES = {"by task_cls": None} | {
    base.__name__: base for base in (Bare, Queues, QueuesByCall, Inherits)
}


class Order(BaseModel):
    mail: str


def order(self: Task, mail: str, again: bool = True) -> int:
    """Queues a mail, and calls itself."""
    g.mails = [*(g.get("mails") or ()), mail]
    if again:
        self(mail, again=False)
    return len(g.mails)


def order_at_last(self: Task, mail: str) -> int:
    """Queues a mail, and fails at first."""
    g.mails = [*(g.get("mails") or ()), mail]
    if not self.request.retries:
        raise ConnectionError("so that it is retried")
    return len(g.mails)


def order_checked(order: Order) -> str:
    g.mails = [*(g.get("mails") or ()), order.mail]
    return type(order).__name__


# Celery before 5.7 does not read a string.
order_checked.__annotations__["order"] = Order


# -- handlers -----------------------------------------------------------------------


def noted(handler: str, task: Task, task_id: str) -> None:
    with restore_context(task.request.headers or {"id": task_id}):
        note(task.name, handler, where())


class Handled(Task):  # type: ignore[misc]
    """Each handler notes the request that it has restored."""

    def before_start(self, task_id: str, *args: t.Any) -> None:
        noted("before_start", self, task_id)

    def on_success(self, retval: t.Any, task_id: str, *args: t.Any) -> None:
        noted("on_success", self, task_id)

    def on_retry(self, exc: t.Any, task_id: str, *args: t.Any) -> None:
        noted("on_retry", self, task_id)

    def on_failure(self, exc: t.Any, task_id: str, *args: t.Any) -> None:
        noted("on_failure", self, task_id)

    def after_return(
        self, status: str, retval: t.Any, task_id: str, *args: t.Any
    ) -> None:
        noted("after_return", self, task_id)


def succeeds() -> None: ...


def fails() -> None:
    raise LookupError("no such item")


def retries(self: Task) -> None:
    if not self.request.retries:
        raise self.retry(countdown=0)


def sleeps() -> None:
    time.sleep(60)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_task_failure(sender: Task, task_id: str, **signal: t.Any) -> None:
    if isinstance(sender, Handled):
        noted("task_failure", sender, task_id)


# -- the worker ---------------------------------------------------------------------


def create_app() -> flask.Flask:
    app = flask.Flask("bases")
    app.secret_key = "key"

    @app.teardown_request
    def torn(error: BaseException | None) -> None:
        if "mails" in g and "NOTES" in os.environ:
            note(celery.current_task.name, "torn", type(error).__name__)

    return app


def create_celery(**conf: t.Any) -> Celery:
    app = Celery("bases", set_as_current=False, task_cls=Queues)
    app.conf.update(conf)
    for (name, base), body in [(b, d) for b in BASES.items() for d in (False, True)]:
        decorate = with_request_context if body else lambda function: function
        made: dict[str, t.Any] = {"shared": False}
        if base is not None:
            made["base"] = base
        name = f"{name}, body decorated" if body else name
        app.task(decorate(order), bind=True, name=name, **made)
        app.task(
            decorate(order_at_last),
            bind=True,
            name=f"{name}, retried",
            autoretry_for=(ConnectionError,),
            default_retry_delay=0,
            **made,
        )
        if celery.VERSION >= (5, 5):
            made["pydantic"] = True
        app.task(decorate(order_checked), name=f"{name}, pydantic", **made)
    app.task(with_request_context(where), name="where", base=Opens, shared=False)
    for function in (succeeds, fails, dies):
        app.task(function, name=function.__name__, base=Handled, shared=False)
    app.task(succeeds, name="without a request", base=Handled, shared=False)
    app.task(retries, bind=True, name="retries", base=Handled, shared=False)
    for limit in ("soft_time_limit", "time_limit"):
        options = {"base": Handled, "shared": False, limit: 1}
        app.task(sleeps, name=limit, **options)
    return app


def start_worker_process() -> Celery:
    Opens.flask_app = create_app()
    flask_task_context.init_app(Opens.flask_app)
    task_failure.connect(on_task_failure)
    return create_celery(**json.loads(os.environ["SHOP_SETTINGS"])["celery"])
