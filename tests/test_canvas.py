"""A canvas sent with a request does what it does without the library."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import celery
import pytest
from celery import chain
from celery import chord
from celery import group

from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from tests import ways
from tests.conftest import Shop
from tests.ways import Cell
from tests.ways import Lab

pytestmark = ways.quiet

# From a signature factory to a canvas; the marks show who ran when.
CANVASES: dict[str, t.Callable[[t.Any], t.Any]] = {
    "signature": lambda s: s(1, 2, mark="a"),
    "immutable": lambda s: chain(s(1), s(2, mark="b").set(immutable=True)),
    "partial": lambda s: chain(s(1, mark="a"), s(2, mark="b"), s(mark="c")),
    "cloned": lambda s: s(1).clone(args=(0,), kwargs={"mark": "c"}),
    "pipe": lambda s: s(1) | s(2) | s(3),
    "group": lambda s: group(s(n) for n in range(4)),
    "nested groups": lambda s: group(group(s(1), s(2)), group(s(3), s(4))),
    "chord": lambda s: chord([s(1), s(2), s(3)], s(mark="body")),
    "chord with an argument named tasks": lambda s: chord([s(1)], s(tasks=["a", "b"])),
    "chord then task": lambda s: chain(group(s(1), s(2)), s(mark="b"), s(mark="c")),
    "chord of chains": lambda s: chord(
        [chain(s(1), s(2)), chain(s(3), s(4))], s(mark="b") | s(mark="c")
    ),
    "chord in a chord": lambda s: chord(
        [chord([s(1), s(2)], s(mark="in")), s(3)], s(mark="out")
    ),
    "chain in a group in a chain": lambda s: chain(
        s(0), group(chain(s(1), s(2)), s(3)), s(4)
    ),
    "map": lambda s: s().type.map([1, 2, 3]),
    "starmap": lambda s: s().type.starmap([(1, 2), (3, 4)]),
    "chunks": lambda s: s().type.chunks([(n, n) for n in range(5)], 2),
}


@pytest.fixture(params=["redis", "rabbitmq"], scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """Where the tasks are sent from; Redis counts chords, RabbitMQ unlocks them."""
    return ways.shared_lab(request.param)


def value(result: t.Any) -> t.Any:
    return result.get(timeout=30, interval=0.02)


@pytest.mark.parametrize("kind", ways.LABELS)
@pytest.mark.parametrize("name", CANVASES)
def test_results_are_those_without_the_library(lab: Lab, name: str, kind: str) -> None:
    """Values and their order do not change, whatever the shape of the canvas."""
    cell = Cell(lab, kind)
    build = CANVASES[name]
    expected = value(build(lab.tasks["plain.spell"].s).delay())
    sent = cell.visit(lambda: delay_with_context(build(cell.task("spell").s)))
    assert value(sent) == expected


def test_arguments_of_a_canvas_are_kept(lab: Lab) -> None:
    """What ``apply_async`` adds to a chain goes to its first task, as ever."""
    cell = Cell(lab, "below")
    canvas = chain(cell.task("spell").s(2), cell.task("spell").s(3))
    sent = cell.visit(lambda: apply_async_with_context(canvas, (1,), {"mark": "a"}))
    assert value(sent) == "(a(1 2) 3)"


def messages(app: celery.Celery) -> list[t.Any]:
    """All messages that wait in the app's queue."""
    found = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        queue = app.amqp.queues[app.conf.task_default_queue](channel)
        while message := queue.get(no_ack=True):
            found.append(message)
    return found


def test_a_long_chain_carries_the_context_once() -> None:
    """The first message of 50 steps holds one copy of the request, not 50."""
    shop = Shop({"broker_url": "memory://", "task_default_queue": "fifty"})
    see = shop.tasks["plain.add"]

    def view() -> str:
        delay_with_context(chain(see.s(n) for n in range(50)), 1)
        return capture_context()["flask_task_context"]

    header = shop.visit(view)
    (message,) = messages(shop.celery)
    assert message.headers["flask_task_context"] == header
    assert b"flask_task_context" not in message.body
    assert len(json.loads(message.body)[2]["chain"]) == 49


@pytest.mark.parametrize("kind", ways.LABELS)
@pytest.mark.parametrize("errback", ["errback_one", "errback_three", "errback_bound"])
@pytest.mark.parametrize("where", ["header", "body", "group", "nested chain"])
def test_errbacks_of_a_canvas_see_the_request(
    lab: Lab, where: str, errback: str, kind: str
) -> None:
    """An errback that is somewhere in a canvas runs in the sender's request."""
    cell = Cell(lab, kind)
    fail, trace = cell.task("fail"), cell.task("trace")
    noting = cell.note(errback)
    canvas = {
        "header": chord([trace.s(), fail.s()], trace.s().on_error(noting)),
        "body": chord([trace.s(), trace.s()], fail.s().on_error(noting)),
        "group": group(trace.s(), fail.s().on_error(noting)),
        "nested chain": chord(
            [chain(trace.s(), fail.s().on_error(noting)), trace.s()], trace.s()
        ),
    }[where]
    cell.visit(lambda: delay_with_context(canvas))
    assert set(map(cell.word, cell.noted(1))) == {ways.SENT}


