"""What of the session and the body travels, that values arrive equal, and what is said
of what was left out."""

from __future__ import annotations

import datetime
import fnmatch
import io
import json
import logging
import re
import struct
import sys
import typing as t
import zoneinfo
from pathlib import Path

import flask
import pytest
from celery.app.task import Context
from celery.exceptions import Retry
from flask import g
from flask import request
from flask import session
from flask.json.tag import JSONTag
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSessionInterface
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from markupsafe import Markup
from werkzeug.exceptions import RequestEntityTooLarge

import flask_task_context
from flask_task_context import CaptureError
from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import secrecy
from tests.conftest import Shop
from tests.conftest import celery_settings
from tests.conftest import drop_queue

HEADER = "flask_task_context"


def app_with(**config: t.Any) -> flask.Flask:
    app = flask.Flask("travels")
    app.config.update({"SECRET_KEY": "key", "TASK_CONTEXT_G": ["value"], **config})
    return app


def captured(app: flask.Flask, **request: t.Any) -> dict[str, str]:
    """With a session as a server-side one may be."""
    with app.test_request_context("/", **request):
        session.update(
            cart={"pear": 2},
            csrf_token="of a form",
            github_oauth_token={"access_token": "canary-1"},
            odd={
                b"access_token": "canary-3",
                b"pass": "canary-5",
                Markup("pwd"): "canary-4",
                5: 6,
            },
            user={
                "name": "anna",
                "access_token": "canary-2",
                "xsrf_token": "of a form",
                "keys": [("a", {"pwd": 3})],
            },
        )
        return capture_context()


# -- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "travels"),
    [
        (True, ["cart", "csrf_token", "odd", "user"]),
        (None, ["cart", "csrf_token", "odd", "user"]),
        (False, []),
        ([], []),
        (["cart", "none"], ["cart"]),
        (("user", "cart"), ["cart", "user"]),
    ],
)
def test_the_session_or_a_part_of_it(chosen: t.Any, travels: list[str]) -> None:
    """``TASK_CONTEXT_SESSION``: all, none, or a list of keys; the copy behaves as ever."""
    app = app_with(TASK_CONTEXT_SESSION=chosen)
    with restore_context(captured(app), app):
        assert sorted(session) == travels
        session["new"] = 1
        assert session["new"] == 1


def test_what_the_list_leaves_out_is_no_reason_to_fail() -> None:
    """A value that cannot travel, or a large one, stays in the view by the setting that
    the error names."""
    for value in (object(), "x" * 100_000):
        app = app_with()
        with app.test_request_context("/"):
            session.update(cart=1, rest=value)
            with pytest.raises(CaptureError, match="TASK_CONTEXT_SESSION"):
                capture_context()
            app.config["TASK_CONTEXT_SESSION"] = ["cart"]
            headers = capture_context()
        with restore_context(headers, app):
            assert dict(session) == {"cart": 1}


@pytest.mark.parametrize("setting", [*flask_task_context._DEFAULTS])
def test_none_is_what_a_setting_is_by_default(setting: str) -> None:
    """But for the size, of which one may think that it means no limit."""
    app = app_with(**{setting: None})
    if setting == "TASK_CONTEXT_MAX_SIZE":
        with pytest.raises(TypeError, match="make it a number of characters"):
            init_app(app)
    else:
        assert captured(app) == captured(app_with())


def bare_request(app: flask.Flask, environ: dict[str, t.Any]) -> t.Any:
    """A GET that says nothing of a body but by these variables."""
    made = app.test_request_context("/")
    for key in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        made.request.environ.pop(key, None)
    made.request.environ.update(environ)
    return made


@pytest.mark.parametrize(
    ("options", "touch"),
    [
        ({"json": {"a": 1}}, lambda: request.get_json()),
        ({"data": {"a": "1"}}, lambda: request.form["a"]),
        ({"data": b"abc"}, lambda: request.get_data()),
    ],
)
@pytest.mark.parametrize("read", [True, False])
def test_a_body_can_stay_in_the_view(options: t.Any, touch: t.Any, read: bool) -> None:
    """``TASK_CONTEXT_BODY = False``: touching it raises ``LeftOut``, which names it."""
    app = app_with(TASK_CONTEXT_BODY=False)
    with app.test_request_context("/", method="POST", **options):
        seen = touch() if read else None
        headers = capture_context()
        assert seen is None or touch() == seen
    with (
        restore_context(headers, app),
        pytest.raises(
            LeftOut, match=r"did not travel .*: TASK_CONTEXT_BODY is False\."
        ),
    ):
        touch()
    for server in (
        {},
        {"wsgi.input_terminated": True},  # As gunicorn says it.
        {"CONTENT_LENGTH": "0"},
        {"CONTENT_TYPE": "text/plain"},
    ):
        with bare_request(app, server):
            headers = capture_context()
        with restore_context(headers, app):
            assert request.get_data() == b""


