"""Every message that a user can meet, with its whole text and how to meet it."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import sys
import tempfile
import types
import typing as t
import warnings
from pathlib import Path

import flask
import pytest
from celery import Celery
from celery import Task
from celery import current_task
from celery.app.task import Context
from flask import g
from flask import request
from flask import session
from werkzeug.exceptions import ClientDisconnected
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import redirect

import flask_task_context
from flask_task_context import BadContext
from flask_task_context import CaptureError
from flask_task_context import LeftOut
from flask_task_context import RequestRefused
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import context_captured
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import shop
from tests.conftest import Shop
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue

HEADER = "flask_task_context"
MEMORY = {"broker_url": "memory://", "result_backend": "cache+memory://"}
ENCRYPT = {"TASK_CONTEXT_ENCRYPT": True}


class Message:
    def __init__(
        self,
        situation: str,
        meet: t.Callable[[], t.Any],
        error: type[Exception],
        text: str | t.Callable[[], str],
    ) -> None:
        self.situation, self.meet, self.error = situation, meet, error
        self._text = text

    @property
    def text(self) -> str:
        return self._text if isinstance(self._text, str) else self._text()


# -- where the Flask app is made -----------------------------------------------------

SHOP = Shop(MEMORY)
CELERY = SHOP.celery


def made(**config: t.Any) -> t.Callable[[], None]:
    return lambda: init_app(shop.create_app(**config))


@contextlib.contextmanager
def without_cryptography() -> t.Iterator[None]:
    """As in a process that has not installed it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*sys.modules, "cryptography"]:
            if name.partition(".")[0] == "cryptography":
                patch.setitem(sys.modules, name, None)
        yield


def made_without_cryptography() -> None:
    with without_cryptography():
        made(**ENCRYPT)()


#: What is wrong, and what to do about it.
NOT_MEANT: dict[str, list[t.Any]] = {
    "make it True or False.": [("AUTO", "false"), ("BODY", 1), ("ENCRYPT", "false")],
    "make it True, False or a list of names.": [("SESSION", "cart"), ("SESSION", [1])],
    "make it a list of names.": [
        ("G", "user"),
        ("G", 5),
        ("EXCLUDE", "password"),
        ("EXCLUDE", [None]),
    ],
    "make it a number of characters, such as 65536.": [
        ("MAX_SIZE", size) for size in ("64", None, 1.5, True, 0)
    ],
}
WRONG: list[tuple[dict[str, t.Any], type[Exception], str]] = [
    *(
        (
            {f"TASK_CONTEXT_{key}": value},
            TypeError,
            f"TASK_CONTEXT_{key} is {value!r}: {do}",
        )
        for do, settings in NOT_MEANT.items()
        for key, value in settings
    ),
    *(
        (
            {"TASK_CONTEXT_G": [name]},
            ValueError,
            (
                f"TASK_CONTEXT_G holds {name!r}, which is no attribute of g: make it a list of"
                " their names."
            ),
        )
        for name in ("g.user", "__class__")
    ),
    *(
        (
            {f"TASK_CONTEXT_{wrong}": True},
            ValueError,
            (
                f"There is no setting 'TASK_CONTEXT_{wrong}': 'TASK_CONTEXT_{right}' is the"
                " nearest."
            ),
        )
        for wrong, right in {"ENCRYPTION": "ENCRYPT", "EXLUDE": "EXCLUDE"}.items()
    ),
    *(
        (
            {"SECRET_KEY_FALLBACKS": fallbacks},
            TypeError,
            "SECRET_KEY_FALLBACKS is one key: make it a list of keys.",
        )
        for fallbacks in ("old", 5)
    ),
    (
        {"SECRET_KEY": 5},
        TypeError,
        (
            "SECRET_KEY or one of SECRET_KEY_FALLBACKS is of type 'int': make it a string or"
            " bytes."
        ),
    ),
    (
        {**ENCRYPT, "SECRET_KEY": None},
        RuntimeError,
        (
            "TASK_CONTEXT_ENCRYPT needs a SECRET_KEY, and the app 'shop' has none: set one"
            " before 'init_app', the same in every process."
        ),
    ),
]
WHERE_THE_APP_IS_MADE = [
    Message(
        "init_app with the Celery app",
        lambda: init_app(CELERY),
        TypeError,
        f"{CELERY!r} is not a Flask app: call 'init_app' with the app itself, where it"
        " is made.",
    ),
    Message(
        "init_app with a factory",
        lambda: init_app(shop.create_app),  # type: ignore[arg-type]
        TypeError,
        f"{shop.create_app!r} is not a Flask app: call 'init_app' with the app itself,"
        " where it is made.",
    ),
    Message(
        "init_app with nothing",
        lambda: init_app(None),  # type: ignore[arg-type]
        TypeError,
        "None is not a Flask app: call 'init_app' with the app itself, where it is"
        " made.",
    ),
    *(
        Message(
            f"init_app with a name that is none: {name!r}",
            lambda name=name: init_app(flask.Flask("shop"), name=name),  # type: ignore
            TypeError,
            f"The app's name is {name!r}: make it a string that is not empty.",
        )
        for name in ("", 5)
    ),
    Message(
        "TASK_CONTEXT_ENCRYPT without the extra",
        made_without_cryptography,
        RuntimeError,
        "TASK_CONTEXT_ENCRYPT is set, and the package 'cryptography' cannot be imported"
        " in this process: install 'flask-task-context[encryption]' for the web process"
        " and for the worker.",
    ),
    *(Message(str(config), made(**config), *said) for config, *said in WRONG),
]


