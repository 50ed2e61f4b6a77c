"""What type checkers see of the public API where ``celery-types`` is installed.

``make types`` runs mypy and pyright over it; nothing imports it. Each checker
reads its own ``ignore`` comments, and fails where the error does not occur.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery import Task
from celery import chain
from celery import chord
from celery import group
from celery import shared_task
from celery import signature
from celery.result import AsyncResult
from flask import Flask
from flask import request
from flask import url_for
from typing_extensions import assert_type

import flask_task_context
from flask_task_context import BadContext
from flask_task_context import CaptureError
from flask_task_context import ContextError
from flask_task_context import LeftOut
from flask_task_context import RequestRefused
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import context_captured
from flask_task_context import context_restored
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context

app = Flask(__name__)
celery = Celery(__name__)


def create_app(config: str = "production") -> Flask:
    return Flask(config)


# -- with_request_context: the decorated keeps its own type ---------------------


@with_request_context
def plain(name: str, times: int = 1) -> str:
    return name * times


assert_type(plain("anna", times=2), str)
plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain("anna", 2, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@with_request_context(app=app, before_request=True, after_request=False)
def with_options(name: str) -> int:
    return len(name)


assert_type(with_options("anna"), int)
with_options(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@shared_task
@with_request_context
def below(name: str, times: int = 1) -> str:
    return name * times


@with_request_context
@shared_task(name="above")
def above(name: str, times: int = 1) -> str:
    return name * times


@shared_task(bind=True, max_retries=3)
@with_request_context(before_request=True)
def bound(self: Task[[str], int], name: str) -> int:
    if not name:
        raise self.retry(countdown=1)
    return len(name)


@celery.task
@with_request_context
def of_an_app(name: str) -> str:
    return name


@with_request_context
class OfAClass(Task[[str], int]):
    def run(self, name: str) -> int:
        return len(name)


class OfAMethod(Task[[str], int]):
    @with_request_context
    def run(self, name: str) -> int:
        return len(name)


of_a_class = celery.register_task(OfAClass())
of_a_method = celery.register_task(OfAMethod())

assert_type(below("anna"), str)
assert_type(above("anna", times=2), str)
assert_type(bound("anna"), int)
assert_type(of_a_class, OfAClass)
assert_type(of_a_class("anna"), int)
assert_type(of_a_method("anna"), int)

with_request_context(app=create_app)
with_request_context(app="shop:create_app")
with_request_context(app=None)
with_request_context(app=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
with_request_context(app=b"shop")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
with_request_context(before=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
with_request_context("shop:create_app")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# -- delay_with_context: the arguments of the task, what ``delay`` returns -------


def delays() -> None:
    assert_type(delay_with_context(below, "anna", times=2), AsyncResult[str])
    assert_type(delay_with_context(below, "anna").get(timeout=10), str)
    assert_type(delay_with_context(above, "anna", 2), AsyncResult[str])
    assert_type(delay_with_context(bound, "anna"), AsyncResult[int])
    assert_type(delay_with_context(of_a_class, "anna"), AsyncResult[int])
    assert_type(delay_with_context(of_a_method, "anna"), AsyncResult[int])
    # celery-types 0.24 to 0.26 lose an app's task's types: it may be any result.
    delay_with_context(of_an_app, "anna").get(timeout=10).upper()

    delay_with_context(below)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    delay_with_context(below, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    delay_with_context(below, "anna", times="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    delay_with_context(below, "anna", countdown=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    delay_with_context(above, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    delay_with_context(bound, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    delay_with_context(of_a_class, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    delay_with_context(plain, "anna")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    delay_with_context(below("anna"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    delay_with_context(task=below)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# -- apply_async_with_context ----------------------------------------------------


def applies() -> None:
    assert_type(apply_async_with_context(below), AsyncResult[str])
    assert_type(apply_async_with_context(below, ("anna",)), AsyncResult[str])
    assert_type(
        apply_async_with_context(below, ("anna",), {"times": 2}, countdown=1),
        AsyncResult[str],
    )
    assert_type(
        apply_async_with_context(
            above,
            kwargs={"name": "anna"},
            queue="mail",
            headers={"mine": "1"},
            link=below.s(),
            time_limit=60,
        ),
        AsyncResult[str],
    )
    assert_type(apply_async_with_context(of_a_class, ("anna",)).get(), int)
    apply_async_with_context(of_an_app, ("anna",), countdown=1.5)

    apply_async_with_context(below, "anna")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    apply_async_with_context(below, ["anna"], headers=None)
    apply_async_with_context(plain, ("anna",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- signatures and canvases -----------------------------------------------------


def canvases() -> None:
    assert_type(delay_with_context(below.s("anna")), AsyncResult[str])
    assert_type(delay_with_context(below.si("anna"), times=2), AsyncResult[str])
    assert_type(delay_with_context(signature("shop.below")), AsyncResult[Any])
    assert_type(delay_with_context(below.s("anna") | above.s()), AsyncResult[Any])
    assert_type(delay_with_context(chain(below.s("anna"))), AsyncResult[Any])
    assert_type(delay_with_context(group(below.s("a"), above.s("b"))), AsyncResult[Any])
    assert_type(delay_with_context(chord([below.s("a")], above.s())), AsyncResult[Any])
    assert_type(delay_with_context(below.map(["a", "b"])), AsyncResult[Any])
    assert_type(delay_with_context(below.chunks([("a",)], 10)), AsyncResult[Any])

    signed = below.s("anna")
    assert_type(apply_async_with_context(signed, countdown=1), AsyncResult[str])
    steps = chain(below.s("anna"), above.s())
    assert_type(apply_async_with_context(steps, queue="mail"), AsyncResult[Any])
    names = group(below.s("a"), above.s("b"))
    assert_type(apply_async_with_context(names, countdown=1), AsyncResult[Any])
    mail = chord([below.s("a")], above.s())
    assert_type(apply_async_with_context(mail, countdown=1), AsyncResult[Any])

    apply_async_with_context(signed, "anna")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- capture, restore, signals, errors ---------------------------------------------


def captures() -> AsyncResult[str]:
    assert_type(capture_context(), dict[str, str])
    celery.send_task("shop.below", ("anna",), headers=capture_context())
    return below.apply_async(("anna",), headers=capture_context())


def restores(headers: dict[str, Any] | None) -> str:
    with restore_context(headers) as nothing:
        assert_type(nothing, None)
    with restore_context({}, app):
        pass
    with restore_context({}, "shop:create_app"):
        pass
    # An exception goes through, so what follows the block is not reached.
    with restore_context(capture_context(), app=create_app):
        return url_for("index", language=request.accept_languages.best)


restore_context("shop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
restore_context({}, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(init_app(app), None)
init_app("shop:app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
init_app(celery)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@context_captured.connect
def send_trace(app: Flask, entries: dict[str, Any]) -> None:
    entries["trace"] = app.name


@context_restored.connect
def continue_trace(app: Flask, entries: dict[str, Any]) -> None:
    print(app.name, entries["trace"])


assert_type(send_trace(app, {}), None)

errors: list[type[ContextError]] = [BadContext, CaptureError, LeftOut, RequestRefused]
assert_type(flask_task_context.__version__, str)
decorate: Callable[[Callable[[], int]], Callable[[], int]] = with_request_context()
