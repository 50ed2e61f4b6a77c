"""context_captured and context_restored carry what an application adds."""

from __future__ import annotations

import typing as t

import flask
import pytest
from flask import g
from flask import request

from flask_task_context import CaptureError
from flask_task_context import capture_context
from flask_task_context import context_captured
from flask_task_context import context_restored
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from tests.conftest import Shop


class Restored:
    """What context_restored sent, and where."""

    def __init__(self) -> None:
        self.sent: list[t.Any] = []

    def __call__(self, app: flask.Flask, entries: t.Any) -> None:
        self.sent.append((app, entries, request.path, g.get("tenant")))


def test_entries_come_back_inside_the_request(plain_shop: Shop) -> None:
    """What receivers add at capture is sent at restore, with the app as sender, when
    request and g are there."""

    def tenant(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        entries["tenant"] = {"name": "é", "ids": [1, 2.5, None, True]}

    def path(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        entries["path"] = f"{app.name}{request.path}"

    def view() -> t.Any:
        g.tenant = "north"
        return capture_context()

    with (
        context_captured.connected_to(tenant),
        context_captured.connected_to(path, plain_shop.flask),
    ):
        headers = plain_shop.visit(view)
    restored = Restored()
    with (
        context_restored.connected_to(restored),
        restore_context(headers, plain_shop.flask),
    ):
        pass
    entries = {
        "tenant": {"name": "é", "ids": [1, 2.5, None, True]},
        "path": "shop/item/3",
    }
    assert restored.sent == [(plain_shop.flask, entries, "/item/3", "north")]


def test_without_entries_the_receiver_gets_an_empty_dict(plain_shop: Shop) -> None:
    """A context from a process without receivers restores with no entries."""
    headers = plain_shop.capture()
    restored = Restored()
    with (
        context_restored.connected_to(restored, plain_shop.flask),
        restore_context(headers, plain_shop.flask),
    ):
        pass
    assert [entries for _, entries, _, _ in restored.sent] == [{}]


def test_each_task_gets_entries_of_its_own(plain_shop: Shop) -> None:
    """What one receiver does with its entries does not reach the next task."""

    def add(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        entries["list"] = [1]

    with context_captured.connected_to(add):
        headers = plain_shop.capture()
    seen = []

    def change(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        seen.append(len(entries["list"]))
        entries["list"].append(2)

    with context_restored.connected_to(change):
        for _ in range(2):
            with restore_context(headers, plain_shop.flask):
                pass
    assert seen == [1, 1]


def test_receivers_of_another_app_are_not_asked(plain_shop: Shop) -> None:
    """As with Flask's own signals, a receiver can be connected for one app alone."""

    def fail(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        pytest.fail("called")

    other = flask.Flask("other")
    with (
        context_captured.connected_to(fail, other),
        context_restored.connected_to(fail, other),
        restore_context(plain_shop.capture(), plain_shop.flask),
    ):
        pass


def test_no_request_no_signal(plain_shop: Shop) -> None:
    """Neither a capture outside a request nor a message without one sends a signal,
    and a task that runs in the view itself sends none at restore."""

    def fail(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        pytest.fail("called")

    init_app(plain_shop.flask)
    task = plain_shop.tasks["shop.where"]
    with (
        context_captured.connected_to(fail),
        context_restored.connected_to(fail),
    ):
        assert capture_context() == {}
        assert task.apply().get() == "app context"
    with context_restored.connected_to(fail):
        assert plain_shop.visit(lambda: task.apply().get()) == (
            "http://localhost/item/3"
        )


def test_a_large_entry_is_named(plain_shop: Shop) -> None:
    """Entries count for TASK_CONTEXT_MAX_SIZE, and the error names the large one."""

    def add(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        entries["span"] = "x" * 70_000

    def view() -> None:
        with pytest.raises(
            CaptureError, match=r"The largest parts: signal entry 'span' \(70011\), "
        ):
            delay_with_context(plain_shop.tasks["shop.where"])

    with context_captured.connected_to(add):
        plain_shop.visit(view)


def test_an_error_in_a_receiver_is_the_views_and_the_tasks(plain_shop: Shop) -> None:
    """It is never swallowed: the view fails before it sends, the task before its body."""

    def fail(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        raise LookupError("no tenant")

    def view() -> None:
        with (
            context_captured.connected_to(fail),
            pytest.raises(LookupError, match=r"^no tenant$"),
        ):
            capture_context()

    plain_shop.visit(view)
    headers = plain_shop.capture()
    init_app(plain_shop.flask)
    with context_restored.connected_to(fail):
        result = plain_shop.tasks["shop.where"].apply(headers=headers)
    with pytest.raises(LookupError, match=r"^no tenant$"):
        result.get()