# -- where a task is decorated -------------------------------------------------------


@with_request_context
class Decorated(Task):  # type: ignore[misc]
    """Without a ``__call__`` of its own."""


class Empty(Task):  # type: ignore[misc]
    name = "empty"


class CanBeCalled:
    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return "CanBeCalled()"


class Awaited:
    def __init__(self) -> None:
        self.__name__ = self.__qualname__ = "awaited"

    async def __call__(self) -> None: ...


async def coroutine() -> None: ...


async def async_generator() -> t.AsyncIterator[int]:
    yield 1


def generator() -> t.Iterator[int]:
    yield 1


def decorated(task: t.Any, **options: t.Any) -> t.Callable[[], t.Any]:
    return lambda: with_request_context(**options)(task)


WHERE_A_TASK_IS_DECORATED = [
    Message(
        "on something else",
        decorated(3),
        TypeError,
        "3 is no function and no task: put '@with_request_context' on a function below"
        " '@app.task', or on the task above it.",
    ),
    Message(
        "on a class that is no task",
        decorated(dict),
        TypeError,
        "<class 'dict'> is no function and no task: put '@with_request_context' on a"
        " function below '@app.task', or on the task above it.",
    ),
    Message(
        "an import string where the task belongs",
        lambda: with_request_context("shop:create_app"),  # type: ignore[type-var]
        TypeError,
        "'shop:create_app' is no function and no task: name an app with"
        " '@with_request_context(app=...)'.",
    ),
    Message(
        "a Flask app where the task belongs",
        lambda: with_request_context(SHOP.flask),
        TypeError,
        "<Flask 'shop'> is no function and no task: name an app with"
        " '@with_request_context(app=...)'.",
    ),
    Message(
        "app= is something else",
        decorated(shop.where, app=CELERY),
        TypeError,
        f"app={CELERY!r} is no Flask app: pass one, its factory, or an import string"
        " such as 'shop:create_app'.",
    ),
    Message(
        "twice, below and above",
        decorated(CELERY.tasks["shop.where"], after_request=False),
        TypeError,
        "'where' has '@with_request_context' twice: keep one of them.",
    ),
    Message(
        "twice, on a base class",
        decorated(Decorated),
        TypeError,
        "'Decorated.__call__' has '@with_request_context' twice: keep one of them.",
    ),
    Message(
        "on an object that can be called",
        decorated(CanBeCalled()),
        TypeError,
        "CanBeCalled() has no name: decorate a function that calls it.",
    ),
    *(
        Message(
            f"on an async function: {function.__name__}",
            decorated(function),
            TypeError,
            f"{function.__name__!r} is an async function, which Celery does not await: its"
            " body would run outside of the request. Make it a plain function.",
        )
        for function in (coroutine, async_generator, Awaited())
    ),
    Message(
        "on a generator function",
        decorated(generator),
        TypeError,
        "'generator' is a generator function: its body would run outside of the"
        " request. Return a list.",
    ),
    Message(
        "on Celery's own class",
        decorated(Task),
        TypeError,
        f"{Task!r} is Celery's own: decorate a subclass of it.",
    ),
]


# -- in the view ---------------------------------------------------------------------


def visit(view: t.Callable[[], t.Any], config: t.Any = (), **options: t.Any) -> t.Any:
    """What a view gives, or raises, in a request to a shop with this config."""
    return Shop(MEMORY, TESTING=True, **dict(config)).visit(view, **options)


def sending(
    task: t.Any, send: t.Any = apply_async_with_context, **options: t.Any
) -> t.Callable[[], t.Any]:
    return lambda: visit(lambda: send(task, **options))


def with_value(name: str, value: t.Any) -> t.Callable[[], t.Any]:
    def view() -> t.Any:
        setattr(g, name, value)
        return capture_context()

    return lambda: visit(view)


def with_session() -> None:
    session["cart"] = object()
    delay_with_context(CELERY.tasks["shop.add"], 1)


def with_entry() -> None:
    def receive(app: flask.Flask, entries: dict[str, t.Any]) -> None:
        entries["trace"] = object()

    with context_captured.connected_to(receive):
        visit(capture_context)