# -- the session's credentials -------------------------------------------------------


def test_credentials_of_the_session_stay_out_at_any_depth() -> None:
    """Keys that fit ``TASK_CONTEXT_EXCLUDE``; CSRF tokens stay, which forms need."""
    app = app_with()
    headers = captured(app)
    assert "canary" not in secrecy.readable(headers[HEADER])
    with restore_context(headers, app):
        assert dict(session) == {
            "cart": {"pear": 2},
            "csrf_token": "of a form",
            "odd": {5: 6},
            "user": {"name": "anna", "xsrf_token": "of a form", "keys": [("a", {})]},
        }
    app = app_with(TASK_CONTEXT_EXCLUDE=[])
    with restore_context(captured(app), app):
        assert session["github_oauth_token"] == {"access_token": "canary-1"}


def test_encrypted_the_session_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is left out of what nobody can read, nor is a key missed."""
    pytest.importorskip("cryptography")
    flask_task_context._warn_of_no_key.cache_clear()
    caplog.set_level(logging.WARNING, "flask_task_context")
    app = app_with(TASK_CONTEXT_ENCRYPT=True)
    with restore_context(captured(app), app):
        assert session["user"]["access_token"] == "canary-2"
    assert caplog.records == []


# -- values --------------------------------------------------------------------------

ZONES = st.one_of(
    st.none(),
    st.just(datetime.timezone.utc),
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
        datetime.timezone
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]).map(
        zoneinfo.ZoneInfo
    ),
)
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.text().map(Markup),
)
KEYS = st.one_of(
    HASHABLE,
    st.tuples(HASHABLE, HASHABLE),
    st.sampled_from([" t", " d", " dt", " di", " s", " b"]),
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=2),
    ),
    max_leaves=12,
)


def typed(value: t.Any) -> t.Any:
    """The value with all of its types, to compare: 1, True and 1.0 are equal."""
    if isinstance(value, dict):
        return [dict, [[typed(k), typed(v)] for k, v in value.items()]]
    if isinstance(value, set | frozenset):
        return [type(value), sorted(map(repr, map(typed, value)))]
    if isinstance(value, list | tuple):
        return [type(value), [typed(item) for item in value]]
    zone = getattr(value, "tzinfo", None)
    return [type(value), repr(value), repr(zone), getattr(value, "fold", 0)]


@hypothesis_settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_what_capture_takes_arrives_equal(value: t.Any) -> None:
    """Each value of the session and of ``g``, with its type."""
    app = app_with(TASK_CONTEXT_EXCLUDE=[], TASK_CONTEXT_MAX_SIZE=10**7)
    with app.test_request_context("/"):
        session["value"] = g.value = value
        headers = capture_context()
    with restore_context(headers, app):
        assert typed(session["value"]) == typed(g.value) == typed(value)
        assert session["value"] == value


def test_half_a_character_arrives() -> None:
    """Two surrogates would arrive as one, and are refused; one alone does not."""
    app = app_with()
    with app.test_request_context("/"):
        session["joined"] = ["\U0001f600", "\ud83d", "\ude00"]
        headers = capture_context()
    with restore_context(headers, app):
        assert session["joined"] == ["\U0001f600", "\ud83d", "\ude00"]


def test_a_zone_that_has_a_name_of_its_own() -> None:
    """A worker would not know it: it is refused in the view."""
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    file = io.BytesIO(header + struct.pack(">lbb", 3600, 0, 0) + b"ABC\0")
    zone = zoneinfo.ZoneInfo.from_file(file, key="Ship/Berth")
    app = app_with()
    with app.test_request_context("/"):
        g.value = datetime.datetime(2026, 11, 27, tzinfo=zone)
        with pytest.raises(CaptureError, match=r"^g\.value cannot .* 'No time zone"):
            capture_context()


class Money(t.NamedTuple):
    amount: int


class TagMoney(JSONTag):
    """As an app registers it on the serializer of its sessions."""

    key = " money"

    def check(self, value: t.Any) -> bool:
        return isinstance(value, Money)

    def to_json(self, value: t.Any) -> t.Any:
        return self.serializer.tag([value.amount])

    def to_python(self, value: t.Any) -> t.Any:
        return Money(*value)


def test_tags_of_the_apps_own() -> None:
    """What its session's serializer knows, a context knows too, beside the others."""

    class Interface(SecureCookieSessionInterface):
        serializer = TaggedJSONSerializer()

    Interface.serializer.register(TagMoney, index=0)
    app = app_with()
    app.session_interface = Interface()
    value = {1: [Money(3), {" money": 2}], "at": datetime.date(2026, 11, 26)}
    with app.test_request_context("/"):
        g.value = value
        headers = capture_context()
    with restore_context(headers, app):
        assert g.value == value
        assert type(g.value[1][0]) is Money
    with app.test_request_context("/"):
        g.value = {1, object}
        with pytest.raises(CaptureError, match=r"^g\.value cannot travel"):
            capture_context()


