"""What type checkers see where ``celery-types`` is not installed.

Celery has no types of its own. mypy takes all of it for ``Any``; pyright reads its
source, and takes most tasks for the functions that they are made from.
"""

# pyright: standard, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any

from celery import Celery  # type: ignore[import-untyped]
from celery import Task
from celery import chain
from celery import shared_task
from flask import Flask
from flask import url_for
from typing_extensions import assert_type

from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context

app = Flask(__name__)
celery = Celery(__name__, broker="redis://localhost")
init_app(app)


@with_request_context
def plain(name: str, times: int = 1) -> str:
    return name * times


@with_request_context(app="shop:create_app", before_request=True)
def with_options(name: str) -> int:
    return len(name)


assert_type(plain("anna", times=2), str)
assert_type(with_options("anna"), int)
plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
with_options(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@celery.task  # type: ignore[untyped-decorator]
@with_request_context
def below(name: str, times: int = 1) -> str:
    return name * times


@shared_task(bind=True)  # type: ignore[untyped-decorator]
@with_request_context
def bound(self: Task, name: str) -> int:
    return len(name)


# The decorator adds no error of its own above an untyped one.
@with_request_context
@celery.task  # type: ignore[untyped-decorator]
def above(name: str) -> str:
    return name


@with_request_context
class OfAClass(Task):  # type: ignore[misc]
    def run(self, name: str) -> int:
        return len(name)


anything: Any = below


def view() -> str:
    delay_with_context(anything, "anna", times=2).get(timeout=10)
    delay_with_context(anything.s("anna") | anything.s(), 1)
    delay_with_context(chain(anything.s("anna"), anything.s()))
    apply_async_with_context(anything, ("anna",), {"times": 2}, countdown=1)
    celery.send_task("shop.below", ("anna",), headers=capture_context())
    with restore_context(capture_context()):
        return url_for("index")


# pyright sees no ``delay`` here, as it sees none in ``below.delay("anna")``.
delay_with_context(below, "anna")  # pyright: ignore[reportArgumentType, reportCallIssue]
below.delay("anna")  # pyright: ignore[reportFunctionMemberAccess]