def large() -> t.Any:
    g.tenant = "t" * 5000
    session["cart"] = "c" * 900
    return capture_context()[HEADER]


LONG = {"headers": {"X-Long": "h" * 500}}


def too_large() -> str:
    return (
        f"The request's context has {len(visit(large, **LONG))} characters, and"
        " TASK_CONTEXT_MAX_SIZE is 2000. Nothing was sent. The largest parts: g.tenant"
        " (5013), session['cart'] (911), request variable HTTP_X_LONG (502). Store"
        " large values in the view and pass their keys to the task, or leave them out by"
        " TASK_CONTEXT_SESSION, TASK_CONTEXT_G and TASK_CONTEXT_BODY."
    )


def large_by_plain_delay() -> None:
    g.tenant = "t" * 5000
    session["cart"] = "c" * 900
    CELERY.tasks["plain.add"].delay(1)


def reading_what_broke_off() -> None:
    def view() -> ClientDisconnected:
        try:
            return t.cast("t.NoReturn", capture_context())
        except ClientDisconnected as error:  # Flask would answer it
            return error

    raise visit(view, **BROKEN_OFF)


NOT_JSON = "Object of type object is not JSON serializable"
PLAIN = "Make it a value of Python's plain types, or leave it out of"
BROKEN_OFF = {"data": b"hel", "environ_overrides": {"CONTENT_LENGTH": "5"}}
#: By a server that says that it ends the body itself.
CUT_SHORT: dict[str, t.Any] = {
    "data": b"hel",
    "environ_overrides": {"CONTENT_LENGTH": "5", "wsgi.input_terminated": True},
}

IN_THE_VIEW = [
    Message(
        "a function that is no task",
        sending(shop.add),
        TypeError,
        f"{shop.add!r} is not a Celery task: put '@app.task' or '@shared_task' on it,"
        " or pass one of its signatures.",
    ),
    *(
        Message(
            f"a task's name: {send.__name__}",
            sending("shop.add", send),
            TypeError,
            "'shop.add' is not a Celery task: pass the task and then its arguments, not"
            " what a call of it returned; for a task's name 'celery_app.send_task(name,"
            " args, headers=capture_context())'.",
        )
        for send in (apply_async_with_context, delay_with_context)
    ),
    Message(
        "a task class",
        sending(Empty),
        TypeError,
        f"{Empty!r} is not a Celery task: pass the task that"
        " 'celery_app.register_task' made of it.",
    ),
    Message(
        "task.delay",
        sending(CELERY.tasks["shop.add"].delay),
        TypeError,
        f"{CELERY.tasks['shop.add'].delay!r} is not a Celery task: pass the task, not a"
        " method of it, and then its arguments.",
    ),
    Message(
        "task()",
        sending(CELERY.tasks["plain.add"](1, 2)),
        TypeError,
        "3 is not a Celery task: pass a task, a signature or a canvas, and not what a"
        " task returned.",
    ),
    Message(
        "headers= is a list",
        sending(CELERY.tasks["shop.add"], headers=[("a", "b")]),
        TypeError,
        "'headers' is of type 'list': make it a dict of message headers.",
    ),
    Message(
        "a value of g",
        with_value("tenant", object()),
        CaptureError,
        f"g.tenant cannot travel with a task: {NOT_JSON}. {PLAIN} TASK_CONTEXT_G.",
    ),
    Message(
        "text that JSON would change",
        with_value("tenant", "\ud83d\ude00"),
        CaptureError,
        "g.tenant cannot travel with a task: JSON makes one character of two surrogates."
        f" {PLAIN} TASK_CONTEXT_G.",
    ),
    Message(
        "a value of the session",
        lambda: visit(with_session),
        CaptureError,
        f"session['cart'] cannot travel with a task: {NOT_JSON}. {PLAIN}"
        " TASK_CONTEXT_SESSION.",
    ),
    Message(
        "a signal's entry",
        with_entry,
        CaptureError,
        f"signal entry 'trace' cannot travel with a task: {NOT_JSON}. {PLAIN} the entries"
        " of 'context_captured'.",
    ),
    Message(
        "a server that puts odd things into the environ",
        lambda: visit(capture_context, environ_overrides={"SERVER_PORT": object()}),
        CaptureError,
        f"The request cannot travel with a task: {NOT_JSON}. Look for it in"
        " 'request.environ'.",
    ),
    Message(
        "too large",
        lambda: visit(large, {"TASK_CONTEXT_MAX_SIZE": 2000}, **LONG),
        CaptureError,
        too_large,
    ),
    Message(
        "too large, with TASK_CONTEXT_AUTO",
        lambda: visit(
            large_by_plain_delay,
            {"TASK_CONTEXT_MAX_SIZE": 2000, "TASK_CONTEXT_AUTO": True},
            **LONG,
        ),
        CaptureError,
        too_large,
    ),
    Message(
        "a client that hung up, as the view hears of it",
        reading_what_broke_off,
        ClientDisconnected,
        str(ClientDisconnected()),
    ),
]