# -- explained -----------------------------------------------------------------------

needs_notes = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11"
)


def failing(app: flask.Flask, body: t.Callable[[], t.Any], **visit: t.Any) -> Exception:
    init_app(app)
    task = Shop({"broker_url": "memory://"}).task(
        with_request_context(body), name="fails"
    )
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of each kind
        task.apply(headers=captured(app, **visit)).get()
    return t.cast("Exception", raised.value)


@needs_notes
@pytest.mark.parametrize(
    ("visit", "body", "named"),
    [
        (
            {"method": "POST", "data": {"password": "x", "a": "1"}},
            lambda: request.form["password"],
            "field 'password'",
        ),
        (
            {"method": "POST", "json": {"deep": [{"secretary": 1}]}},
            lambda: request.json["deep"][0]["secretary"],
            "field 'secretary'",
        ),
        (
            {"headers": {"X-Api-Key": "k"}},
            lambda: request.headers["X-Api-Key"],
            "header 'X-Api-Key'",
        ),
        ({}, lambda: session["github_oauth_token"], "session key 'github_oauth_token'"),
    ],
)
def test_an_exception_names_what_was_left_out(
    visit: t.Any, body: t.Any, named: str
) -> None:
    """With the setting that did it, and what to do: the exception itself does not."""
    (note,) = failing(app_with(), body, **visit).__notes__
    assert named in note
    assert "(TASK_CONTEXT_EXCLUDE: set" in note
    assert "as an argument" in note.replace("\n", " ")
    assert "TASK_CONTEXT_ENCRYPT" in note


@needs_notes
def test_a_key_that_the_list_leaves_out_is_named_too() -> None:
    """With its own setting."""
    app = app_with(TASK_CONTEXT_SESSION=["user"], TASK_CONTEXT_EXCLUDE=[])
    (note,) = failing(app, lambda: session["cart"]).__notes__
    assert "session key 'cart'" in note
    assert "(TASK_CONTEXT_SESSION: let the list name it)" in note
    assert "ENCRYPT" not in note


@needs_notes
def test_the_names_travel_on() -> None:
    """A task that captures again tells its children what they have not, the second too."""
    app = app_with()
    with restore_context(captured(app), app):
        delay_with_context(Shop({"broker_url": "memory://"}).tasks["shop.where"])
        headers = capture_context()
    init_app(app)
    task = Shop({"broker_url": "memory://"}).task(
        with_request_context(lambda: session["github_oauth_token"]), name="child"
    )
    with pytest.raises(KeyError) as raised:
        task.apply(headers=headers).get()
    assert "session key 'github_oauth_token'" in raised.value.__notes__[0]


@needs_notes
def test_a_before_request_function_is_told_too() -> None:
    """It may look for what the task has not."""
    app = app_with()
    headers = captured(app, headers={"X-Api-Key": "k"})
    app.before_request(lambda: request.headers["X-Api-Key"] and None)
    init_app(app)
    decorate = with_request_context(before_request=True)
    task = Shop({"broker_url": "memory://"}).task(decorate(lambda: 1), name="hooked")
    with pytest.raises(KeyError) as raised:
        task.apply(headers=headers).get()
    assert "header 'X-Api-Key'" in raised.value.__notes__[0]


