"""Apps that use Flask's and Werkzeug's extension points, and odd servers."""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
import typing as t

import flask
import pytest
from flask import request
from flask import session
from flask.sessions import NullSession
from flask.sessions import SecureCookieSession
from flask.sessions import SecureCookieSessionInterface
from flask.sessions import SessionMixin
from werkzeug.datastructures import ImmutableMultiDict

from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import restore_context
from tests.conftest import Shop


def test_a_large_body_that_the_view_has_read_costs_no_more(plain_shop: Shop) -> None:
    """A body over the limit is left out unlooked at: no copy, no parsing."""
    body = json.dumps([{"a": 1}] * 200_000).encode()

    def view() -> t.Any:
        assert len(request.data) == len(body)
        tracemalloc.start()
        headers = capture_context()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return headers, peak

    headers, peak = plain_shop.visit(view, data=body, content_type="application/json")
    assert peak < 500_000
    with (
        restore_context(headers, plain_shop.flask),
        pytest.raises(LeftOut, match=rf"request body \({len(body)} bytes\)"),
    ):
        request.get_data()


def test_a_large_form_field_is_not_encoded(plain_shop: Shop) -> None:
    """Parsed fields that do not fit are left out before they are copied."""

    def view() -> t.Any:
        request.max_form_memory_size = None
        assert len(request.form["a"]) == 5_000_000
        tracemalloc.start()
        headers = capture_context()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return headers, peak

    plain_shop.flask.config["MAX_FORM_MEMORY_SIZE"] = None
    headers, peak = plain_shop.visit(view, data={"a": "x" * 5_000_000})
    assert peak < 500_000
    with (
        restore_context(headers, plain_shop.flask),
        pytest.raises(LeftOut, match=r"request body .* TASK_CONTEXT_MAX_SIZE"),
    ):
        _ = request.form


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HTTP_X_FOLDED", "one\r\n two"),
        ("REMOTE_USER", None),
        ("REMOTE_USER", "Jłó"),
        ("SERVER_PORT", 8080),
        ("HTTP_X_LIST", ["no", "string"]),
    ],
)
def test_what_a_server_puts_into_the_environ_never_breaks_the_task(
    plain_shop: Shop, key: str, value: t.Any
) -> None:
    """What the view could live with, the task can."""

    def view() -> t.Any:
        return capture_context(), request.url, request.remote_user

    headers, url, user = plain_shop.visit(view, environ_overrides={key: value})
    with restore_context(headers, plain_shop.flask):
        assert request.url == url
        assert request.remote_user == user
        assert request.environ.get(key) == (None if isinstance(value, list) else value)


@pytest.mark.filterwarnings("ignore:.*always be 'ImmutableMultiDict'")
def test_a_form_of_the_apps_own_kind(plain_shop: Shop) -> None:
    """The task's form is what its request class makes of one."""

    class Fields(ImmutableMultiDict[str, str]):
        """With methods of the app's own."""

    class Request(flask.Request):
        parameter_storage_class = Fields

    for kind in (Request, flask.Request):
        plain_shop.flask.request_class = kind
        headers, form = plain_shop.visit(
            lambda: (request.form, capture_context(), type(request.form))[1:],
            data={"a": "1"},
        )
        with restore_context(headers, plain_shop.flask):
            assert (type(request.form), request.form["a"]) == (form, "1")


