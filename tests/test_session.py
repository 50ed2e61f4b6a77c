"""The session and g: a snapshot that travels, and changes nothing elsewhere."""

from __future__ import annotations

import collections
import contextlib
import datetime
import enum
import functools
import time
import typing as t
import uuid
import warnings
from collections import UserDict
from pathlib import Path

import flask
import pytest
import redis
from celery.app.task import Context
from flask import g
from flask import session
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface
from flask.sessions import SessionMixin
from markupsafe import Markup
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_task_context import CaptureError
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import bases
from tests import secrecy
from tests.conftest import Shop
from tests.conftest import celery_settings
from tests.conftest import drop_queue

TAGGED = {
    "datetime": datetime.datetime(2026, 11, 22, 9, 30, tzinfo=datetime.timezone.utc),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "bytes": b"\x00\xff bytes",
    "markup": Markup("<b>bold</b>"),
    "tuple": (1, (2, "three")),
    "dict": {" t": "looks like a tag"},
    "list": [None, True, 1.5, "é\ud800", 2**70],
}


@pytest.fixture(scope="module")
def typed_shop(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Shop]:
    folder = tmp_path_factory.mktemp("typed")
    settings = celery_settings("redis", folder)
    worker = secrecy.start_worker(settings, folder / "worker.log")
    made = secrecy.make_shop(settings)
    yield made
    worker.kill()
    drop_queue(made.celery)


# -- what travels ----------------------------------------------------------------


def test_tagged_values_keep_their_types_across_processes(typed_shop: Shop) -> None:
    """datetime, UUID, bytes, Markup and tuple of the session arrive as themselves."""

    def view() -> str:
        session.update(TAGGED)
        task = typed_shop.tasks["shop.tagged_session"]
        return str(delay_with_context(task).get(timeout=30))

    arrived = TaggedJSONSerializer().loads(typed_shop.visit(view))
    assert arrived == TAGGED
    assert {k: type(v) for k, v in arrived.items()} == {
        k: type(v) for k, v in TAGGED.items()
    }


def test_the_session_travels_as_it_is_at_the_moment_of_dispatch(
    plain_shop: Shop,
) -> None:
    """Neither the cookie's old values nor those set after the capture arrive."""

    def before() -> str:
        session.update(now="in the cookie", gone=1, kept=2)
        return "ok"

    def view() -> t.Any:
        session["now"] = "at dispatch"
        session.pop("gone")
        headers = capture_context()
        session["now"] = "after dispatch"
        session["later"] = True
        return headers

    client = plain_shop.flask.test_client()
    plain_shop.flask.extensions["view"] = before
    client.post("/item/3")
    seen: list[t.Any] = []
    plain_shop.flask.extensions["view"] = lambda: (seen.append(view()), "ok")[1]
    client.post("/item/3")
    with restore_context(seen[0], plain_shop.flask):
        assert dict(session) == {"now": "at dispatch", "kept": 2}
    plain_shop.flask.extensions["view"] = lambda: dict(session)
    assert client.post("/item/3").json == {
        "now": "after dispatch",
        "later": True,
        "kept": 2,
    }


# -- what cannot travel ------------------------------------------------------------


class Unknown:
    def __repr__(self) -> str:
        return "<unknown>"


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    S = 1


def endless() -> list[t.Any]:
    value: list[t.Any] = []
    value.append(value)
    return value


BAD_VALUES = {
    "object": (Unknown, "Object of type Unknown is not JSON serializable"),
    "nested": (lambda: {"a": [{Unknown()}]}, "Object of type Unknown is not JSON"),
    "endless": (endless, "recursion|Circular"),
    "key": (lambda: {Unknown(): 3}, "Object of type Unknown is not JSON serializable"),
    "enum of text": (
        lambda: Colour.RED,
        "Object of type Colour is not JSON serializable",
    ),
    "enum of numbers": (
        lambda: [Size.S],
        "Object of type Size is not JSON serializable",
    ),
    "a dict of its own": (
        lambda: collections.OrderedDict(a=1),
        "Object of type OrderedDict is not JSON serializable",
    ),
}


@pytest.mark.parametrize("kind", BAD_VALUES)
@pytest.mark.parametrize("place", ["session", "g"])
def test_a_value_that_cannot_be_serialized_is_named(
    plain_shop: Shop, place: str, kind: str
) -> None:
    """The error says which value of the session or g it is, and what to do."""
    make, reason = BAD_VALUES[kind]
    label = {"session": r"session\['cart'\]", "g": r"g\.tenant"}[place]
    setting = {"session": "TASK_CONTEXT_SESSION", "g": "TASK_CONTEXT_G"}[place]

    def view() -> None:
        session["fine"] = 1
        if place == "g":
            g.tenant = make()
        else:
            session["cart"] = make()
        with pytest.raises(
            CaptureError,
            match=rf"(?s)^{label} cannot travel with a task: .*({reason}).*"
            rf"Make it a value of Python's plain types, or leave it out of {setting}\.$",
        ):
            delay_with_context(plain_shop.tasks["shop.where"])
        session.pop("cart", None)

    plain_shop.visit(view)


