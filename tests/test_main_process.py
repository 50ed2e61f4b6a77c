"""What a worker's main process does itself, when the process of a task was killed.

``test_ways.py`` kills real processes; here a worker in this process holds a message,
and its errbacks are called and sent in the way that Celery's main process does it.
"""

from __future__ import annotations

import threading
import typing as t
import uuid

import pytest
from celery import chord
from celery.app.task import Context
from celery.contrib.testing.worker import start_worker
from flask import request

from flask_task_context import delay_with_context
from flask_task_context import init_app
from tests.conftest import Shop
from tests.test_what_the_task_sees import traced

HERE = "http://localhost/item/3"


def test_an_errback_that_has_only_the_failed_message(plain_shop: Shop) -> None:
    """Called with a request of Celery's and no task around it, it runs in that request."""
    init_app(plain_shop.flask)
    errback = plain_shop.celery.tasks["shop.where_of"]
    failed = Context(id="x", headers=plain_shop.capture())
    assert errback(failed, ValueError("no"), None) == HERE
    assert errback(Context(id="x"), ValueError("no"), None) == "app context"


@pytest.fixture
def held() -> t.Iterator[tuple[Shop, threading.Event, threading.Event]]:
    """A worker in this process, whose task ``hold`` waits until it is let go."""
    held = Shop(
        {
            "broker_url": "memory://",
            "result_backend": "cache+memory://",
            "task_default_queue": uuid.uuid4().hex,
        }
    )
    started, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        let_go.wait(60)

    held.task(hold, name="hold")
    init_app(held.flask)
    with start_worker(held.celery, pool="solo", perform_ping_check=False):
        yield held, started, let_go


@pytest.mark.parametrize("of", ["message", "body", "stranger"])
def test_a_message_in_the_name_of_one_that_the_worker_has(
    held: tuple[Shop, threading.Event, threading.Event], of: str
) -> None:
    """It inherits the request of that message, and of no chord that ends in it."""
    held_shop, started, let_go = held
    where = held_shop.tasks["shop.where"]
    names = {"message": "", "body": uuid.uuid4().hex, "stranger": "stranger"}
    end = where.si().set(task_id=names["body"])

    def view() -> t.Any:
        assert request.url == HERE
        return delay_with_context(chord([held_shop.tasks["hold"].si()], end))

    result = held_shop.visit(view)
    assert started.wait(60)
    names["message"] = result.parent.results[0].id
    child = where.apply_async(parent_id=names[of])
    let_go.set()
    assert child.get(timeout=60) == (HERE if of == "message" else "app context")


def test_a_task_carries_nothing_of_its_parent(
    held: tuple[Shop, threading.Event, threading.Event],
) -> None:
    """A message without a request, in the name of one that the worker has, gets none by
    sending itself again, as a retry does."""
    held_shop, started, let_go = held
    parent = held_shop.visit(lambda: delay_with_context(held_shop.tasks["hold"]))
    assert started.wait(60)

    def again() -> t.Any:
        return held_shop.tasks["shop.where"].apply_async(parent_id=parent.id).id

    held_shop.task(again, name="again")
    child = traced(held_shop, "again", None).retval
    let_go.set()
    result = held_shop.celery.AsyncResult(child)
    assert result.get(timeout=60, disable_sync_subtasks=False) == "app context"