# -- in the worker -------------------------------------------------------------------


def key_id(secret: str) -> str:
    return flask_task_context._Key(secret).id


def header_of(path: str = "/item/3", **config: t.Any) -> str:
    return Shop(MEMORY, **config).capture(path)[HEADER]


def where_run(
    header: t.Any, config: t.Any = (), body: t.Callable[[], t.Any] = shop.where
) -> t.Any:
    """Run a task with this header, in an app with this config."""
    if config is not None:
        init_app(shop.create_app(**dict(config)))
    task = Celery("worker", set_as_current=False).task(
        with_request_context(body), name="run", shared=False
    )
    return task.apply(headers={HEADER: header}).get()


def running(header: t.Any, **config: t.Any) -> t.Callable[[], t.Any]:
    return lambda: where_run(header() if callable(header) else header, config)


SERVER = ["GET", "", "/", "", "h", "80", "HTTP/1.1", None, "http", *[False] * 3]


def plain(**parts: t.Any) -> str:
    payload = json.dumps({"server": SERVER, "environ": {}, **parts})
    return f"1:unsigned:shop::{len(payload)}:{payload}"


def flipped(header: str) -> str:
    return header[:-60] + ("B" if header[-60] == "A" else "A") + header[-59:]


def spelt_otherwise() -> str:
    """The same bytes: base64 does not use all bits of its last character."""
    paths = (f"/item/3?{'x' * n}" for n in range(3))
    headers = (header_of(path, **ENCRYPT) for path in paths)
    header = next(header for header in headers if header.endswith("="))
    last = header.rstrip("=")[-1]
    other = chr(ord(last) + 1)
    return header.replace(last + "=", other + "=")


def of_another_alphabet() -> str:
    header = header_of(**ENCRYPT)
    return f"{header[:-60]}+{header[-59:]}"


def cut() -> str:
    whole = int(header_of().split(":")[4]) + len(".") + 43
    return (
        f"The context was cut or changed on its way: {whole - 9} characters have"
        f" arrived where {whole} were sent. {LOOK}"
    )


def without_the_extra() -> None:
    header = header_of(**ENCRYPT)
    with without_cryptography():
        where_run(header)


def of_several_apps(header: str) -> None:
    init_app(flask.Flask("blog"))
    init_app(flask.Flask("wiki"))
    where_run(header, None)