def test_a_name_that_cannot_be_serialized_is_named(plain_shop: Shop) -> None:
    """A key of the session that JSON cannot hold is an error that names it."""

    def view() -> None:
        session[Size.S] = "three"  # type: ignore[index]
        with pytest.raises(
            CaptureError,
            match=r"^session\[<Size.S: 1>\] cannot travel with a task: Object of type Size",
        ):
            capture_context()
        session.clear()

    plain_shop.visit(view)


# -- the view's response -------------------------------------------------------------


def untouched() -> str:
    return "untouched"


def read() -> str:
    return f"cart: {session.get('cart')}"


def written() -> str:
    session["cart"] = "plum"
    return "written"


def made_permanent() -> str:
    session.permanent = True
    return "permanent"


def emptied() -> str:
    session.clear()
    return "emptied"


VIEWS = (untouched, read, written, made_permanent, emptied)


def answer(app: flask.Flask, cookie: str | None) -> tuple[str, list[t.Any], bytes]:
    """All that the app gives to its WSGI server."""
    headers = {"Cookie": cookie} if cookie else {}
    environ = create_environ("/item/3", method="POST", data=b"a=1", headers=headers)
    content, status, sent = run_wsgi_app(app, environ, buffered=True)
    return status, list(sent), b"".join(content)


