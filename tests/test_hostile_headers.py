"""Hostile headers: only ``ContextError`` comes out, and no context stays pushed.

``python -m stress.headers`` tries millions; here are some hundreds of each kind, and
hypothesis, which finds the smallest one that breaks a promise.
"""

from __future__ import annotations

import json
import typing as t

import pytest
from flask import request
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_task_context import ContextError
from flask_task_context import context_restored
from flask_task_context import init_app
from flask_task_context import restore_context
from stress import headers

pytestmark = pytest.mark.filterwarnings("ignore:A task changed its session")

# The fixture that looks for leftovers does so once for all examples.
many = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(headers.TEXTS),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(st.sampled_from(headers.KEYS) | st.text(), inner, max_size=5)
    ),
    max_leaves=20,
)
kinds = st.sampled_from(["signed", "encrypted", "unsigned"])


@pytest.fixture(scope="module")
def target() -> headers.Target:
    return headers.Target()


@many
@given(header=any_json | st.binary(), kind=kinds)
def test_whatever_stands_in_the_header(
    target: headers.Target, header: t.Any, kind: str
) -> None:
    """Values of any type are refused, or are no context at all."""
    assert not headers.check({headers.HEADER: header}, target.apps[kind])


@many
@given(whole=any_json, kind=kinds)
def test_whatever_is_sealed(target: headers.Target, whole: t.Any, kind: str) -> None:
    """Any JSON under the app's own key is refused."""
    header = target.seal(json.dumps(whole), kind)
    assert not headers.check({headers.HEADER: header}, target.apps[kind])


@many
@given(
    number=st.integers(0),
    part=st.sampled_from(["environ", "session", "g", "signals", "body", "server"]),
    value=any_json,
    kind=kinds,
)
def test_whatever_takes_the_place_of_a_part(
    target: headers.Target, number: int, part: str, value: t.Any, kind: str
) -> None:
    """One part of a real context exchanged: refused, or a request like Flask's own."""
    parts = {**target.parts[number % len(target.parts)], part: value}
    header = target.seal(json.dumps(parts), kind)
    headers.check({headers.HEADER: header}, target.apps[kind])


@many
@given(number=st.integers(0), at=st.integers(0), new=st.text(max_size=5))
def test_whatever_is_put_into_a_real_header(
    target: headers.Target, number: int, at: int, new: str
) -> None:
    """A signed or encrypted context with something in it is refused."""
    whole = target.every_header[number % len(target.every_header)]
    at %= len(whole) + 1
    changed = whole[:at] + new + whole[at:]
    for kind in ("signed", "encrypted"):
        if changed != whole:
            assert not headers.check({headers.HEADER: changed}, target.apps[kind])


def test_some_thousands_of_every_kind() -> None:
    """The fuzzer's own inputs, and its bounds of time and memory."""
    tally = headers.fuzz(4000, seed=7)
    tally.add(headers.weigh(40, seed=7))
    assert tally.broken == []
    assert all(tally.inputs[kind] for kind in headers.KINDS if kind != "bombs")
    assert tally.taken["signed hostile values"] > 100, "they reach the request"


def test_the_fuzzer_sees_what_is_broken() -> None:
    """A context that is left, an error of another kind, a key too many."""
    app = headers.create_app(SECRET_KEY=None)
    message = {headers.HEADER: headers.capture(app)[0]}
    assert headers.check(message, app)
    with (
        app.app_context(),
        pytest.raises(headers.Broken, match=r"^a context stayed pushed$"),
    ):
        headers.check(message, app)

    @app.teardown_request
    def fail(error: t.Any) -> None:
        raise LookupError("teardown")

    with pytest.raises(headers.Broken, match=r"^it raised LookupError\('teardown'\)$"):
        headers.check(message, app)

    app.teardown_request_funcs.clear()

    def smuggle(sender: t.Any, **signal: t.Any) -> None:
        request.environ["werkzeug.socket"] = "x"

    with (
        context_restored.connected_to(smuggle, app),
        pytest.raises(headers.Broken, match=r"^the environ holds \{'werkzeug.socket'"),
    ):
        headers.check(message, app)


def test_a_hostile_name_of_an_app_is_refused(target: headers.Target) -> None:
    """With several apps, one that none of them has is named as it was sent."""
    init_app(target.apps["signed"])
    init_app(headers.create_app("other"))
    header = target.seal(target.payloads[0], "signed", "1:signed:%0A%ED%A0%80:x")
    with (
        pytest.raises(ContextError, match=r"a Flask app named '\\n"),
        restore_context({headers.HEADER: header}),
    ):
        pytest.fail("restored")