def with_app(app: t.Any, **environ: str) -> t.Callable[[], t.Any]:
    def meet() -> None:
        with (
            tempfile.TemporaryDirectory() as empty,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.chdir(empty)
            patch.setattr(sys, "path", [*sys.path])  # Flask adds the folder
            patch.delenv("FLASK_APP", raising=False)
            for name, value in environ.items():
                patch.setenv(name, value)
            with_request_context(app=app)(shop.where)()

    return meet


def forty_two() -> t.Any:
    return 42


def refused(how: t.Callable[[], t.Any]) -> t.Callable[[], t.Any]:
    def meet() -> None:
        made = Shop(MEMORY)
        made.flask.before_request(lambda: how() if current_task else None)
        init_app(made.flask)
        decorate = with_request_context(before_request=True)
        made.task(decorate(shop.where), name="run").apply(headers=made.capture()).get()

    return meet


def change_session() -> None:
    session["cart"] = 1


TO_LOGIN = redirect("/login", Response=flask.Response)
TEAPOT = flask.Response(status=418)
LOOK = "Find what changes message headers between the sender and this worker."
NOT_OURS = (
    "The context is not one that flask-task-context wrote: find what writes the message"
    " header 'flask_task_context'."
)
NO_EXTRA = (
    "The context is encrypted, and the package 'cryptography' cannot be imported in this"
    " process: install 'flask-task-context[encryption]' for the web process and for the"
    " worker."
)
FOREIGN_KEY = (
    "The context is signed with a SECRET_KEY that the app 'shop' does not have in this"
    " process: give every process the same key (not one that 'os.urandom' or 'secrets'"
    " makes anew at each start), and old ones in SECRET_KEY_FALLBACKS. The context's key"
    " has the id "
)
FORGED = f"The context was changed on its way: its signature is wrong. {LOOK}"
NO_APP = (
    "No Flask app for this task: call 'flask_task_context.init_app(app)' in a module that"
    " the worker imports, set FLASK_APP for the worker, or use"
    " '@with_request_context(app=\"module:create_app\")'. Flask's own search says: Could"
    " not locate a Flask application. Use the 'flask --app' option, 'FLASK_APP'"
    " environment variable, or a 'wsgi.py' or 'app.py' file in the current directory."
)
NEWER = (
    f"The context has format 2, and this flask-task-context"
    f" ({flask_task_context.__version__}) reads up to 1: update it in the worker first."
)
ANSWERED = (
    "A before-request function answered the task's request with '200 OK': let it"
    " pass, or leave out 'before_request=True' of the task."
)
NOT_SIGNED = (
    "The context is unsigned, and the app 'shop' takes only signed ones in this process:"
    " give the process that sent it the same SECRET_KEY and TASK_CONTEXT_ENCRYPT."
)

IN_THE_WORKER = [
    Message(
        "a header of another type",
        running(b"1:signed:"),
        BadContext,
        "The context is no string but of type 'bytes': send it as 'capture_context'"
        " gives it.",
    ),
    Message("somebody else's header", running("garbage"), BadContext, NOT_OURS),
    Message(
        "another alphabet",
        running("\N{ARABIC-INDIC DIGIT TWO}:signed:shop::2:{}"),
        BadContext,
        NOT_OURS,
    ),
    Message("another kind", running("1:bare:shop::2:{}"), BadContext, NOT_OURS),
    Message(
        "a newer format",
        running(lambda: "2" + header_of()[1:]),
        BadContext,
        NEWER,
    ),
    Message("cut", running(lambda: header_of()[:-9]), BadContext, cut),
    Message("forged", running(lambda: flipped(header_of())), BadContext, FORGED),
    Message(
        "forged, encrypted",
        running(lambda: flipped(header_of(**ENCRYPT))),
        BadContext,
        f"The context was changed on its way: it does not decrypt. {LOOK}",
    ),
    Message(
        "encrypted, in another spelling",
        running(spelt_otherwise),
        BadContext,
        f"The context was changed on its way: it does not decrypt. {LOOK}",
    ),
    Message(
        "encrypted, in another alphabet",
        running(of_another_alphabet),
        BadContext,
        f"The context was changed on its way: it does not decrypt. {LOOK}",
    ),
    Message("encrypted, without the extra", without_the_extra, BadContext, NO_EXTRA),
    Message(
        "another key",
        running(lambda: header_of(SECRET_KEY="another")),
        BadContext,
        f"{FOREIGN_KEY}'{key_id('another')}', and this process has '{key_id('shop key')}'.",
    ),
    Message(
        "a key in the worker alone",
        running(lambda: header_of(SECRET_KEY=None)),
        BadContext,
        NOT_SIGNED,
    ),
    Message(
        "a key in the web process alone",
        running(header_of, SECRET_KEY=None),
        BadContext,
        "The context is signed, and the app 'shop' has no SECRET_KEY in this process:"
        " set the one of the process that sent it.",
    ),
    *(
        Message(
            f"TASK_CONTEXT_ENCRYPT in the worker alone: {kind}",
            running(lambda key=key: header_of(SECRET_KEY=key), **ENCRYPT),
            BadContext,
            f"The context is {kind}, and the app 'shop' takes only encrypted ones in this"
            " process: give the process that sent it the same SECRET_KEY and"
            " TASK_CONTEXT_ENCRYPT.",
        )
        for kind, key in {"signed": "shop key", "unsigned": None}.items()
    ),
    Message(
        "encrypted, and no key in the worker",
        running(lambda: header_of(**ENCRYPT), SECRET_KEY=None),
        BadContext,
        "The context is encrypted, and the app 'shop' has no SECRET_KEY in this"
        " process: set the one of the process that sent it.",
    ),
    Message(
        "content that was not captured",
        running("1:unsigned:shop::2:{}", SECRET_KEY=None),
        BadContext,
        "The context cannot be read: KeyError('server'). Send it as 'capture_context'"
        " gives it.",
    ),
    Message(
        "content that is no request variable",
        running(plain(environ={"PATH": "/bin"}), SECRET_KEY=None),
        BadContext,
        "The context cannot be read: ValueError(\"'PATH' is no request variable\")."
        " Send it as 'capture_context' gives it.",
    ),
    Message(
        "content with a flag that is none",
        running(plain(server=[*SERVER[:-1], {}]), SECRET_KEY=None),
        BadContext,
        "The context cannot be read: TypeError('a port or a flag of another type')."
        " Send it as 'capture_context' gives it.",
    ),
    Message(
        "content with a size that is none",
        running(plain(body={"left_out": ["body", "1", "why"]}), SECRET_KEY=None),
        BadContext,
        "The context cannot be read: TypeError(\"'1' is no size\"). Send it as"
        " 'capture_context' gives it.",
    ),
    Message(
        "content that is no attribute",
        running(plain(g={"__class__": 1}), SECRET_KEY=None),
        BadContext,
        "The context cannot be read: ValueError(\"'__class__' is no attribute of g\")."
        " Send it as 'capture_context' gives it.",
    ),
    Message(
        "several apps and none is named",
        lambda: of_several_apps(""),
        RuntimeError,
        "Several Flask apps were given to 'init_app' ('blog', 'wiki') and the message"
        " names none: say which with '@with_request_context(app=...)'.",
    ),
    Message(
        "several apps and another is named",
        lambda: of_several_apps(header_of()),
        BadContext,
        "The context is for a Flask app named 'shop', and 'init_app' was given others"
        " ('blog', 'wiki'): register it in the worker too.",
    ),
    Message("no app", with_app(None), RuntimeError, NO_APP),
    Message(
        "FLASK_APP cannot be imported",
        with_app(None, FLASK_APP="tests.nowhere"),
        RuntimeError,
        "No Flask app for this task: Could not import 'tests.nowhere'. Correct FLASK_APP"
        " or 'app=', which is 'tests.nowhere': the worker must be able to import it.",
    ),
    Message(
        "app= names nothing",
        with_app("tests.shop:nothing"),
        RuntimeError,
        "No Flask app for this task: Failed to find attribute 'nothing' in 'tests.shop'."
        " Correct FLASK_APP or 'app=', which is 'tests.shop:nothing': the worker must be"
        " able to import it.",
    ),
    Message(
        "a factory of something else",
        with_app(forty_two),
        TypeError,
        f"{forty_two!r} gave 42, which is not a Flask app: make it return one.",
    ),
    Message(
        "a before-request function that answers",
        refused(lambda: "closed today"),
        RequestRefused,
        ANSWERED,
    ),
    Message(
        "a before-request function that aborts",
        refused(lambda: flask.abort(403, "closed")),
        RequestRefused,
        "A before-request function aborted the task's request with '403 Forbidden:"
        " closed': let it pass, or leave out 'before_request=True' of the task.",
    ),
    Message(
        "a before-request function that aborts with a response",
        refused(lambda: flask.abort(TO_LOGIN)),
        RequestRefused,
        f"A before-request function aborted the task's request with '{TO_LOGIN.status}' to"
        " '/login': let it pass, or leave out 'before_request=True' of the task.",
    ),
    Message(
        "a before-request function that aborts with a response without a place to go",
        refused(lambda: flask.abort(TEAPOT)),
        RequestRefused,
        f"A before-request function aborted the task's request with {TEAPOT.status!r}:"
        " let it pass, or leave out 'before_request=True' of the task.",
    ),
    Message(
        "a task that changes the session",
        lambda: where_run(header_of(), body=change_session),
        UserWarning,
        "The task 'run' changed its session. It is a copy of the visitor's: no session"
        " store and no cookie is written. Change it in a view.",
    ),
]


# -- what did not travel -------------------------------------------------------------


def touching(
    touch: t.Callable[[], t.Any],
    view: t.Callable[[], t.Any] = lambda: None,
    config: t.Any = (),
    **options: t.Any,
) -> t.Callable[[], t.Any]:
    """What a task meets that touches its request, when the view has done its part."""

    def capture() -> t.Any:
        view()
        return capture_context()[HEADER]

    return lambda: where_run(visit(capture, config, **options), body=touch)


def left_out(what: str, size: str, reason: str) -> str:
    return (
        f"The {what} ({size}) did not travel with the task: {reason}. Store it in the"
        " view and pass its key to the task."
    )


def upload(size: int) -> dict[str, t.Any]:
    return {"data": {"photo": (io.BytesIO(b"x" * size), "photo.jpg")}}


def form(name: str) -> dict[str, t.Any]:
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nvalue\r\n'
    return {
        "data": f"{part}--b--\r\n".encode(),
        "content_type": "multipart/form-data; boundary=b",
    }


def read() -> bytes:
    return request.stream.read()


def read_photo() -> bytes:
    return request.files["photo"].read()


def of_a_form_that_flask_refuses() -> None:
    class Request(flask.Request):
        max_form_parts = 0  # type: ignore[assignment] # no setting before Flask 3.1

    made = Shop(MEMORY)
    made.flask.request_class = Request
    where_run(made.capture(**form("password"))[HEADER], body=read)


LARGE = b"x" * 80_000
FORM_SIZE = f"{len(form('password')['data'])} bytes"
TEXT = {"content_type": "text/plain"}
NO_ROOM = "it does not fit into TASK_CONTEXT_MAX_SIZE"

LEFT_OUT = [
    Message(
        "a large body",
        touching(read, data=LARGE, **TEXT),
        LeftOut,
        left_out("request body", "80000 bytes", NO_ROOM),
    ),
    Message(
        "a large body without a length",
        touching(
            read,
            input_stream=io.BytesIO(LARGE),
            environ_overrides={"wsgi.input_terminated": True},
            headers={"Transfer-Encoding": "chunked"},
        ),
        LeftOut,
        left_out("request body", "of unknown size", NO_ROOM),
    ),
    Message(
        "a large file",
        touching(read_photo, lambda: request.files, **upload(80_000)),
        LeftOut,
        left_out("uploaded file 'photo'", "80000 bytes", NO_ROOM),
    ),
    Message(
        "a file that the view has closed",
        touching(
            read_photo,
            lambda: request.files["photo"].close(),
            **upload(3),
        ),
        LeftOut,
        left_out("uploaded file 'photo'", "of unknown size", "the view had closed it"),
    ),
    Message(
        "the bytes of a form",
        touching(read, **form("password")),
        LeftOut,
        left_out("request body", FORM_SIZE, "only its form did"),
    ),
    Message(
        "a body that the view had begun to read",
        touching(read, lambda: request.stream.read(2), data=b"hello", **TEXT),
        LeftOut,
        left_out(
            "request body",
            "5 bytes",
            "the view had begun to read it from request.stream",
        ),
    ),
    Message(
        "a body that broke off",
        touching(read, **CUT_SHORT),
        LeftOut,
        left_out("request body", "5 bytes", "the client hung up while sending it"),
    ),
    Message(
        "a body over Flask's limit",
        touching(read, config={"MAX_CONTENT_LENGTH": 20}, data=LARGE, **TEXT),
        LeftOut,
        left_out(
            "request body", "80000 bytes", "it is over MAX_CONTENT_LENGTH (20 bytes)"
        ),
    ),
    Message(
        "a form that Flask refuses",
        of_a_form_that_flask_refuses,
        LeftOut,
        left_out(
            "request body",
            FORM_SIZE,
            f"Flask refuses its form ({RequestEntityTooLarge().name})",
        ),
    ),
    Message(
        "broken JSON that may hold a password",
        touching(read, data=b'{"password": ', content_type="application/json"),
        LeftOut,
        left_out(
            "request body",
            "13 bytes",
            "TASK_CONTEXT_EXCLUDE cannot be applied to JSON that is broken",
        ),
    ),
]


# -- with other queues ---------------------------------------------------------------


def restoring(headers: t.Any, app: t.Any = SHOP.flask) -> t.Callable[[], t.Any]:
    def meet() -> None:
        given = headers() if callable(headers) else headers
        restore_context(given, app).__enter__()

    return meet


MAPPING = (
    "pass a mapping, as 'capture_context()' gives it and 'task.request.headers' holds"
    " it."
)


def entered_twice() -> None:
    restored = restore_context({"flask_task_context": header_of()}, SHOP.flask)
    for _ in range(2):
        with restored:
            pass


WITH_OTHER_QUEUES = [
    Message(
        "entered twice",
        entered_twice,
        RuntimeError,
        "This context was entered before: call 'restore_context' for each time.",
    ),
    Message(
        "task.request for its headers",
        restoring(lambda: Context(headers={HEADER: header_of()})),
        TypeError,
        f"The headers are of type 'Context': {MAPPING}",
    ),
    Message(
        "the header for the headers",
        restoring(header_of),
        TypeError,
        f"The headers are of type 'str': {MAPPING}",
    ),
    Message(
        "pairs",
        restoring([(HEADER, b"")]),
        TypeError,
        f"The headers are of type 'list': {MAPPING}",
    ),
    Message(
        "bytes",
        restoring(lambda: {HEADER.encode(): header_of().encode()}),
        TypeError,
        "The headers' names are bytes: decode names and values.",
    ),
    Message(
        "an app that is none",
        restoring({}, 5),
        TypeError,
        "app=5 is no Flask app: pass one, its factory, or an import string such as"
        " 'shop:create_app'.",
    ),
]

MESSAGES = [
    *WHERE_THE_APP_IS_MADE,
    *WHERE_A_TASK_IS_DECORATED,
    *IN_THE_VIEW,
    *IN_THE_WORKER,
    *LEFT_OUT,
    *WITH_OTHER_QUEUES,
]


@functools.cache
def met(message: Message) -> Exception | None:
    """What is raised in this situation; a warning too."""
    flask_task_context._apps.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            message.meet()
        except Exception as error:  # noqa: BLE001 - each row says which it is
            return error
    return None


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.situation)
def test_what_is_said(message: Message) -> None:
    """Each message says in whole what is wrong and what to do."""
    error = met(message)
    assert (type(error), str(error)) == (message.error, message.text)