@pytest.mark.parametrize("kind", ways.LABELS)
def test_links_of_links_see_the_request(lab: Lab, kind: str) -> None:
    """A callback's callback still has the context, and so has a chord body's."""
    cell = Cell(lab, kind)
    deep = cell.task("trace").s()
    deep.link(cell.task("trace").s().on_error(cell.note("errback_one")))
    deep.options["link"][0].link(cell.note())
    body = cell.task("trace").s()
    body.link(cell.note())
    cell.visit(lambda: delay_with_context(deep))
    cell.visit(lambda: delay_with_context(chord([cell.task("trace").s()] * 2, body)))
    assert list(map(cell.word, cell.noted(2))) == [ways.SENT] * 2


def test_a_step_without_the_decorator_passes_the_context_on(lab: Lab) -> None:
    """Undecorated tasks of a chain, chord and group see nothing and lose nothing."""
    cell = Cell(lab, "below")
    plain, last = lab.tasks["plain.trace"], cell.task("trace")
    canvas = chain(plain.s(), chord([plain.s(), plain.s()], plain.s()), last.s())
    seen = cell.seen(cell.visit(lambda: delay_with_context(canvas)), 6)
    assert seen == [ways.NONE] * 5 + [ways.SENT]


# -- headers of the user's own, and what of ours is in a canvas -------------------------


SHAPES: dict[str, t.Callable[[t.Callable[..., t.Any]], t.Any]] = {
    "signature": lambda s: s("a"),
    "chain": lambda s: chain(s("a"), s("b")),
    "group": lambda s: group(s("a"), s("b")),
    "chord": lambda s: chord([s("a"), s("b")], s("c")),
    "chord of chains": lambda s: chord([chain(s("a"), s("b")), s("c")], s("d")),
}


@pytest.mark.parametrize("auto", [False, True], ids=["with context", "AUTO"])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_part_keeps_headers_of_its_own(lab: Lab, shape: str, auto: bool) -> None:
    """They arrive as a plain ``delay`` sends them, and the request beside them."""
    cell = Cell(lab, "below")

    def part(kind: str) -> t.Callable[[str], t.Any]:
        marked = lab.tasks[f"{kind}.marked"]
        return lambda mine: marked.s().set(headers={"mine": mine})

    plain = value(SHAPES[shape](part("plain")).delay())
    lab.flask.config["TASK_CONTEXT_AUTO"] = auto
    canvas = SHAPES[shape](part("below"))
    send = canvas.delay if auto else lambda: delay_with_context(canvas)
    try:
        seen = value(cell.visit(send))
    finally:
        lab.flask.config["TASK_CONTEXT_AUTO"] = False
    assert json.loads(json.dumps(plain).replace("no context", cell.url)) == seen


def test_one_part_can_be_without_the_request(lab: Lab) -> None:
    """An empty header of its own is its own, wherever in the canvas it stands."""
    cell = Cell(lab, "below")
    without = cell.task("where").si(1).set(headers={"flask_task_context": ""})
    with_it = cell.task("where").si(1)
    sent = cell.visit(lambda: delay_with_context(group(without, with_it)))
    assert value(sent) == ["app context", cell.url]
    sent = cell.visit(lambda: delay_with_context(chain(with_it, without)))
    assert [value(sent.parent), value(sent)] == [cell.url, "app context"]
    assert value(cell.visit(lambda: delay_with_context(without))) == "app context"


def test_no_argument_of_any_message_has_the_context(tmp_path: Path) -> None:
    """Not even those of ``celery.chord_unlock``, which ``celery inspect`` shows."""
    shop = Shop(
        {
            "broker_url": "memory://",
            "task_default_queue": "arguments",
            "result_backend": f"db+sqlite:///{tmp_path / 'results.db'}",
        }
    )
    add = shop.tasks["plain.add"]
    linked = add.s(1).set(link=add.s(2), link_error=add.si(3))
    canvas = chord([add.s(4), chain(add.s(5), add.s(6))], linked)
    shop.visit(lambda: delay_with_context(canvas))
    sent = messages(shop.celery)
    assert sorted(message.headers["task"] for message in sent) == [
        "celery.chord_unlock",
        "plain.add",
        "plain.add",
    ]
    for message in sent:
        assert message.headers["flask_task_context"].startswith("1:signed:shop:")
        assert b"1:signed:shop:" not in message.body
        assert (
            "signed" not in message.headers["argsrepr"] + message.headers["kwargsrepr"]
        )


def test_the_tasks_own_delay_is_called(lab: Lab) -> None:
    """What a base class adds to ``delay()`` is sent with the request too."""
    cell = Cell(lab, "below")
    seen = value(cell.visit(lambda: delay_with_context(cell.task("tenants"), "mine")))
    assert seen == [cell.url, "mine", "the tenant's"]
    seen = value(cell.visit(lambda: apply_async_with_context(cell.task("tenants"), ())))
    assert seen == [cell.url]