def test_a_variable_that_the_process_has_too(
    plain_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the request's, but where a server has put them all into its environ."""
    monkeypatch.setenv("REMOTE_USER", "anna")
    for path, user in ({}, "anna"), ({"PATH": "/bin"}, None):
        environ = {"REMOTE_USER": "anna", **path}
        headers = plain_shop.capture(environ_overrides=environ)
        with restore_context(headers, plain_shop.flask):
            assert request.remote_user == user


class Visitor(SecureCookieSession):
    @property
    def user(self) -> t.Any:
        return self["user"]


class Nobody(NullSession):
    def __init__(self) -> None:
        super().__init__()


class Sessions(SecureCookieSessionInterface):
    session_class = Visitor
    null_session_class = Nobody
    captured: t.Any = None

    def open_session(self, app: flask.Flask, request: flask.Request) -> t.Any:
        if "capture" in request.args:
            self.captured = capture_context()
        return super().open_session(app, request)


def test_an_apps_own_session_classes(plain_shop: Shop) -> None:
    """The task's copy has the methods of the app's session, and is never saved."""
    plain_shop.flask.session_interface = Sessions()

    def view() -> t.Any:
        session["user"] = "anna"
        return capture_context()

    headers = plain_shop.visit(view)
    with restore_context(headers, plain_shop.flask):
        assert session.user == "anna"  # type: ignore[attr-defined]
        assert plain_shop.flask.session_interface.is_null_session(
            session._get_current_object()  # type: ignore[attr-defined]
        )


class Stored(dict[str, t.Any], SessionMixin):
    """As an interface of its own opens it."""


class Lenient(SecureCookieSessionInterface):
    null_session_class = SecureCookieSession  # Which views may change.

    def open_session(self, app: flask.Flask, request: flask.Request) -> t.Any:
        return Stored(user="anna")


def test_a_null_session_of_the_apps_session_class(plain_shop: Shop) -> None:
    """The session travels, and the task's copy is never saved."""
    interface = plain_shop.flask.session_interface = Lenient()
    headers = plain_shop.visit(capture_context)
    with restore_context(headers, plain_shop.flask):
        assert dict(session) == {"user": "anna"}
        assert interface.is_null_session(session._get_current_object())  # type: ignore[attr-defined]


def test_a_task_sent_while_the_session_is_opened(plain_shop: Shop) -> None:
    """There is no session yet, and the rest of the request travels."""
    interface = plain_shop.flask.session_interface = Sessions()
    plain_shop.visit(lambda: None, "/item/3?capture=1")
    with restore_context(interface.captured, plain_shop.flask):
        assert request.view_args == {"number": 3}
        assert dict(session) == {}
        assert isinstance(session._get_current_object(), Nobody)  # type: ignore[attr-defined]


def test_a_left_out_file_raises_through_every_wrapper(plain_shop: Shop) -> None:
    """``io.TextIOWrapper``, as the csv module wants it, raises ``LeftOut`` too."""
    data = {"list": (io.BytesIO(b"x" * 100_000), "list.csv")}
    headers = plain_shop.visit(
        lambda: request.form is not None and capture_context(), data=data
    )
    for read in (
        lambda stream: io.TextIOWrapper(stream).read(),
        lambda stream: io.BufferedReader(stream).read(1),
        lambda stream: stream.read(),
        lambda stream: stream.seek(0),
    ):
        with (
            restore_context(headers, plain_shop.flask),
            pytest.raises(LeftOut, match=r"uploaded file 'list' \(100000 bytes\)"),
        ):
            read(request.files["list"].stream)


class Sink:
    """Where an app sends its uploads: it can be written, and no more."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, *args: t.Any) -> None: ...

    def close(self) -> None: ...


def test_an_upload_that_went_elsewhere(plain_shop: Shop) -> None:
    """An app's own sink for uploads, without ``tell``, is no reason to fail."""

    class Request(flask.Request):
        def _get_file_stream(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            return Sink()

    plain_shop.flask.request_class = Request

    def view() -> t.Any:
        assert request.files["list"].filename == "list.csv"
        return capture_context()

    data = {"list": (io.BytesIO(b"x"), "list.csv")}
    headers = plain_shop.visit(view, data=data)
    with (
        restore_context(headers, plain_shop.flask),
        pytest.raises(LeftOut, match=r"uploaded file 'list' \(of unknown size\)"),
    ):
        request.files["list"].read()


def test_json_without_a_field_is_no_longer_than_it_was(plain_shop: Shop) -> None:
    """A limit that the view's body kept is kept in the task."""
    plain_shop.flask.config["MAX_CONTENT_LENGTH"] = 60
    body = '{"t":"éééééééééééééé","pwd":1}'.encode()
    headers = plain_shop.capture(data=body, content_type="application/json")
    with restore_context(headers, plain_shop.flask):
        assert request.get_json() == {"t": "é" * 14}


def test_a_long_name_is_no_reason_to_remember_it(plain_shop: Shop) -> None:
    """Field names that clients make up are not kept in memory."""
    for number in range(20):
        body = {f"{number}%" + "n" * 40_000: 1}
        plain_shop.capture(json=body)
        if number == 3:
            tracemalloc.start()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 400_000


PARTS: dict[str, t.Any] = {
    "server": [
        "GET",
        "",
        "/",
        "",
        "h",
        "80",
        "HTTP/1.1",
        None,
        "http",
        False,
        False,
        False,
    ],
    "environ": {"HTTP_HOST": "h"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"server": [None] * 12},
        {"server": ["GET"]},
        {"server": ["GET", "", "/ł", *PARTS["server"][3:]]},
        {"server": ["GET", "", {}, *PARTS["server"][3:]]},
        {"server": ["GET", "", "/", 1, *PARTS["server"][4:]]},
        {"server": [*PARTS["server"][:5], 1e999, *PARTS["server"][6:]]},
        {"server": [*PARTS["server"][:11], {}]},
        {"environ": {"wsgi.input": "x"}},
        {"environ": {"HTTP_PROXY": "x"}},
        {"environ": {"werkzeug.request": "x"}},
        {"environ": {"HTTP_HOST": 3}},
        {"environ": ["HTTP_HOST"]},
        {"g": {"__class__": 1}},
        {"g": {"a b": 1}},
        {"g": [1]},
        {"g": ["tenant"]},
        {"session": [1]},
        {"signals": 3},
        {"body": {"form": 3}},
        {"body": {"form": [], "files": [["a"]]}},
        {"body": {"base64": "ł"}},
        {"body": {"text": "ł"}},
        {"body": {"left_out": [1]}},
        {"body": {"left_out": ["request body", [1], "it is large"]}},
    ],
    ids=str,
)
def test_hostile_content_is_refused(plain_shop: Shop, change: t.Any) -> None:
    """Where there is no key, and so no signature, content is checked all the same."""
    from flask_task_context import BadContext

    plain_shop.flask.secret_key = None

    def header(parts: t.Any) -> dict[str, str]:
        payload = json.dumps(parts)
        return {"flask_task_context": f"1:unsigned:shop::{len(payload)}:{payload}"}

    with restore_context(header(PARTS), plain_shop.flask):
        assert request.url == "http://h/"
    with (
        pytest.raises(BadContext, match="The context cannot be read"),
        restore_context(header({**PARTS, **change}), plain_shop.flask),
    ):
        pytest.fail("a hostile context was taken")


def test_a_hostile_file_has_text_for_names(plain_shop: Shop) -> None:
    """What a forged form calls a file is text, of whatever type it was."""
    plain_shop.flask.secret_key = None
    file = [["f"], 5, [[1, 2]], "eA==", None]
    parts = {**PARTS, "body": {"form": [], "files": [file]}}
    payload = json.dumps(parts)
    header = f"1:unsigned:shop::{len(payload)}:{payload}"
    with restore_context({"flask_task_context": header}, plain_shop.flask):
        (name,) = request.files
        assert name == "['f']"
        assert request.files[name].filename == "5"
        assert request.files[name].content_type is None
        assert request.files[name].read() == b"x"