@pytest.mark.parametrize("when", ["later", "never"])
@pytest.mark.parametrize(
    ("config", "error", "text"), WRONG, ids=[str(config) for config, *_ in WRONG]
)
def test_a_setting_is_checked_when_it_is_used(
    config: dict[str, t.Any], error: type[Exception], text: str, when: str
) -> None:
    """Where it comes after ``init_app``, or that is never called, the view hears of it."""
    app = shop.create_app()
    if when == "later":
        init_app(app)
    with app.test_request_context("/"):
        app.config.update(config)
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            capture_context()


# -- nothing is missing from the table -----------------------------------------------

SOURCE = Path(flask_task_context.__file__)
TREE = ast.parse(SOURCE.read_text())
#: Of the key's derivation, of errors that become a ``BadContext``, and what
#: ``test_what_travels.py`` and the workers below look at.
NOT_SAID = {
    "key id",
    "another spelling of the same bytes",
    "wrong tag",
    "session key ",
    "session key",
    " It was sent by ",
    "TASK_CONTEXT_BODY is False",
    "Of its request this task has not: ",
    "set TASK_CONTEXT_ENCRYPT = True, which leaves none out",
    "let the list name it",
    "change it",
    ". Pass what it needs as an argument, or change the setting.",
    (
        "The app %r has no SECRET_KEY: the requests that travel with its tasks are unsigned,"
        " and whoever can write to the broker can make one up. Set one, the same in every"
        " process."
    ),
}


