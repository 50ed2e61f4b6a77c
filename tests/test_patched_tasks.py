"""A user's tests, which put a mock in the place of a task or of its ``delay``."""

from __future__ import annotations

import typing as t
import uuid
from unittest import mock

import pytest
from celery import _state
from celery import shared_task

from flask_task_context import apply_async_with_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from tests.conftest import Shop


@pytest.fixture(params=["below", "above", "shared below", "shared above"])
def task(
    plain_shop: Shop, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> t.Any:
    """A task that Celery has not made yet, as it is where it is imported."""

    def add(a: int, b: int = 0) -> int:
        return a + b

    monkeypatch.setattr(_state._tls, "current_app", plain_shop.celery)
    name, shared = uuid.uuid4().hex, "shared" in request.param
    make = shared_task(name=name) if shared else plain_shop.celery.task(name=name)
    if "above" in request.param:
        return with_request_context(make(add))
    return make(with_request_context(add))


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_delay(plain_shop: Shop, task: t.Any, auto: bool, plain: bool) -> None:
    """``delay_with_context``, and plain ``delay`` with and without ``TASK_CONTEXT_AUTO``,
    call it with the plain arguments, and give what it gives."""

    def view() -> t.Any:
        if plain:
            return task.delay(2, b=3)
        return delay_with_context(task, 2, b=3)

    plain_shop.flask.config["TASK_CONTEXT_AUTO"] = auto
    with mock.patch.object(task, "delay", return_value="sent") as delay:
        assert plain_shop.visit(view) == "sent"
    delay.assert_called_once_with(2, b=3)
    assert not isinstance(task.delay, mock.Mock)


def test_apply_async(plain_shop: Shop, task: t.Any) -> None:
    """Both ways to send call it as they would without a request."""
    with mock.patch.object(task, "apply_async") as apply_async:
        plain_shop.visit(lambda: delay_with_context(task, 2, b=3))
        plain_shop.visit(
            lambda: apply_async_with_context(task, (2,), {"b": 3}, countdown=1)
        )
    assert apply_async.call_args_list == [
        mock.call((2,), {"b": 3}),
        mock.call((2,), {"b": 3}, countdown=1),
    ]


def test_the_task_itself(plain_shop: Shop, task: t.Any) -> None:
    """A mock of the whole task is taken for one."""
    for double in (mock.Mock(), mock.MagicMock(), mock.create_autospec(task)):
        plain_shop.visit(lambda double=double: delay_with_context(double, 2, b=3))
        double.delay.assert_called_once_with(2, b=3)
