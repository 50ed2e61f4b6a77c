"""A task that runs inside a view leaves the view's request as it found it."""

from __future__ import annotations

import typing as t

import flask
import pytest
from celery import Celery
from flask import g
from flask import session

import flask_task_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from tests import shop
from tests import ways_tasks

KINDS = ways_tasks.KINDS


@pytest.fixture(params=["no base class", "a base class"])
def sender(request: pytest.FixtureRequest) -> Celery:
    """A Celery app that runs its tasks where they are called."""
    app = Celery("eager", set_as_current=False)
    app.conf.update(task_always_eager=True, broker_url="memory://")
    base = ways_tasks.Calling if request.param == "a base class" else None
    options = {"shared": False, **({"base": base} if base else {})}

    def touch(fail: bool = False) -> list[t.Any]:
        events().append("task")
        assert g.mine == "view"
        g.mine = "task"
        session["task"] = 1
        if fail:
            raise ValueError("as told")
        return [id(flask.request._get_current_object()), flask.request.url]  # type: ignore

    decorate = with_request_context(before_request=True)
    app.task(decorate(touch), name="below.touch", **options)
    decorate(app.task(touch, name="above.touch", **options))
    return app


def events() -> list[str]:
    return t.cast("list[str]", flask.current_app.extensions["events"])


@pytest.fixture
def app() -> flask.Flask:
    """A shop that writes down when its functions are called."""
    app = shop.create_app()
    app.extensions["events"] = []
    app.before_request(lambda: events().append("before"))
    app.teardown_request(lambda error: events().append(f"teardown request {error}"))
    app.teardown_appcontext(lambda error: events().append(f"teardown app {error}"))

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        events().append("after")
        return response

    flask_task_context.init_app(app)
    return app


ORDER = ["before", "task", "view", "after"]
BROKEN = {"flask_task_context": "broken"}
TEARDOWN = ["teardown request None", "teardown app None"]

WAYS: dict[str, t.Callable[..., t.Any]] = {
    "delay_with_context": lambda task, *a: delay_with_context(task, *a).get(),
    "delay": lambda task, *a: task.delay(*a).get(),
    "apply": lambda task, *a: task.apply(a).get(),
    "another context": lambda task, *a: task.apply(a, headers=BROKEN).get(),
    "call": lambda task, *a: task(*a),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_views_request_is_the_tasks(
    app: flask.Flask, sender: Celery, kind: str, way: str
) -> None:
    """Task and view share request, ``g`` and session, and hooks run once."""

    def view() -> str:
        g.mine = "view"
        seen = WAYS[way](sender.tasks[f"{kind}.touch"])
        assert seen == [id(flask.request._get_current_object()), flask.request.url]  # type: ignore
        assert g.mine == "task"
        assert session["task"] == 1
        events().append("view")
        return "ok"

    app.extensions["view"] = view
    response = app.test_client().get("/item/3")
    assert response.text == "ok"
    assert app.extensions["events"] == ORDER + TEARDOWN
    assert "session=" in response.headers["Set-Cookie"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_views_request_survives_a_task_that_fails(
    app: flask.Flask, sender: Celery, kind: str, way: str
) -> None:
    """The exception reaches the view, and neither pops nor tears down anything."""

    def view() -> str:
        g.mine = "view"
        before = flask.request._get_current_object()  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=r"^as told$"):
            WAYS[way](sender.tasks[f"{kind}.touch"], True)
        assert flask.request._get_current_object() is before  # type: ignore
        assert g.mine == "task"
        events().append("view")
        return "ok"

    app.extensions["view"] = view
    assert app.test_client().get("/item/3").text == "ok"
    assert app.extensions["events"] == ORDER + TEARDOWN