def lines_of(error: BaseException | None) -> t.Iterator[int]:
    """The module's lines that an error, and those behind it, went through."""
    while error is not None:
        trace: types.TracebackType | None = error.__traceback__
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename) == SOURCE:
                yield trace.tb_lineno
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


def says(node: ast.AST) -> bool:
    warns = isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
    # What others have raised, and goes on its way, is no message of the module.
    return warns or (
        isinstance(node, ast.Raise) and not isinstance(node.exc, ast.Name | None)
    )


def test_every_raise_and_warning_is_in_the_table() -> None:
    """A message that is added to the module has to be added here."""
    lines = {line for message in MESSAGES for line in lines_of(met(message))}
    unmet = [
        ast.unparse(node)
        for node in ast.walk(TREE)
        if says(node) and lines.isdisjoint(range(node.lineno, node.end_lineno + 1))  # type: ignore
    ]
    assert unmet == []


def test_every_wording_is_in_the_table() -> None:
    """Every piece of prose in the module is part of a message above."""
    docstrings = {
        id(node.value)
        for node in ast.walk(TREE)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    pieces = [
        piece
        for node in ast.walk(TREE)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
        for piece in re.split(r"\{.*?\}", node.value)
        if re.search(r"\w ", piece)
    ]
    texts = "\n".join(message.text for message in MESSAGES)
    assert len(pieces) > 80
    assert {piece for piece in pieces if piece not in texts} == NOT_SAID


# -- in a real worker ----------------------------------------------------------------

LACKS: dict[str, list[tuple[str, t.Callable[[], str], type[Exception], str]]] = {
    "nothing": [
        ("shop.where", lambda: flipped(header_of()), BadContext, FORGED),
        ("above.where", lambda: "2" + header_of()[1:], BadContext, NEWER),
        (
            "shop.where",
            lambda: header_of(SECRET_KEY=os.urandom(24)),
            BadContext,
            FOREIGN_KEY,
        ),
        ("above.where", lambda: header_of(SECRET_KEY=None), BadContext, NOT_SIGNED),
        ("shop.visit", header_of, RequestRefused, ANSWERED),
    ],
    "an app": [
        ("shop.where", header_of, RuntimeError, NO_APP),
        ("above.where", str, RuntimeError, NO_APP),
    ],
    "a key of every process": [
        ("shop.where", header_of, BadContext, FOREIGN_KEY),
        ("above.where", header_of, BadContext, FOREIGN_KEY),
    ],
    # And what is signed runs, without that package.
    "cryptography": [
        ("shop.where", lambda: header_of(**ENCRYPT), BadContext, NO_EXTRA),
        ("shop.visit", header_of, RequestRefused, ANSWERED),
    ],
}


@pytest.mark.parametrize("lacks", LACKS)
def test_what_a_worker_says(lacks: str, tmp_path: Path) -> None:
    """The result and the log of a real worker hold the whole message, and the worker
    lives on."""
    settings = celery_settings("redis", tmp_path)
    worker = Worker(
        settings,
        tmp_path / "worker.log",
        "--pool=prefork",
        "--concurrency=2",
        module="tests.messages_worker",
        environ={"LACKS": lacks},
    )
    celery = shop.create_celery(**settings)
    try:
        for name, header, error, text in LACKS[lacks]:
            result = celery.send_task(name, headers={HEADER: header()})
            # The sender is named, as Celery names it.
            sender = r".* It was sent by '.*@.*'\." if error is BadContext else ""
            with pytest.raises(error, match=f"^{re.escape(text)}{sender}$"):
                result.get(timeout=30, interval=0.02)
            module = "" if error is RuntimeError else "flask_task_context."
            worker.wait_for(f"\n{module}{error.__name__}: {text}")
        assert worker.process.poll() is None
    finally:
        worker.stop()
        drop_queue(celery)