@needs_notes
def test_an_exception_has_each_note_once() -> None:
    """Also one that is raised again and again."""
    once = LookupError("always the same")

    def body() -> None:
        raise once

    app = app_with()
    assert failing(app, body) is failing(app, body) is once
    assert len(once.__notes__) == 1


def test_where_nothing_was_left_out_there_is_no_note() -> None:
    """Also where a task fails for a reason of its own or is retried, and where one
    captures another request."""
    app = app_with(TASK_CONTEXT_EXCLUDE=[])
    assert not hasattr(failing(app, lambda: 1 / 0), "__notes__")
    app = app_with()
    init_app(app)

    @with_request_context
    def retries(message: Context) -> None:
        raise Retry

    with pytest.raises(Retry) as retried:
        retries(Context(headers=captured(app)))
    assert not hasattr(retried.value, "__notes__")
    task = Shop({"broker_url": "memory://"}).task(
        with_request_context(lambda: request.form["password"]), name="fails"
    )
    with restore_context(captured(app), app), app.test_request_context("/"):
        headers = capture_context()
    with pytest.raises(KeyError) as raised:
        task.apply(headers=headers).get()
    assert not hasattr(raised.value, "__notes__")


def test_the_names_stay_few_and_short() -> None:
    """A client that sends thousands of passwords, or one twice, does not fill the header."""
    app = app_with()
    data = {f"password{n}{'x' * 100}": "1" for n in range(400)}
    headers = captured(app, method="POST", data=data)
    assert len(headers[HEADER]) < 4000
    headers = captured(app, method="POST", data={"password": ["1", "2"]})
    assert headers[HEADER].count("field 'password'") == 1


@needs_notes
def test_the_workers_log_says_what_was_left_out(tmp_path: Path) -> None:
    """Under the traceback, where one looks at 3 a.m."""
    settings = celery_settings("redis", tmp_path)
    made = secrecy.make_shop(settings)
    worker = secrecy.start_worker(settings, tmp_path / "worker.log")
    try:
        headers = made.capture(data={"password": "canary", "a": "1"})
        made.tasks["shop.read_password"].apply_async(headers=headers)
        worker.wait_for("Of its request this task has not: field 'password'")
        assert "canary" not in worker.log.read_text()
    finally:
        worker.stop()
        drop_queue(made.celery)


# -- without a key -------------------------------------------------------------------


def test_without_a_key_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """In the process that sends and in the one that runs, and the word is unsigned."""
    flask_task_context._warn_of_no_key.cache_clear()
    # Workers of other tests in this process have set the level of all.
    caplog.set_level(logging.WARNING, "flask_task_context")
    app = flask.Flask("keyless")
    init_app(app)
    assert caplog.records == []
    for _ in range(2):
        with app.test_request_context("/"):
            headers = capture_context()
    assert headers[HEADER].startswith("1:unsigned:keyless::")
    restore_context(headers, app)
    flask_task_context._warn_of_no_key.cache_clear()
    restore_context(headers, app)
    sent, run = caplog.records
    for record in (sent, run):
        assert (record.name, record.levelno) == (HEADER, logging.WARNING)
        assert "'keyless' has no SECRET_KEY" in record.getMessage()
    flask_task_context._warn_of_no_key.cache_clear()


