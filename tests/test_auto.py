"""``TASK_CONTEXT_AUTO``: calls that know nothing of the library carry the request."""

from __future__ import annotations

import functools
import typing as t
import uuid
from pathlib import Path

import pytest
from celery import chain
from celery import chord
from celery import group
from celery.signals import before_task_publish
from flask import g

from flask_task_context import CaptureError
from tests import ways
from tests.conftest import Shop
from tests.conftest import celery_settings
from tests.test_canvas import messages
from tests.ways import Cell
from tests.ways import Lab

pytestmark = ways.quiet


@pytest.fixture(params=["redis", "rabbitmq"])
def lab(request: pytest.FixtureRequest) -> t.Iterator[Lab]:
    """Where the tasks are sent from, with the setting on in the sending app."""
    lab = ways.shared_lab(request.param)
    lab.flask.config["TASK_CONTEXT_AUTO"] = True
    yield lab
    del lab.flask.config["TASK_CONTEXT_AUTO"]


CALLS: dict[str, tuple[int, t.Callable[[Cell], t.Any]]] = {
    "delay": (1, lambda c: c.task("where").delay(1)),
    "apply_async": (1, lambda c: c.task("where").apply_async((1,), headers={"a": "b"})),
    "signature": (1, lambda c: c.task("where").s(1).delay()),
    "send_task": (1, lambda c: c.lab.web().send_task(f"{c.kind}.where", (1,))),
    "chain": (3, lambda c: chain(*ways.steps(c, 3)).delay()),
    "group": (3, lambda c: group(ways.steps(c, 3)).delay()),
    "chord": (3, lambda c: chord(ways.steps(c, 2), c.task("trace").s()).delay()),
    "map": (2, lambda c: c.task("trace").map([[], []]).delay()),
    "link": (2, lambda c: c.task("where").apply_async((1,), link=c.note())),
    "retry": (5, lambda c: c.note("retry").delay()),
}


@pytest.mark.parametrize("kind", ways.LABELS)
@pytest.mark.parametrize("call", CALLS)
def test_an_unchanged_call_carries_the_request(lab: Lab, call: str, kind: str) -> None:
    """Inside a view, Celery's own calls do what the library's functions do."""
    count, send = CALLS[call]
    cell = Cell(lab, kind)
    assert cell.seen(cell.visit(lambda: send(cell)), count) == [ways.SENT] * count


def test_a_tool_that_tells_of_a_message_without_headers(lab: Lab) -> None:
    """There is nothing to add to, and nothing fails."""
    cell = Cell(lab, "below")
    tell = functools.partial(before_task_publish.send, sender="tool", body=())
    answers = [answer for _, answer in cell.visit(tell)]
    assert answers
    assert not any(answers)


@pytest.mark.parametrize("call", ["delay", "chain", "send_task"])
def test_outside_a_request_nothing_changes(lab: Lab, call: str) -> None:
    """Without a request there is nothing to carry, in an app context too."""
    count, send = CALLS[call]
    cell = Cell(lab, "below")
    assert cell.seen(send(cell), count) == [ways.APP] * count
    with lab.flask.app_context():
        assert cell.seen(send(cell), count) == [ways.APP] * count


def test_an_empty_header_keeps_the_request_back(lab: Lab) -> None:
    """One call can be exempted from the setting."""
    cell = Cell(lab, "below")
    own = {"flask_task_context": ""}
    result = cell.visit(lambda: cell.task("where").apply_async((1,), headers=own))
    assert cell.seen(result, 1) == [ways.APP]


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize(
    "broker", ["redis", "rabbitmq", "embedded", "filesystem", "memory"]
)
def test_a_request_that_cannot_be_captured_stops_the_call(
    broker: str, protocol: int, tmp_path: Path
) -> None:
    """The view gets the error, and nothing is sent without its context, or half."""
    if broker in ("filesystem", "memory"):
        folders = dict.fromkeys(
            ("data_folder_in", "data_folder_out", "control_folder"), str(tmp_path)
        )
        settings: dict[str, t.Any] = {
            "broker_url": f"{broker}://",
            "broker_transport_options": folders if broker == "filesystem" else {},
            "task_default_queue": f"test-{uuid.uuid4().hex[:12]}",
        }
    else:
        settings = celery_settings(broker, tmp_path)
    shop = Shop({**settings, "task_protocol": protocol}, TASK_CONTEXT_AUTO=True)

    def view() -> None:
        g.tenant = object()
        with pytest.raises(CaptureError, match=r"^g\.tenant cannot travel"):
            shop.tasks["plain.add"].delay(1, 2)
        g.tenant = "fine"
        shop.tasks["plain.add"].delay(3, 4)

    shop.visit(view)
    (message,) = messages(shop.celery)
    assert "(3, 4)" in str(message.headers) or [3, 4] in message.decode().values()
    assert message.headers["flask_task_context"].startswith("1:signed:shop:")
    ways.drop_queue(shop.celery)
