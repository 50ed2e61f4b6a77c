"""Before-request, after-request and the session, in a task."""

from __future__ import annotations

import typing as t

import flask
import pytest
from celery import current_task
from celery.exceptions import Ignore
from flask import g
from flask import session

from flask_task_context import _MERGED
from flask_task_context import RequestRefused
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import context_restored
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import with_request_context
from tests.conftest import Shop
from tests.test_canvas import messages

PARTS = ("before", "after", "teardown")
REQUEST = "http://localhost/item/3"


def run(shop: Shop, body: t.Callable[[], t.Any], **options: t.Any) -> t.Any:
    """Run ``body`` as a task in a request that was captured before."""
    headers = shop.capture()
    init_app(shop.flask)
    task = shop.task(with_request_context(**options)(body), name="hooked")
    return task.apply(headers=headers).get()


def test_after_request_functions_run_on_an_empty_response(plain_shop: Shop) -> None:
    """They get an empty 200, in Flask's order, and the result stays the task's."""
    responses: list[t.Any] = []

    def note(response: flask.Response) -> flask.Response:
        responses.append((response.status_code, response.get_data()))
        return flask.Response("not the result", 200)

    plain_shop.flask.after_request(note)

    def body() -> int:
        flask.after_this_request(note)
        return 42

    headers = plain_shop.capture()
    responses.clear()
    init_app(plain_shop.flask)
    task = plain_shop.task(with_request_context(body), name="after")
    assert task.apply(headers=headers).get() == 42
    assert responses == [(200, b""), (200, b"not the result")]


def test_after_request_functions_can_be_left_out(plain_shop: Shop) -> None:
    """``after_request=False`` runs none."""
    calls: list[str] = []
    plain_shop.flask.after_request(lambda response: calls.append("after") or response)  # type: ignore
    run(plain_shop, lambda: calls.append("body"), after_request=False)
    assert calls == ["after", "body"], "after the view alone"