# -- what is never silently empty ----------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_LENGTH": "3"},
        {"CONTENT_LENGTH": "1"},
        {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
        {"CONTENT_TYPE": "text/plain", "wsgi.input_terminated": True},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_get_has_a_body_by_each_of_three_keys(environ: dict[str, t.Any]) -> None:
    """One of them alone says so, to what sends it and to what leaves it out."""
    body = b"abc"[: int(environ.get("CONTENT_LENGTH", 3))]
    app = app_with()
    with bare_request(app, environ | {"wsgi.input": io.BytesIO(b"abc")}):
        request.stream.read(1)
        begun = capture_context()
    with bare_request(app, environ | {"wsgi.input": io.BytesIO(b"abc")}):
        headers = capture_context()
        app.config["TASK_CONTEXT_BODY"] = False
        left_out = capture_context()
    with restore_context(headers, app):
        assert request.get_data() == body
    with restore_context(begun, app), pytest.raises(LeftOut, match="had begun to"):
        request.get_data()
    with (
        restore_context(left_out, app),
        pytest.raises(LeftOut, match="TASK_CONTEXT_BODY is False"),
    ):
        request.get_data()


def test_a_post_has_a_body_without_any_of_them() -> None:
    """Where the server ends its input, as over HTTP/2."""
    app = app_with()
    ended = {"REQUEST_METHOD": "POST", "wsgi.input_terminated": True}
    with bare_request(app, ended | {"wsgi.input": io.BytesIO(b"abc")}):
        headers = capture_context()
    with restore_context(headers, app):
        assert request.get_data() == b"abc"


def test_a_length_of_thousands_of_digits() -> None:
    """It is no number to Werkzeug, and no reason to fail."""
    app = app_with()
    with app.test_request_context(
        "/", method="POST", data=b"x", environ_overrides={"CONTENT_LENGTH": "9" * 5000}
    ):
        headers = capture_context()
    with restore_context(headers, app):
        assert request.method == "POST"
    sealed = f"1:unsigned:travels::{'9' * 5000}:x"
    with pytest.raises(flask_task_context.BadContext, match="not one that flask-task"):
        restore_context({HEADER: sealed}, app)


@pytest.mark.parametrize("header", [[], {}, 0, False, 1, b"", ["x"]])
def test_a_header_of_another_type_is_refused(header: t.Any) -> None:
    """It does not count as none: the body does not run."""
    app = app_with()
    init_app(app)
    ran: list[int] = []
    task = Shop({"broker_url": "memory://"}).task(
        with_request_context(lambda: ran.append(1)), name="typed"
    )
    with pytest.raises(flask_task_context.BadContext, match="is no string but of type"):
        task.apply(headers={HEADER: header}).get()
    assert ran == []


@pytest.mark.parametrize("kind", ["application/x-url-encoded", "text/plain"])
def test_a_form_of_an_old_type_keeps_no_password(kind: str) -> None:
    """Werkzeug before 3.0 reads it as a form."""
    app = app_with()
    with app.test_request_context(
        "/", method="POST", data=b"password=canary&a=1", content_type=kind
    ):
        text = secrecy.readable(capture_context()[HEADER])
    assert ("canary" in text) is (kind == "text/plain")


def test_a_session_interface_that_knows_no_null_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its ``save_session`` is not called from a task all the same, and nothing fails."""
    saved: list[str] = []

    class Interface(SecureCookieSessionInterface):
        def is_null_session(self, obj: object) -> bool:
            return False

        def save_session(self, app: t.Any, session: t.Any, response: t.Any) -> None:
            saved.append("task" if flask_task_context._innermost_task() else "view")

    app = app_with()
    app.session_interface = Interface()
    calls: list[str] = []
    app.after_request(lambda response: calls.append("after") or response)  # type: ignore
    init_app(app)
    task = Shop({"broker_url": "memory://"}).task(
        with_request_context(lambda: session["a"]), name="reads"
    )

    @app.get("/")
    def view() -> str:
        session["a"] = 1
        return json.dumps(capture_context())

    headers = json.loads(app.test_client().get("/").text)
    assert task.apply(headers=headers).get() == 1
    assert saved == ["view"]
    assert calls == ["after", "after"]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


# -- what must not get through, or out -------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"password":"canary"}', "application/x-www-form-urlencoded"),
        ('{"next":"/a?b=1","password":"canary"}', "application/x-www-form-urlencoded"),
        ('{"pass\\u0077ord":"canary"}', "application/x-www-form-urlencoded"),
        ("my password is canary", "application/x-www-form-urlencoded"),
        ("tokencanary", "application/x-www-form-urlencoded"),
        ("\uff50assword=canary", "application/x-www-form-urlencoded"),
        ("contraseña=canary", "application/x-www-form-urlencoded"),
        ("straße=1&password=canary", "application/x-www-form-urlencoded"),
        ('{"half a character":"\\ud83d","password":"canary"}', "application/json"),
    ],
)
def test_no_value_gets_out_by_another_way(body: str, kind: str) -> None:
    """JSON that is called a form, a form that is a text, names in raw UTF-8: neither in
    the body nor among the names of what was left out; what is left has its own length."""
    exclude = [*flask_task_context._EXCLUDE, "*contraseña*"]
    app = app_with(TASK_CONTEXT_EXCLUDE=exclude)
    with app.test_request_context(
        "/", method="POST", data=body.encode(), content_type=kind
    ):
        headers = capture_context()
    assert "canary" not in secrecy.readable(headers[HEADER])
    with restore_context(headers, app):
        assert request.content_length == len(request.get_data())


@hypothesis_settings(max_examples=300, deadline=None)
@given(pattern=st.text("ab*", min_size=1), name=st.text("ab", min_size=1))
def test_a_pattern_is_that_of_a_shell(pattern: str, name: str) -> None:
    """A star is any text, the rest stands for itself."""
    app = app_with(TASK_CONTEXT_EXCLUDE=[pattern])
    with app.test_request_context("/", method="POST", json={name: 1}):
        headers = capture_context()
    with restore_context(headers, app):
        assert (request.json == {}) == fnmatch.fnmatchcase(name, pattern)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """A client cannot stop the web process by a name that nearly fits."""
    app = app_with(TASK_CONTEXT_EXCLUDE=["*card*security*code*", "pin*"])
    with app.test_request_context(
        "/",
        method="POST",
        json={"cardsecurity" * 2500: 1, "card-Security_CODE 2": 2, "PIN code": 3},
    ):
        headers = capture_context()  # Cubic, it would take a minute.
    with restore_context(headers, app):
        assert [len(name) for name in request.get_json()] == [30_000]


class Frozen(Exception):
    def __setattr__(self, name: str, value: t.Any) -> None:
        raise TypeError("frozen")

    add_note = None  # type: ignore[assignment]


def test_an_exception_that_takes_no_note_stays_the_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was left out is a line of the log then, as on Python 3.10."""

    def body() -> None:
        raise Frozen("the task's own")

    error = failing(app_with(), body)
    assert str(error) == "the task's own"
    [record] = [r for r in caplog.records if r.name == "flask_task_context"]
    assert "session key 'github_oauth_token'" in record.getMessage()


def test_inside_a_value_of_the_apps_own_type() -> None:
    """Its tag's values arrive equal too, and keys that are excluded stay out."""

    class Ordered(dict[str, t.Any]):
        """Whose ``copy()`` is a plain one."""

    class TagOrdered(JSONTag):
        key = " s"  # As one of ours is.

        def check(self, value: t.Any) -> bool:
            return isinstance(value, Ordered)

        def to_json(self, value: t.Any) -> t.Any:
            return [[k, self.serializer.tag(v)] for k, v in value.items()]

        def to_python(self, value: t.Any) -> t.Any:
            return Ordered(value)

    class Interface(SecureCookieSessionInterface):
        serializer = TaggedJSONSerializer()

    app = app_with()
    app.session_interface = Interface()
    init_app(app)
    # After it: an extension may come later.
    Interface.serializer.register(TagOrdered, index=0)
    inner = {"at": datetime.datetime(2026, 1, 1, 1, 1, 1, 5), 1: {2}, "pwd": "canary"}
    with app.test_request_context("/"):
        session["own"] = Ordered(access_token="canary", inner=inner)
        headers = capture_context()
    assert "canary" not in secrecy.readable(headers[HEADER])
    del inner["pwd"]
    with restore_context(headers, app):
        assert session["own"] == Ordered(inner=inner)
        assert type(session["own"]) is Ordered


def posted(
    app: flask.Flask, body: bytes, length: str, kind: str = "text/plain"
) -> t.Any:
    """A body whose length the client has announced, or that it sends in chunks."""
    made = app.test_request_context("/", method="POST", data=body, content_type=kind)
    if length == "unknown":
        del made.request.environ["CONTENT_LENGTH"]
        made.request.environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        made.request.environ["wsgi.input_terminated"] = True
    return made


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("room", [1, 0, -1])
@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=b"])
def test_a_body_at_flasks_own_limit(
    kind: str, read: bool, room: int, length: str
) -> None:
    """Of exactly ``MAX_CONTENT_LENGTH`` it is whole, and travels."""
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n'
    app = app_with(MAX_CONTENT_LENGTH=len(body) + room)
    form = {"a": "x"} if "form" in kind else {}

    def whole() -> bool:
        return request.get_data() == body and request.form.to_dict() == form

    with posted(app, body, length, kind):
        if read and room >= 0:
            assert whole()
        headers = capture_context()
        if room >= 0:
            assert whole()
    # Of a length that it knows, Werkzeug refuses the task's too.
    with restore_context(
        headers, app if room >= 0 or length == "unknown" else app_with()
    ):
        if room >= 0:
            assert whole()
        else:
            with pytest.raises(LeftOut, match="over MAX_CONTENT_LENGTH"):
                request.get_data()


def test_a_stream_that_is_open_and_over_flasks_own_limit() -> None:
    """Capturing raises nothing; the view hears of it where it reads."""
    app, body = app_with(MAX_CONTENT_LENGTH=10), b"x" * 11
    with posted(app, body, "unknown"):
        stream = request.stream
        headers = capture_context()
        assert stream is not request.stream
        with pytest.raises(RequestEntityTooLarge):
            request.stream.read()
    with restore_context(headers, app), pytest.raises(LeftOut, match="did not travel"):
        request.get_data()


@pytest.mark.parametrize("length", ["known", "unknown"])
def test_a_body_that_fits_into_the_second_message(length: str) -> None:
    """What the first had no room for is all there for the next, which has."""
    app, body = app_with(TASK_CONTEXT_MAX_SIZE=4000), b"0123456789" * 200
    with posted(app, body, length):
        g.value = "x" * 3000
        left_out = capture_context()
        g.value = "x"
        headers = capture_context()
        assert request.get_data() == body
    with restore_context(left_out, app), pytest.raises(LeftOut, match="does not fit"):
        request.get_data()
    with restore_context(headers, app):
        assert ("Content-Length" in request.headers) == (length == "known")
        assert request.get_data() == body


def test_a_form_that_was_read_before_it_was_parsed() -> None:
    """The task can do both, as the view."""
    app, body = app_with(), b"a=1&b=2"
    with posted(app, body, "known", "application/x-www-form-urlencoded"):
        assert (request.get_data(), len(request.form)) == (body, 2)
        headers = capture_context()
    with restore_context(headers, app):
        assert (request.get_data(), len(request.form)) == (body, 2)


@pytest.mark.parametrize("change", ["append", "pop"])
def test_a_variable_more_or_less_is_refused(change: str) -> None:
    """No other version's request is taken for one of this."""
    app = app_with(SECRET_KEY=None)
    with app.test_request_context("/"):
        header = capture_context()[HEADER]
    start, payload = re.fullmatch(r"(.*?::)\d+:(.*)", header).groups()  # type: ignore
    parts = json.loads(payload)
    parts["server"].append(1) if change == "append" else parts["server"].pop()
    payload = json.dumps(parts)
    with pytest.raises(flask_task_context.BadContext, match="cannot be read"):
        restore_context({HEADER: f"{start}{len(payload)}:{payload}"}, app)


def test_a_file_that_is_too_large_is_not_read() -> None:
    """It may be larger than the memory."""

    class Unread(io.BytesIO):
        def read(self, *size: t.Any) -> t.NoReturn:
            pytest.fail("read")

    app = app_with()
    data = {"photo": (io.BytesIO(b"x"), "photo")}
    with app.test_request_context("/", method="POST", data=data):
        request.files["photo"].close()
        request.files["photo"].stream = Unread(bytes(100_000))
        request.files["photo"].filename = None
        headers = capture_context()
    with restore_context(headers, app):
        assert request.files["photo"].filename is None
        with pytest.raises(LeftOut, match="100000 bytes"):
            request.files["photo"].read()


def test_no_variable_of_ours_is_in_an_error_report() -> None:
    """Where a receiver of the signals raises, as where we raise."""
    app = app_with()

    def broken(sender: t.Any, entries: t.Any) -> None:
        raise LookupError("broken receiver")

    def ours(error: BaseException) -> str:
        text, trace = "", error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals is vars(flask_task_context):
                text += repr(trace.tb_frame.f_locals)
            trace = trace.tb_next
        return text

    def capture() -> t.Any:
        session["a"] = "canary"
        g.value = "canary"
        return capture_context()

    with app.test_request_context("/"):
        headers = capture()
        with (
            flask_task_context.context_captured.connected_to(broken, app),
            pytest.raises(LookupError) as captured,
        ):
            capture()
        assert "canary" not in ours(captured.value)
    with (
        flask_task_context.context_restored.connected_to(broken, app),
        pytest.raises(LookupError) as restored,
        restore_context(headers, app),
    ):
        pytest.fail("restored")
    assert "canary" not in ours(restored.value)
