"""What a task sends carries the context that the task came with."""

from __future__ import annotations

import typing as t

import pytest

from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from tests import ways
from tests.ways import Cell
from tests.ways import Lab

pytestmark = ways.quiet


@pytest.fixture(params=["redis", "rabbitmq"], scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """Where the tasks are sent from; the worker is shared by the test files."""
    return ways.shared_lab(request.param)


def noted(cell: Cell, task: str, *args: t.Any) -> list[str]:
    """The first line that a task's child writes."""
    path = str(cell.notes)
    cell.visit(
        lambda: delay_with_context(cell.lab.tasks[task], *args[:1], path, *args[1:])
    )
    return cell.noted(1)


def test_headers_of_the_users_own_do_not_stop_it(lab: Lab) -> None:
    """A child that is sent with headers of another kind sees the request too."""
    cell = Cell(lab, "below")
    options = {"headers": {"mine": "1"}}
    assert noted(cell, "below.send", "below.note", options) == [cell.url]


def test_a_header_of_its_own_wins(lab: Lab) -> None:
    """A child that is sent with another request sees that one."""
    cell, other = Cell(lab, "below"), Cell(lab, "below")
    options = {"headers": other.headers()}
    assert noted(cell, "below.send", "below.note", options) == [other.url]


def test_what_the_task_changed_travels_on(lab: Lab) -> None:
    """A context that is captured in a task is that of this moment."""
    cell = Cell(lab, "below")
    assert noted(cell, "below.change", "below.tenant") == ["changed"]


def test_what_the_task_changed_stays_behind_in_a_plain_delay(lab: Lab) -> None:
    """An inherited context is the one that the message brought."""
    cell = Cell(lab, "below")
    assert noted(cell, "below.send", "below.tenant", {}) == ["None"]


@pytest.mark.parametrize("kind", ways.LABELS)
def test_the_bytes_stay_the_same_through_retries(lab: Lab, kind: str) -> None:
    """No retry captures, signs or encodes anew."""
    cell = Cell(lab, kind)

    def view() -> str:
        delay_with_context(cell.task("raw"), str(cell.notes))
        return capture_context()["flask_task_context"]

    header = cell.visit(view)
    assert cell.noted(4) == [header] * 4


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("kind", ways.LABELS)
def test_the_users_own_headers_stay(lab: Lab, kind: str, nested: bool) -> None:
    """They reach the task, and some tool's dict in a dict does not hide ours."""
    cell = Cell(lab, kind)
    mine: dict[str, t.Any] = {"mine": "1"}
    if nested:
        mine["headers"] = {"theirs": "2"}
    result = cell.visit(
        lambda: apply_async_with_context(cell.task("headers"), headers=mine)
    )
    seen = result.get(timeout=30, interval=0.02)
    assert seen["where"] == cell.url
    assert seen["mine"] == "1"
    assert seen["headers"].get("theirs") == ("2" if nested else None)