@pytest.mark.parametrize("where", ["after_request", "call_on_close", "response"])
def test_an_error_after_the_body_is_logged_and_the_result_stands(
    plain_shop: Shop, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """The work is done, and a retry would do it twice."""

    def broken(*args: t.Any, **kwargs: t.Any) -> t.Any:
        raise KeyError(f"broken {where}")

    class Broken(flask.Response):
        __init__ = broken

    def body() -> str:
        if where == "after_request":
            flask.after_this_request(broken)
        elif where == "call_on_close":
            flask.after_this_request(lambda r: r.call_on_close(broken) and r)
        else:
            plain_shop.flask.response_class = Broken
        return "done"

    assert run(plain_shop, body) == "done"
    [record] = [record for record in caplog.records if record.name == "shop"]
    assert record.getMessage() == "Exception on /item/3 [POST]"
    assert "broken" in str(record.exc_info[1])  # type: ignore[index]


def test_an_app_has_its_own_response_class_and_it_is_closed(plain_shop: Shop) -> None:
    """The hooks get the response that Flask makes of an empty body, and what is to
    happen when it is closed happens."""
    calls: list[str] = []

    class Own(flask.Response):
        def __init__(self, response: t.Any, *args: t.Any, **kwargs: t.Any) -> None:
            super().__init__(response, *args, **kwargs)

    @plain_shop.flask.after_request
    def note(response: flask.Response) -> flask.Response:
        calls.append(type(response).__name__)
        response.call_on_close(lambda: calls.append("closed"))
        return response

    plain_shop.flask.response_class = Own
    run(plain_shop, lambda: calls.append("body"))
    # The first one is the view's own.
    assert calls == ["Own", "body", "Own", "closed"]


@pytest.mark.parametrize(
    ("hook", "place"),
    [
        *((f"{part}_request", REQUEST) for part in PARTS),
        # Since Flask 3.2 the request ends with the app context, not before it.
        ("teardown_appcontext", REQUEST if _MERGED else "app context"),
        ("context_restored", REQUEST),
    ],
)
def test_what_a_hook_sends_from_a_task_carries_no_request(
    plain_shop: Shop, hook: str, place: str
) -> None:
    """In none of the ways to send; and a task that it calls runs as it is."""
    app, where = plain_shop.flask, plain_shop.tasks["shop.where"]
    app.config["TASK_CONTEXT_AUTO"] = True
    seen: list[t.Any] = []

    def send(given: t.Any = None) -> t.Any:
        if current_task:
            seen.append([capture_context(), where()])
            where.delay()
            delay_with_context(where)
            apply_async_with_context(where, headers={"mine": "1"})
        return given

    def receive(sender: flask.Flask, entries: t.Any) -> None:
        send()

    if hook == "context_restored":
        context_restored.connect(receive, app)
    else:
        getattr(app, hook)(send)
    run(plain_shop, lambda: None, before_request=True)
    assert seen == [[{}, place]]
    sent = messages(plain_shop.celery)
    assert len(sent) == 3
    assert all("flask_task_context" not in message.headers for message in sent)


def test_ignore_is_a_normal_end_in_this_process_too(plain_shop: Shop) -> None:
    """After-request functions run, and the session's change is nobody's."""
    calls: list[str] = []

    def body() -> None:
        flask.after_this_request(lambda response: calls.append("after") or response)  # type: ignore
        raise Ignore

    assert run(plain_shop, body) is None
    assert calls == ["after"]


def test_before_request_loads_what_the_view_had(plain_shop: Shop) -> None:
    """URL value preprocessors, then before-request functions: the tutorial's g.user."""
    app, calls = plain_shop.flask, []

    @app.url_value_preprocessor
    def language(endpoint: t.Any, values: t.Any) -> None:
        calls.append((endpoint, values))

    @app.before_request
    def load_user() -> None:
        g.user = session.get("user_id", "nobody")

    def view() -> t.Any:
        session["user_id"] = 7
        return capture_context()

    headers = plain_shop.visit(view)
    calls.clear()
    init_app(app)
    decorate = with_request_context(before_request=True)
    task = plain_shop.task(decorate(lambda: g.user), name="loaded")
    assert task.apply(headers=headers).get() == 7
    assert calls == [("item", {"number": 3})]
    without = plain_shop.task(with_request_context(lambda: g.get("user")), name="w")
    assert without.apply(headers=headers).get() is None


@pytest.mark.parametrize("how", ["answered", "aborted"])
def test_before_request_refuses_the_task(plain_shop: Shop, how: str) -> None:
    """An answer or an abort of a before-request function keeps the body from running."""
    ran: list[int] = []

    @plain_shop.flask.before_request
    def closed() -> t.Any:
        if not current_task:
            return None
        return flask.abort(403) if how == "aborted" else "closed today"

    headers = plain_shop.capture()
    init_app(plain_shop.flask)
    decorate = with_request_context(before_request=True)
    task = plain_shop.task(decorate(lambda: ran.append(1)), name="refused")
    with pytest.raises(RequestRefused, match=f"^A before-request function {how} the"):
        task.apply(headers=headers).get()
    assert ran == []
    assert task.apply().get() is None, "no request, no hooks"
    assert ran == [1]


def test_an_error_in_a_before_request_function_is_the_tasks(plain_shop: Shop) -> None:
    """An exception that is no HTTP error goes through as it is."""

    @plain_shop.flask.before_request
    def broken() -> None:
        if current_task:
            raise LookupError("no database")

    headers = plain_shop.capture()
    init_app(plain_shop.flask)
    task = plain_shop.task(
        with_request_context(before_request=True)(lambda: 1), name="broken"
    )
    with pytest.raises(LookupError, match="no database"):
        task.apply(headers=headers).get()


def test_a_task_changes_only_its_copy_of_the_session(plain_shop: Shop) -> None:
    """The copy behaves like a session, is never saved, and the change is reported."""
    saved: list[t.Any] = []

    class Interface(flask.sessions.SecureCookieSessionInterface):
        def save_session(self, app: t.Any, session: t.Any, response: t.Any) -> None:
            saved.append(dict(session))

    plain_shop.flask.session_interface = Interface()

    def view() -> t.Any:
        session["cart"] = 1
        return capture_context()

    headers = plain_shop.visit(view)
    assert saved == [{"cart": 1}]
    init_app(plain_shop.flask)

    def body() -> t.Any:
        session["more"] = 2
        session.setdefault("x", 3)
        session.pop("cart")
        session.permanent = True
        return dict(session)

    task = plain_shop.task(with_request_context(body), name="changes")
    with pytest.warns(UserWarning, match="no session store and no cookie is written"):
        result = task.apply(headers=headers).get()
    assert result == {"more": 2, "x": 3, "_permanent": True}
    assert saved == [{"cart": 1}]


@pytest.mark.parametrize("changed", [True, False])
def test_hooks_see_whether_one_of_them_has_changed_the_session(
    plain_shop: Shop, changed: bool
) -> None:
    """The copy itself, which nobody has changed, is not modified."""
    seen: list[bool] = []

    @plain_shop.flask.before_request
    def change() -> None:
        if current_task and changed:
            session["more"] = 1

    def note(response: flask.Response) -> flask.Response:
        seen.append(session.modified)
        return response

    run(
        plain_shop, lambda: flask.after_this_request(note) and None, before_request=True
    )
    assert seen == [changed]


def test_an_app_without_a_secret_key_has_flasks_null_session(plain_shop: Shop) -> None:
    """Reading is empty, writing says why, as in the view."""
    plain_shop.flask.secret_key = None

    def body() -> t.Any:
        assert dict(session) == {}
        with pytest.raises(RuntimeError, match="no secret key was set"):
            session["x"] = 1
        return flask.request.path

    assert run(plain_shop, body) == "/item/3"