@pytest.mark.parametrize("cookie", [True, False], ids=["cookie", "no cookie"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
def test_the_response_is_the_same_with_and_without_capture(
    view: t.Callable[[], str], cookie: bool, encrypt: bool
) -> None:
    """Status, headers (Vary and Set-Cookie too) and body are those without capture."""
    app = secrecy.create_app(TASK_CONTEXT_ENCRYPT=encrypt)
    sent = cookie_of(app, cart="pear") if cookie else None

    def capturing() -> str:
        assert capture_context()
        result = view()
        assert capture_context()
        return result

    for _ in range(60):  # until both answers are of one second: cookies hold the time
        started = int(time.time())
        app.extensions["view"] = view
        plain = answer(app, sent)
        app.extensions["view"] = capturing
        captured = answer(app, sent)
        if int(time.time()) == started:
            break
    assert plain[0] == "200 OK"
    assert captured == plain


def capture_and(view: t.Callable[[], str], seen: list[t.Any]) -> str:
    seen.append(capture_context())
    return view()


class TrackedSession(UserDict, SessionMixin):  # type: ignore
    """A session that is no dict, as some extensions have, and sees each access."""

    accessed = False

    def __getitem__(self, key: str) -> t.Any:
        self.accessed = True
        return super().__getitem__(key)


class TrackingInterface(SessionInterface):
    def open_session(self, app: flask.Flask, request: flask.Request) -> t.Any:
        return TrackedSession(cart="pear")

    def save_session(self, app: t.Any, session: t.Any, response: t.Any) -> None:
        if session.accessed:
            response.vary.add("Cookie")


def test_capture_is_no_access_of_a_session_that_is_no_dict() -> None:
    """A session class of an extension's own travels, and counts as accessed only
    where the view itself has read it."""
    app = secrecy.create_app()
    app.session_interface = TrackingInterface()
    varies = {}
    for view in (untouched, read):
        seen: list[t.Any] = []
        app.extensions["view"] = functools.partial(capture_and, view, seen)
        status, headers, _ = answer(app, None)
        assert status == "200 OK"
        varies[view.__name__] = dict(headers).get("Vary")
        with restore_context(seen[0], app):
            assert session["cart"] == "pear"
    assert varies == {"untouched": None, "read": "Cookie"}


def cookie_of(app: flask.Flask, **values: t.Any) -> str:
    """The cookie of a visitor whose session holds ``values``."""
    app.extensions["view"] = lambda: (session.update(values), "ok")[1]
    _, headers, _ = answer(app, None)
    (cookie,) = (value for key, value in headers if key == "Set-Cookie")
    return str(cookie).partition(";")[0]


# -- a session store --------------------------------------------------------------


def contents(url: str) -> dict[bytes, bytes]:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        return {key: client.get(key) for key in client.scan_iter()}  # type: ignore


@pytest.fixture
def store() -> t.Iterator[str]:
    with secrecy.private_redis() as url:
        yield url


@pytest.mark.parametrize("hooks", [False, True], ids=["task", "task and hook"])
def test_a_task_writes_nothing_to_the_session_store(
    tmp_path: Path, store: str, hooks: bool
) -> None:
    """Flask-Session's Redis holds the same keys and values before and after a task
    that changed the session, alone and with its hook, and the worker's log has one
    warning that says so."""
    config = {"SESSION_TYPE": "redis", "SESSION_REDIS_URL": store}
    settings = celery_settings("redis", tmp_path)
    made = secrecy.make_shop(settings, **config)
    client = made.flask.test_client()
    seen: list[t.Any] = []

    def view() -> str:
        session["cart"] = {"pear": 2}
        seen.append(capture_context())
        return "ok"

    made.flask.extensions["view"] = view
    assert client.post("/item/3").status_code == 200
    before = contents(store)
    assert len(before) == 2, before

    worker = secrecy.start_worker(
        settings,
        tmp_path / "worker.log",
        environ={"PYTHONWARNINGS": "always"},
        **config,
        HOOKS_CHANGE_SESSION=hooks,
    )
    try:
        first, second = (
            made.tasks[name].apply_async(headers=seen[0])
            for name in ("shop.change_session", "shop.everything")
        )
        assert first.get(timeout=30) == {
            "_permanent": True,
            "changed": "by the task",
            "again": 1,
        }
        assert second.get(timeout=30)["session"] == {
            "_permanent": True,
            "cart": {"pear": 2},
        }
    finally:
        worker.stop()
        drop_queue(made.celery)
    assert contents(store) == before
    log = worker.log.read_text()
    assert log.count("changed its session.") == 1, log
    assert log.count("The task 'shop.change_session' changed its session.") == 1, log


def test_a_changed_session_is_reported_once_for_each_task(plain_shop: Shop) -> None:
    """However often a task changes its session, one warning is issued, which names it
    and points at its function."""
    headers = plain_shop.capture()
    init_app(plain_shop.flask)

    def change() -> None:
        session["a"] = 1
        session["b"] = 2
        del session["a"]

    tasks = [
        plain_shop.task(with_request_context(change), name="one"),
        plain_shop.task(with_request_context(change), name="two"),
        plain_shop.task(change, name="three", base=bases.Queues),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for task in (*tasks, *tasks):
            task.apply(headers=headers).get()
    assert [str(warning.message) for warning in caught] == [
        f"The task '{name}' changed its session. It is a copy of the visitor's: no"
        " session store and no cookie is written. Change it in a view."
        for name in ("one", "two", "three")
    ]
    assert {warning.filename for warning in caught} == {__file__}


def test_a_function_outside_of_any_task_is_named_too(plain_shop: Shop) -> None:
    """As one that the worker's main process calls with a message that failed."""
    headers = plain_shop.capture()
    init_app(plain_shop.flask)

    @with_request_context
    def handle(message: Context) -> None:
        session["seen"] = 1

    with pytest.warns(UserWarning, match=r"^The task '.*\.handle' changed its"):
        handle(Context(headers=headers))


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda: session.update(csrf_token="t", _fresh=False), False),
        (lambda: session.pop("_id"), False),
        (lambda: session.update(_fresh=False, cart=1), True),
        (lambda: session["cart"].append(1) or setattr(session, "modified", True), True),
    ],
)
def test_what_an_extension_changes_is_not_reported(
    plain_shop: Shop, change: t.Callable[[], t.Any], reported: bool
) -> None:
    """Flask-Login's and Flask-WTF's own keys are not the task's doing."""

    def view() -> t.Any:
        session.update(cart=[], _id="i", _fresh=True)
        return capture_context()

    headers = plain_shop.visit(view)
    init_app(plain_shop.flask)
    task = plain_shop.task(with_request_context(lambda: change() and None), name="c")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task.apply(headers=headers).get()
    assert len(caught) == reported


CHANGES: dict[str, t.Callable[[], t.Any]] = {
    "set": lambda: session.__setitem__("cart", 1),
    "delete": lambda: session.__delitem__("cart"),
    "pop": lambda: session.pop("cart"),
    "popitem": lambda: session.popitem(),
    "clear": lambda: session.clear(),
    "update": lambda: session.update(cart=1),
    "setdefault": lambda: session.setdefault("new", 1),
    "permanent": lambda: setattr(session, "permanent", True),
    "flash": lambda: flask.flash("hello"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_way_to_change_a_session_works_and_warns(
    plain_shop: Shop, change: str
) -> None:
    """All of a session's own methods work on the copy, and each is reported."""

    def view() -> t.Any:
        session["cart"] = 0
        return capture_context()

    headers = plain_shop.visit(view)

    def task() -> None:
        CHANGES[change]()
        assert dict(session) != {"cart": 0}

    init_app(plain_shop.flask)
    made = plain_shop.task(with_request_context(task), name=f"changes by {change}")
    with pytest.warns(UserWarning, match=rf"^The task 'changes by {change}' changed"):
        made.apply(headers=headers).get()
