"""A Celery task that runs in the Flask request it was sent from.

A view sends a task with :func:`delay_with_context`; in the worker, under
:func:`with_request_context`, ``request``, ``session``, ``url_for`` and the
chosen parts of ``g`` are those of the visitor::

    from flask import render_template, url_for
    from flask_task_context import delay_with_context, with_request_context

    @celery_app.task
    @with_request_context
    def send_invite(email):
        link = url_for("join", _external=True)  # on the visitor's own host
        send_mail(email, render_template("invite.txt", link=link))

    @app.post("/invite")
    def invite():
        delay_with_context(send_invite, request.form["email"])
        return "", 202

The request travels as one signed message header, never as an argument, and
nothing on the Celery app is changed. The documentation says what travels, who can
read it, and how each of Celery's ways to run a task behaves.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import functools
import hmac
import inspect
import io
import json
import logging
import os
import re
import sys
import threading
import typing as t
import unicodedata
import warnings
import weakref
from base64 import b64decode
from base64 import b64encode
from base64 import urlsafe_b64encode
from copy import copy
from datetime import date
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from decimal import Decimal
from importlib import import_module
from itertools import chain
from traceback import walk_tb
from urllib.parse import quote
from urllib.parse import unquote
from urllib.parse import unquote_plus
from uuid import UUID
from zoneinfo import ZoneInfo

import flask
from blinker import Namespace
from celery import Task
from celery import _state
from celery._state import _get_active_apps
from celery._state import _task_stack
from celery._state import connect_on_app_finalize
from celery.app.task import Context
from celery.exceptions import Ignore
from celery.exceptions import TaskPredicate
from celery.local import PromiseProxy
from celery.local import Proxy
from celery.signals import before_task_publish
from celery.signals import task_prerun
from celery.signals import task_received
from click import ClickException
from flask.app import Flask
from flask.cli import ScriptInfo
from flask.ctx import AppContext
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSession
from flask.sessions import SessionInterface
from flask.sessions import session_json_serializer
from markupsafe import Markup
from werkzeug.datastructures import FileStorage
from werkzeug.datastructures import Headers
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_content_length
from werkzeug.wsgi import get_input_stream

__all__ = [
    "BadContext",
    "CaptureError",
    "ContextError",
    "LeftOut",
    "RequestRefused",
    "apply_async_with_context",
    "capture_context",
    "context_captured",
    "context_restored",
    "delay_with_context",
    "init_app",
    "restore_context",
    "with_request_context",
]
__version__ = "1.0.0"

_HEADER = "flask_task_context"
_AppOption: t.TypeAlias = flask.Flask | t.Callable[[], flask.Flask] | str | None
_NameCheck: t.TypeAlias = t.Callable[[str], bool]

T = t.TypeVar("T", bound=t.Callable[..., t.Any])
P = t.ParamSpec("P")
R = t.TypeVar("R", covariant=True)

_signals = Namespace()

#: Sent by :func:`capture_context` with the Flask app as sender and a dict
#: ``entries``: a receiver adds what should travel, under a key of its own, as
#: values of Python's plain types.
context_captured = _signals.signal("task-context-captured")

#: Sent when a request has been restored, inside it, with the Flask app as
#: sender and the ``entries`` that were added at capture.
context_restored = _signals.signal("task-context-restored")


class _HasDelay(t.Protocol[P, R]):
    """A task, a signature or a canvas, with the arguments that it takes."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class _HasApplyAsync(t.Protocol[R]):
    """The same, with what it gives."""

    def apply_async(self, *args: t.Any, **options: t.Any) -> R: ...


class ContextError(Exception):
    """A context could not be captured, restored or used as asked."""


class CaptureError(ContextError):
    """The request cannot be sent along; nothing has been sent."""


class BadContext(ContextError):
    """The message's context cannot be trusted or read; the task did not run."""


class RequestRefused(ContextError):
    """A before-request function answered or aborted; the task did not run."""


class LeftOut(ContextError):
    """The task touched a part of the request that did not travel."""


# -- public API --------------------------------------------------------------


def init_app(app: flask.Flask, name: str | None = None) -> None:
    """Tell tasks that they belong to this Flask app, and check its settings.

    With one registered app, every message is served by it, whatever app sent
    it. With several, the name in the message chooses; the newest app of a name
    wins. So several apps in one process need a name each, the same in the
    process that sends and in the worker::

        for tenant in tenants:
            init_app(create_app(tenant), name=tenant)

    :param app: the Flask app, with its config loaded.
    :param name: what messages call the app. Default: ``app.name``, which is the
        import name for most apps.
    :raises TypeError: for what is no Flask app, a name that is no string, and a
        setting of the wrong type.
    :raises ValueError: for a ``TASK_CONTEXT_*`` setting that does not exist, and a
        name in ``TASK_CONTEXT_G`` that is no attribute.
    :raises RuntimeError: for ``TASK_CONTEXT_ENCRYPT`` without a ``SECRET_KEY``
        or without the ``cryptography`` package.
    """
    if not isinstance(app, Flask):
        raise TypeError(
            f"{app!r} is not a Flask app: call 'init_app' with the app itself, where"
            " it is made."
        )
    if not isinstance(name, str | None) or name == "":
        raise TypeError(
            f"The app's name is {name!r}: make it a string that is not empty."
        )
    app = _behind(app)
    settings = _Settings(name or app.name, app)
    _seal("", settings)
    app.extensions[_HEADER] = settings
    for former in [key for key, other in list(_apps.items()) if other is app]:
        del _apps[former]
    _apps[settings.name] = app


def capture_context() -> dict[str, str]:
    """The current request as message headers, to send with any task::

        add.apply_async((2, 3), headers=capture_context())
        celery_app.send_task("shop.tasks.add", (2, 3), headers=capture_context())

    Outside a request it is ``{}``, and so it is for what sends from around a task:
    its before- and after-request functions, its teardown functions.

    :raises CaptureError: when the header would be longer than
        ``TASK_CONTEXT_MAX_SIZE`` characters, or when a value of the session or
        of ``g`` cannot be serialized.
    """
    context = _request_context()
    if context is None or _is_silent(_carried_here()):
        return {}
    return {_HEADER: _capture(context)}


def delay_with_context(
    task: _HasDelay[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """``task.delay(*args, **kwargs)``, sent with the current request: each message
    that this call sends carries it, but one with a context of its own.

    :param task: a task, a signature, or a canvas (chain, group, chord).
    :return: what ``delay`` returns, an ``AsyncResult``.
    :raises TypeError: when ``task`` is none of these.
    :raises CaptureError: see :func:`capture_context`; nothing is sent.
    """
    _check_task(task, "delay")
    send = functools.partial(task.delay, *args, **kwargs)
    return _send(send, _header_of(_own_headers(task)))


def apply_async_with_context(
    task: _HasApplyAsync[R],
    args: tuple[t.Any, ...] | list[t.Any] | None = None,
    kwargs: dict[str, t.Any] | None = None,
    **options: t.Any,
) -> R:
    """``task.apply_async(args, kwargs, **options)``, sent with the current request.
    The caller's own headers are sent as Celery sends them, and a context among
    them wins; the empty one, ``{"flask_task_context": ""}``, means none.

    :param task: a task, a signature, or a canvas (chain, group, chord).
    :return: what ``apply_async`` returns, an ``AsyncResult``.
    :raises TypeError: when ``task`` is none of these.
    :raises CaptureError: see :func:`capture_context`; nothing is sent.
    """
    _check_task(task, "apply_async")
    headers = options.get("headers", _own_headers(task))
    if headers and not hasattr(headers, "keys"):
        raise TypeError(
            f"'headers' is of type {type(headers).__name__!r}: make it a dict of message"
            " headers."
        )
    send = functools.partial(task.apply_async, args, kwargs, **options)
    return _send(send, _header_of(headers))


def restore_context(
    headers: t.Mapping[str, t.Any] | None, app: _AppOption = None
) -> t.ContextManager[None]:
    """A context manager that pushes the request that :func:`capture_context` put
    into ``headers``, and pops it at the end, with its teardown functions. No
    before- or after-request functions run. Headers without a context push an app
    context; an active one is used as it is. What is sent inside carries the context
    on::

        with restore_context(message.headers):
            url_for("index", _external=True)

    A handler of a task runs outside of its request, and after a hard time limit without
    any: the worker that has the message finds it by its id::

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            with restore_context(self.request.headers or {"id": task_id}):
                ...

    :param headers: message headers, or ``None``.
    :param app: a Flask app, a factory, or an import string (``"shop:create_app"``).
        Default: the one that the headers name, among those given to
        :func:`init_app`; the app of the active app context; the only one that
        was given to :func:`init_app`; ``FLASK_APP``.
    :raises BadContext: when the context is broken, forged, or not for this app.
    :raises TypeError: when ``headers`` is no mapping of strings.
    :raises RuntimeError: when no Flask app is found, and when it is entered twice.
    """
    _check_app(app)
    if headers:
        _check_headers(headers)
    header = _header_of(headers)
    # Whole headers of a message have an id too, which its sender may choose.
    if header is None and headers and set(headers) == {"id"}:
        header = _header_received(headers["id"])
    return _restore(_Carried(header), app)


@t.overload
def with_request_context(task: T, /) -> T: ...


@t.overload
def with_request_context(
    *,
    app: _AppOption = None,
    before_request: bool = False,
    after_request: bool = True,
) -> t.Callable[[T], T]: ...


def with_request_context(
    task: t.Any = None,
    /,
    *,
    app: _AppOption = None,
    before_request: bool = False,
    after_request: bool = True,
) -> t.Any:
    """Run a task in the request it was sent from::

        @celery_app.task
        @with_request_context
        def send_invite(email): ...

    Works below and above ``@app.task`` and ``@shared_task``, on a task class
    and on its ``run`` method. On a base class of tasks, or on its ``__call__``, each
    task of that base runs in its request, and what the base does around it too.
    A message that carries no request runs in an app context of its own. A task that is
    called inside a live request runs in that request, as it is; one that is called
    inside an app context alone, in that.

    :param app: a Flask app, a factory, or an import string (``"shop:create_app"``).
        A message that names another app runs in an app context of this one.
        Default: the one that the message names, among those given to
        :func:`init_app`; the only one of those; the app of the active app context;
        ``FLASK_APP``.
    :param before_request: run URL value preprocessors and before-request
        functions first. One that answers or aborts refuses the task.
    :param after_request: run after-request functions, on an empty response,
        after the task's body has returned. An error in one is logged, and the
        task's result stands.
    :raises TypeError: on something that is no task and no function, on an
        ``async def`` or generator function, and when applied twice.

    .. warning::
        Above ``@app.task`` a base class whose ``__call__`` never calls
        ``self.run`` is out of reach; decorate that base, or put the decorator below.
        Below it, the base's ``__call__`` is around the request, with another ``g``.
    """
    _check_app(app)
    options = _Options(_behind(app), before_request, after_request)
    if task is None:
        return lambda task: _decorate(task, options)
    return _decorate(task, options)


# -- settings: what an app's configuration says ------------------------------

_EXCLUDE = (
    "*authorization*",
    "cookie",
    "*access-key*",
    "*api-key*",
    "*auth-key*",
    "*bearer*",
    "*credential*",
    "*csrf*",
    "*jwt*",
    "pass",
    "*passcode*",
    "*passphrase*",
    "*passwd*",
    "*password*",
    "*private-key*",
    "*pwd*",
    "*secret*",
    "*session-id*",
    "*subscription-key*",
    "*token*",
    "*xsrf*",
)
_DEFAULTS = {
    "SECRET_KEY_FALLBACKS": (),
    "TASK_CONTEXT_AUTO": False,
    "TASK_CONTEXT_BODY": True,
    "TASK_CONTEXT_ENCRYPT": False,
    "TASK_CONTEXT_EXCLUDE": _EXCLUDE,
    "TASK_CONTEXT_G": (),
    "TASK_CONTEXT_MAX_SIZE": 64 * 1024,
    "TASK_CONTEXT_SESSION": True,
}


def _settings(app: flask.Flask) -> _Settings:
    """Made anew only where the configuration has changed."""
    settings: _Settings | None = app.extensions.get(_HEADER)
    if settings is None or settings.given != _given(app):
        name = app.name if settings is None else settings.name
        settings = app.extensions[_HEADER] = _Settings(name, app)
    return settings


def _given(app: flask.Flask) -> list[t.Any]:
    serializer = getattr(app.session_interface, "serializer", None)
    tags, values = getattr(serializer, "order", ()), map(app.config.get, _DEFAULTS)
    # Where one is added that does not exist, there is one more.
    return [app.secret_key, serializer, tags, len(app.config), *values]


def _configuration(app: flask.Flask) -> dict[str, t.Any]:
    for name in map(str, app.config):
        if name.startswith("TASK_CONTEXT_") and name not in _DEFAULTS:
            from difflib import get_close_matches

            nearest = get_close_matches(name, _DEFAULTS, n=1, cutoff=0)[0]
            raise ValueError(
                f"There is no setting {name!r}: {nearest!r} is the nearest."
            )
    config = {key: app.config.get(key, value) for key, value in _DEFAULTS.items()}
    return {**config, "SECRET_KEY": app.secret_key}


class _Settings:
    """An app's configuration, checked, and what follows from it."""

    def __init__(self, name: str, app: flask.Flask) -> None:
        # A list can be changed in its place.
        self.given = [v.copy() if isinstance(v, list | set) else v for v in _given(app)]
        config = _configuration(app)
        self.name = name
        self.auto = _flag(config, "TASK_CONTEXT_AUTO")
        self.max_size = _size(config, "TASK_CONTEXT_MAX_SIZE")
        self.body = _flag(config, "TASK_CONTEXT_BODY")
        self.session = _names_or_flag(config, "TASK_CONTEXT_SESSION")
        self.g = _attributes(config, "TASK_CONTEXT_G")
        self.keys = [_Key(secret) for secret in _secret_keys(config)]
        encrypt = _flag(config, "TASK_CONTEXT_ENCRYPT")
        if encrypt and not self.keys:
            raise RuntimeError(
                f"TASK_CONTEXT_ENCRYPT needs a SECRET_KEY, and the app {name!r} has"
                " none: set one before 'init_app', the same in every process."
            )
        self.kind = "encrypted" if encrypt else "signed" if self.keys else "unsigned"
        key_id = self.keys[0].id if self.keys else ""
        self.prefix = f"{_FORMAT}:{self.kind}:{quote(name, safe='')}:{key_id}"
        # What cannot be read needs no exclusion.
        patterns = () if encrypt else _names(config, "TASK_CONTEXT_EXCLUDE")
        self.excluded = excluded = _matcher(patterns)
        # Without the cookie, which never travels, CSRF tokens are worth nothing.
        self.excluded_key = _matcher(patterns, but=("csrf", "xsrf"))
        #: For variables that travel ``True``, for headers that are excluded what they
        #: are called.
        self.travels = _Known(
            lambda key: (
                f"header {key[5:].replace('_', '-').title()!r}"
                if key[:5] == "HTTP_" and excluded(key[5:])
                else _may_travel(key)
            )
        )
        self.excluded_words = _words_of(patterns)
        self.values = _Values(getattr(app.session_interface, "serializer", None))
        self.room = _room(self)


def _flag(config: dict[str, t.Any], key: str) -> bool:
    value = _DEFAULTS[key] if config[key] is None else config[key]
    if not isinstance(value, bool):
        raise TypeError(f"{key} is {value!r}: make it True or False.")
    return value


def _names_or_flag(config: dict[str, t.Any], key: str) -> tuple[str, ...] | None:
    """``None`` for all."""
    if config[key] is True or config[key] is None:
        return None
    if config[key] is False:
        return ()
    return _names(config, key, "True, False or a list of names")


def _size(config: dict[str, t.Any], key: str) -> int:
    size = config[key]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise TypeError(
            f"{key} is {size!r}: make it a number of characters, such as 65536."
        )
    return size


def _names(
    config: dict[str, t.Any], key: str, wanted: str = "a list of names"
) -> tuple[str, ...]:
    names: t.Any = _DEFAULTS[key] if config[key] is None else config[key]
    several = isinstance(names, t.Collection) and not isinstance(names, str)
    if not several or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{key} is {names!r}: make it {wanted}.")
    return tuple(names)


def _attributes(config: dict[str, t.Any], key: str) -> tuple[str, ...]:
    names = _names(config, key)
    for name in names:
        if not _is_attribute(name):
            raise ValueError(
                f"{key} holds {name!r}, which is no attribute of g: make it a list of"
                " their names."
            )
    return names


def _secret_keys(config: dict[str, t.Any]) -> tuple[str | bytes, ...]:
    secret, fallbacks = config["SECRET_KEY"], config["SECRET_KEY_FALLBACKS"] or ()
    if not secret:
        return ()
    if isinstance(fallbacks, str | bytes) or not hasattr(fallbacks, "__iter__"):
        raise TypeError("SECRET_KEY_FALLBACKS is one key: make it a list of keys.")
    return (secret, *filter(None, fallbacks))


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not name.startswith("__")


# -- capture: request -> snapshot --------------------------------------------

# RFC 3875's variables, as far as a WSGI application reads them, and PEP 3333's.
_ALWAYS = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "REMOTE_ADDR",
    "wsgi.url_scheme",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
)
#: Flags of PEP 3333, and the port, which some servers have as a number.
_NUMBERS = {"SERVER_PORT", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"}
_SOMETIMES = {
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "REMOTE_HOST",
    "REMOTE_USER",
}


def _may_travel(key: str) -> bool:
    # A "Proxy:" header cannot be told from the server's own HTTP_PROXY.
    return key in _SOMETIMES or (key[:5] == "HTTP_" and key != "HTTP_PROXY")


#: On the contexts that a message has opened and closed: a thread that was begun there
#: has them still, where Python lets threads inherit.
_ENDED = "_flask_task_context_ended"
#: The request and the app context that were active when the message began.
_before: contextvars.ContextVar[tuple[t.Any, t.Any]] = contextvars.ContextVar(
    "before", default=(None, None)
)


def _request_context() -> t.Any:
    """The context of the live request, or ``None``: one that was pushed in this process
    before the message began is nobody's, and so is one that has ended."""
    context = _active_context() if flask.has_request_context() else None
    return None if context is _before.get()[0] or hasattr(context, _ENDED) else context


def _app_context() -> t.Any:
    """The active app context, in the same way."""
    context = _active_app_context() if flask.has_app_context() else None
    return None if context is _before.get()[1] or hasattr(context, _ENDED) else context


def _capture(context: t.Any) -> str:
    try:
        return _capture_request(context)
    except Exception as error:
        _forget_variables(error)
        raise


def _forget_variables(error: BaseException | None) -> None:
    """Error reports write out the variables of each frame: ours are the visitor's."""
    while error is not None:
        for frame, _ in walk_tb(error.__traceback__):
            if frame.f_globals is globals():
                with contextlib.suppress(RuntimeError):  # One that is running still.
                    frame.clear()
        error = error.__cause__


def _capture_request(context: t.Any) -> str:
    settings = _settings(context.app)
    request, missing = context.request, _Missing()
    if (carried := _carried_here()) is not None and carried.request is request:
        missing.names = {key: list(names) for key, names in carried.missing.items()}
    parts: dict[str, t.Any] = {
        # In an order of its own: names would double the size of most requests.
        "server": list(map(request.environ.get, _ALWAYS)),
        "environ": _environ_of(request.environ, settings, missing),
    }
    if (session := _session_values(context, settings, missing)) is not None:
        parts["session"] = session
    if settings.g and (values := _g_values(context.app, settings.g)):
        parts["g"] = values
    if context_captured.receivers:
        parts["signals"] = {}
        context_captured.send(context.app, entries=parts["signals"])
    payload = _encode_parts(parts, settings, missing)
    room = settings.room - len(payload) - len(',"body":')
    if body := _encode_body(request, max(room, 0), settings, missing):
        payload = f'{payload[:-1]},"body":{body}}}'
    if missing.names:
        named = f'{payload[:-1]},"missing":{missing.encode()}}}'
        payload = named if len(named) <= settings.room else payload
    header = _seal(payload, settings)
    if len(header) > settings.max_size:
        raise _too_large(len(header), parts, settings)
    return header


def _environ_of(
    environ: dict[str, t.Any], settings: _Settings, missing: _Missing
) -> dict[str, str]:
    travels, variables, left_out = settings.travels, {}, []
    for key, value in environ.items():
        if (known := travels[key]) is True:
            if isinstance(value, str):
                variables[key] = value
        elif known:
            left_out.append(known)
    for name in sorted(left_out):
        missing.add("TASK_CONTEXT_EXCLUDE", name)
    # wsgiref mixes the process environment into every request's, PATH among it. Under
    # real CGI it *is* the request.
    if "PATH" in environ and "GATEWAY_INTERFACE" not in os.environ:
        return {k: v for k, v in variables.items() if os.environ.get(k) != v}
    return variables


def _session_values(
    context: t.Any, settings: _Settings, missing: _Missing
) -> dict[str, t.Any] | None:
    session = _session_of(context)
    # It is None while a session interface opens it.
    if session is None:
        return None
    # A copy is a null session, which Flask does not save.
    null = isinstance(session, context.app.session_interface.null_session_class)
    if null and not issubclass(type(session), _SessionCopy):
        return None
    accessed = getattr(session, "accessed", None)
    values = dict(session)
    if getattr(session, "accessed", None) != accessed:
        session.accessed = accessed
    if settings.session is None:
        return values
    for key in values.keys() - set(settings.session):
        missing.add("TASK_CONTEXT_SESSION", f"session key {key!r}")
    return {key: values[key] for key in settings.session if key in values}


def _g_values(app: flask.Flask, names: tuple[str, ...]) -> dict[str, t.Any]:
    if flask.current_app != app:  # Another app's context is on top, and its ``g``.
        return {}
    return {name: getattr(flask.g, name) for name in names if name in flask.g}


_UNREADABLE = (
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    TypeError,
    ValueError,
)
#: Values that a task's request gets beside its environ: what to call them, and what
#: leaves them out.
_LABELS = {
    "session": ("session[{!r}]", "TASK_CONTEXT_SESSION"),
    "g": ("g.{}", "TASK_CONTEXT_G"),
    "signals": ("signal entry {!r}", "the entries of 'context_captured'"),
}


def _encode_parts(
    parts: dict[str, t.Any], settings: _Settings, missing: _Missing
) -> str:
    """JSON, in which the values of the session, of ``g`` and of signals have tags for
    types that JSON does not know."""
    tag = settings.values.tag
    try:
        if settings.excluded_words and "session" in parts:
            excluded = missing.noting(settings.excluded_key, "session key")
            parts["session"] = _without_keys(parts["session"], excluded)
        tagged = {part: tag(parts[part]) for part in parts if part in _LABELS}
        return _encode_exactly(parts | tagged)
    except _UNREADABLE as error:
        raise _unserializable(error, parts, settings) from error


# A value that holds itself is refused where it is tagged.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_encode_raw = json.JSONEncoder(ensure_ascii=False).encode
_encode_text = json.encoder.encode_basestring_ascii


def _encode_exactly(value: t.Any) -> str:
    text = _encode(value)
    if "\\ud" in text and _encode_raw(json.loads(text)) != _encode_raw(value):
        raise ValueError("JSON makes one character of two surrogates")
    return text


def _labelled(parts: dict[str, t.Any]) -> t.Iterator[tuple[str, str, t.Any]]:
    for part, (label, setting) in _LABELS.items():
        for name, value in parts.get(part, {}).items():
            yield label.format(name), setting, {name: value}


def _unserializable(
    error: Exception, parts: dict[str, t.Any], settings: _Settings
) -> CaptureError:
    for label, setting, value in _labelled(parts):
        try:
            _encode_exactly(settings.values.tag(value))
        except _UNREADABLE as reason:
            return CaptureError(
                f"{label} cannot travel with a task: {reason}. Make it a value of"
                f" Python's plain types, or leave it out of {setting}."
            )
    return CaptureError(
        f"The request cannot travel with a task: {error}. Look for it in"
        " 'request.environ'."
    )


def _too_large(size: int, parts: dict[str, t.Any], settings: _Settings) -> CaptureError:
    tag = settings.values.tag
    sizes = [(len(_encode(tag(v))), label) for label, _, v in _labelled(parts)]
    variables = dict(zip(_ALWAYS, parts["server"], strict=True)) | parts["environ"]
    sizes += [(len(_encode(v)), f"request variable {k}") for k, v in variables.items()]
    largest = ", ".join(f"{label} ({n})" for n, label in sorted(sizes)[:-4:-1])
    return CaptureError(
        f"The request's context has {size} characters, and TASK_CONTEXT_MAX_SIZE is"
        f" {settings.max_size}. Nothing was sent. The largest parts: {largest}."
        " Store large values in the view and pass their keys to the task, or leave them"
        " out by TASK_CONTEXT_SESSION, TASK_CONTEXT_G and TASK_CONTEXT_BODY."
    )


# -- values: what JSON does not know, equal on the other side -------------------------


class _Values:
    """Tags in the way of Flask's ``TaggedJSONSerializer``, and those that the app has
    registered on its own. A type that is not among them is refused."""

    def __init__(self, serializer: t.Any) -> None:
        if not isinstance(serializer, TaggedJSONSerializer):
            serializer = session_json_serializer
        ours = TaggedJSONSerializer.default_tags
        others = (copy(tag) for tag in serializer.order if type(tag) not in ours)
        self.others: list[t.Any] = list(others)
        for tag in self.others:
            tag.serializer = self  # Of the values inside.
        # Under keys that none of ours is.
        self.from_json = {f" app{tag.key}": tag.to_python for tag in self.others}
        self.from_json.update(_FROM_JSON)
        self.decode = json.JSONDecoder(object_hook=self.untag).decode

    def tag(self, value: t.Any) -> t.Any:
        kind = type(value)
        if kind in _UNTAGGED:
            return value
        if kind is list:
            plain = _UNTAGGED.issuperset(map(type, value))
            return value if plain else [self.tag(item) for item in value]
        if kind is dict and self._is_json(value):
            plain = _UNTAGGED.issuperset(map(type, value.values()))
            return value if plain else {k: self.tag(v) for k, v in value.items()}
        if kind in _TYPES:
            key, to_json, _ = _TYPES[kind]
            return {key: self.tag(to_json(value))}
        for tag in self.others:
            if tag.check(value):
                return {f" app{tag.key}": tag.to_json(value)}
        raise TypeError(f"Object of type {kind.__name__} is not JSON serializable")

    def _is_json(self, value: dict[t.Any, t.Any]) -> bool:
        looks_tagged = len(value) == 1 and next(iter(value)) in self.from_json
        return not looks_tagged and _TEXT.issuperset(map(type, value))

    def untag(self, value: dict[str, t.Any]) -> t.Any:
        if len(value) != 1:
            return value
        (key,) = value
        from_json = self.from_json.get(key)
        return from_json(value[key]) if from_json else value


def _datetime_to_json(value: datetime) -> list[t.Any]:
    """With its own idea of a zone: the name of one, an offset in microseconds, or none."""
    # A zone that was read from a file may have no name that the worker knows.
    zone, offset = value.tzinfo, value.utcoffset()
    name = zone.key if isinstance(zone, ZoneInfo) else None
    if name is not None:
        ZoneInfo(name)
    fixed = None if offset is None else offset // timedelta(microseconds=1)
    return [value.replace(tzinfo=None).isoformat(), name or fixed, value.fold]


def _datetime_from_json(value: list[t.Any]) -> datetime:
    text, zone, fold = value
    if isinstance(zone, str):
        zone = ZoneInfo(zone)
    elif zone is not None:
        zone = timezone(timedelta(microseconds=zone))
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


_UNTAGGED = {str, int, float, bool, type(None)}
_TEXT = {str}
#: Key, to JSON, and from it. Of tuple, bytes, Markup and UUID as Flask has them.
_TYPES: dict[type, tuple[str, t.Callable[..., t.Any], t.Callable[..., t.Any]]] = {
    tuple: (" t", list, tuple),
    bytes: (" b", lambda value: b64encode(value).decode("ascii"), b64decode),
    Markup: (" m", str, Markup),
    UUID: (" u", lambda value: value.hex, UUID),
    dict: (" di", lambda value: list(map(list, value.items())), dict),
    set: (" s", list, set),
    frozenset: (" f", list, frozenset),
    Decimal: (" n", str, Decimal),
    date: (" a", date.isoformat, date.fromisoformat),
    datetime: (" dt", _datetime_to_json, _datetime_from_json),
}
_FROM_JSON = {key: from_json for key, _, from_json in _TYPES.values()}


# -- body: bytes, a form, or left out; all of it still there for the view -----

_MULTIPART = "multipart/form-data"
_FORM_TYPES = (
    _MULTIPART,
    "application/x-www-form-urlencoded",
    "application/x-url-encoded",  # For Werkzeug before 3.0.
)
_BODY_KEYS = {"CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"}
_NO_ROOM = "it does not fit into TASK_CONTEXT_MAX_SIZE"
_BEGUN = "the view had begun to read it from request.stream"
_HUNG_UP = "the client hung up while sending it"
_OVER = "it is over MAX_CONTENT_LENGTH ({} bytes)"


def _read_body(request: flask.Request, room: int) -> _Body:
    """The body, with no more than ``room`` bytes of it in memory, and all of
    it still there for the view afterwards."""
    environ, touched = request.environ, vars(request)
    if environ["REQUEST_METHOD"] == "GET" and environ.keys().isdisjoint(_BODY_KEYS):
        return b""
    cached, source = _cached_data(request), environ["wsgi.input"]
    form, files = touched.get("form"), touched.get("files")
    parsed = form or files or (form is not None and request.mimetype in _FORM_TYPES)
    if parsed and not cached:
        raw = source if isinstance(source, _LeftOutStream) else None
        return _Form(request.form, request.files, raw)
    if isinstance(source, _LeftOutStream):
        return source
    length = get_content_length(environ)
    if length == 0:
        return b""
    if cached is None:
        return _read_ahead(request, length, room)
    if len(cached) < (length or 0):
        return _LeftOutStream(length, _BEGUN)
    return cached if len(cached) <= room else _LeftOutStream(len(cached), _NO_ROOM)


def _read_ahead(
    request: flask.Request, length: int | None, room: int
) -> bytes | _LeftOutStream:
    """What the view has not read yet, read and put back. What breaks it off raises in
    the view, as it does where the view itself reads."""
    environ, maximum = request.environ, request.max_content_length
    opened, announced = "stream" in vars(request), length or 0
    if maximum is not None and announced > maximum:
        return _LeftOutStream(length, _OVER.format(maximum))
    if announced > room:
        return _LeftOutStream(length, _NO_ROOM)
    head = _head(request, room)
    if head is None:
        return _LeftOutStream(length, _OVER.format(maximum))
    if len(head) > room:
        return _LeftOutStream(length, _NO_ROOM)
    # Without a length nobody can tell whether the view has read a part.
    streamed = opened and (head or "HTTP_TRANSFER_ENCODING" in environ)
    if len(head) < announced or (streamed and length is None):
        return _LeftOutStream(length, _BEGUN if opened else _HUNG_UP)
    return head


def _head(request: flask.Request, room: int) -> bytes | None:
    """All, or one byte more than there is room for. ``None`` if it is over the limit."""
    environ, opened = request.environ, "stream" in vars(request)
    place, key = (vars(request), "stream") if opened else (environ, "wsgi.input")
    rest, maximum = place[key], request.max_content_length
    former = getattr(rest, "raw", None)
    if isinstance(former, _Replay) and former.tells(room):
        return former.head.getvalue()
    stream = rest if opened else get_input_stream(environ, max_content_length=maximum)
    buffer, whole = bytearray(), False
    try:
        while len(buffer) <= room and (chunk := stream.read(room + 1 - len(buffer))):
            buffer += chunk
        whole = len(buffer) <= room
    except RequestEntityTooLarge:
        # Werkzeug looks for the end behind the limit, and says so of a whole body too.
        buffer += b"" if opened else rest.read(1)
        if len(buffer) != maximum:
            return None
    finally:
        place[key] = io.BufferedReader(_Replay(bytes(buffer), rest, whole))
    return bytes(buffer)


class _Replay(io.RawIOBase):
    """What was read ahead of a stream, and then the stream."""

    def __init__(self, head: bytes, rest: t.IO[bytes], whole: bool) -> None:
        self.head, self.rest, self.whole = io.BytesIO(head), rest, whole

    def tells(self, room: int) -> bool:
        """Enough without another look: one around it for each task of a view would in
        the end be too deep to read."""
        untouched = self.head.tell() == 0
        return untouched and (self.whole or len(self.head.getbuffer()) > room)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        data = self.head.read(len(buffer)) or self.rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _parse_form(request: flask.Request, body: bytes) -> _Form | _LeftOutStream:
    parser = request.make_form_data_parser()
    parser.stream_factory = lambda *args, **kwargs: io.BytesIO()
    stream, options = io.BytesIO(body), request.mimetype_params
    try:
        _, fields, files = parser.parse(stream, request.mimetype, len(body), options)
    except HTTPException as error:
        return _LeftOutStream(len(body), f"Flask refuses its form ({error.name})")
    return _Form(fields, files, _LeftOutStream(len(body), "only its form did"))


class _Form:
    """A parsed body, and what stands for its bytes where the view still has them."""

    def __init__(
        self, fields: t.Any, files: t.Any, raw: _LeftOutStream | None = None
    ) -> None:
        # A part without a name has ``None`` for one.
        self.fields: list[tuple[str, str]] = [
            (name or "", value) for name, value in fields.items(multi=True)
        ]
        self.files: list[tuple[str, FileStorage]] = [
            (name or "", file) for name, file in files.items(multi=True)
        ]
        self.raw = raw


class _LeftOutStream(io.RawIOBase):
    """Stands where the bytes would be, and says why they are not there."""

    def __init__(
        self, size: int | None, reason: str, what: str = "request body"
    ) -> None:
        self.described = what, size, reason

    def readable(self) -> bool:
        return True

    def _fail(self, *args: t.Any) -> t.NoReturn:
        what, size, reason = self.described
        measure = "of unknown size" if size is None else f"{size} bytes"
        raise LeftOut(
            f"The {what} ({measure}) did not travel with the task: {reason}."
            " Store it in the view and pass its key to the task."
        )

    read = readall = readinto = readline = seek = tell = _fail


_Body: t.TypeAlias = bytes | _Form | _LeftOutStream


# -- body: as JSON -------------------------------------------------------------


def _encode_body(
    request: flask.Request, room: int, settings: _Settings, missing: _Missing
) -> str:
    body = _read_body(request, room) if settings.body else _left_out_by_setting(request)
    if body == b"":
        return ""
    excluded = missing.noting(settings.excluded, "field")
    if isinstance(body, bytes) and settings.excluded_words:
        body = _without_excluded(request, body, excluded, settings.excluded_words)
    if isinstance(body, _Form) and sum(map(len, chain(*body.fields))) > room:
        body = _LeftOutStream(request.content_length, _NO_ROOM)
    encoded = _encode_any(body, room, excluded)
    too_long = len(encoded) > room
    if too_long and isinstance(body, bytes) and request.mimetype == _MULTIPART:
        body = _parse_form(request, body)
        encoded = _encode_any(body, room, excluded)
    if len(encoded) > room:
        body = _LeftOutStream(request.content_length, _NO_ROOM)
        encoded = _encode_any(body, room, excluded)
    return encoded


def _encode_any(body: _Body, room: int, excluded: _NameCheck) -> str:
    if isinstance(body, _Form):
        return _encode_form(body, room, excluded)
    if isinstance(body, _LeftOutStream):
        return _encode({"left_out": body.described})
    if body.isascii():
        return f'{{"text":{_encode_text(body.decode("ascii"))}}}'
    return _encode({"base64": b64encode(body).decode("ascii")})


def _left_out_by_setting(request: flask.Request) -> bytes | _LeftOutStream:
    length, environ = request.content_length, request.environ
    # Without a length Werkzeug reads nothing but what the server ends.
    ended = environ.get("wsgi.input_terminated")
    streamed = ended and not _BODY_KEYS.isdisjoint(environ)
    if length == 0 or (length is None and not streamed):
        return b""
    return _LeftOutStream(length, "TASK_CONTEXT_BODY is False")


def _encode_form(form: _Form, room: int, excluded: _NameCheck) -> str:
    # String by string: for a short form most of the time is that of an encoder.
    fields = (
        f"[{_encode_text(name)},{_encode_text(value)}]"
        for name, value in form.fields
        if not excluded(name)
    )
    encoded = f'{{"form":[{",".join(fields)}]}}'
    if form.raw:
        encoded = f'{encoded[:-1]},"raw":{_encode(form.raw.described)}}}'
    if not form.files:
        return encoded
    room -= len(encoded) + len(',"files":[]')
    files = []
    for name, file in form.files:
        if not excluded(name):
            files.append(_encode_file(name, file, room))
            room -= len(files[-1]) + 1
    return f'{encoded[:-1]},"files":[{",".join(files)}]}}'


def _encode_file(name: str, file: FileStorage, room: int) -> str:
    """Name, file name, headers, and the content or what stands for it."""
    part = [name, file.filename, [[key, value] for key, value in file.headers]]
    if isinstance(file.stream, _LeftOutStream):
        return _encode([*part, None, file.stream.described])
    content, size = _file_content(file.stream, room)
    if content is not None:
        encoded = _encode([*part, b64encode(content).decode("ascii"), None])
        if len(encoded) <= room:
            return encoded
    reason = "the view had closed it" if size is None else _NO_ROOM
    return _encode([*part, None, [f"uploaded file {name!r}", size, reason]])


def _file_content(stream: t.Any, limit: int) -> tuple[bytes | None, int | None]:
    try:
        position = stream.tell()
        stream.seek(0, io.SEEK_END)
        size = stream.tell()
        stream.seek(0)
        content = stream.read() if size <= limit else None
        stream.seek(position)
    except (AttributeError, OSError, ValueError):  # closed, or of one direction
        return None, None
    return content, size


# -- credentials: names that stay out of a readable message ------------------


def _matcher(patterns: tuple[str, ...], but: tuple[str, ...] = ()) -> _NameCheck:
    """Whether a name fits a pattern, in whatever spelling or case: ``*api-key*``
    fits ``X_API_KEY``, ``apiKey`` and ``Api Key``.

    :param but: words of names that do not.
    """
    if not patterns:
        return lambda name: False
    pieces = [[*map(_fold, pattern.split("*"))] for pattern in patterns]

    def fits(name: str) -> bool:
        folded = _fold(name)
        if any(word in folded for word in but):
            return False
        return any(_fits(each, folded) for each in pieces)

    return _Known(fits).__getitem__


class _Known(dict[str, t.Any]):
    """What a function gives for a name, kept: a look-up takes less than a call."""

    def __init__(self, function: t.Callable[[str], t.Any]) -> None:
        self.function = function

    def __missing__(self, name: str) -> t.Any:
        value = self.function(name)
        # A visitor may choose the names.
        if len(self) > 1000:
            self.clear()
        if len(name) < 100:
            self[name] = value
        return value


def _fits(pieces: list[str], name: str) -> bool:
    """In linear time, which a regular expression of several stars does not take."""
    first, *middle = pieces
    if not middle:
        return name == first
    if not name.startswith(first):
        return False
    at, last = len(first), middle.pop()
    for piece in middle:
        at = name.find(piece, at) + len(piece)
        if at < len(piece):
            return False
    return len(name) - at >= len(last) and name.endswith(last)


def _words_of(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The longest word of each pattern, less those that hold another one."""
    words = {max(map(_fold, pattern.split("*")), key=len) for pattern in patterns}
    return tuple(
        word
        for word in sorted(words)
        if not any(other in word for other in words - {word})
    )


def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


#: Anything else may hold a value: of a body that is no form, but called one.
_A_NAME = re.compile(r"[\w.\-\[\]]{1,60}")


class _Missing:
    """The names of what is left out, under the setting that does it."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add(self, setting: str, name: str) -> None:
        names, name = self.names.setdefault(setting, []), name[:60]
        if name not in names and len(names) < 20:
            names.append(name)

    def encode(self) -> str:
        """As JSON, string by string, as a form."""
        lists = (
            f"{_encode_text(setting)}:[{','.join(map(_encode_text, names))}]"
            for setting, names in self.names.items()
        )
        return f"{{{','.join(lists)}}}"

    def noting(self, excluded: _NameCheck, what: str) -> _NameCheck:
        def noting(name: str) -> bool:
            if excluded(name):
                named = f"{what} {name!r}" if _A_NAME.fullmatch(name) else f"a {what}"
                self.add("TASK_CONTEXT_EXCLUDE", named)
                return True
            return False

        return noting


def _without_keys(value: t.Any, excluded: _NameCheck) -> t.Any:
    if isinstance(value, dict):
        # Of its own type: the app may have a tag for it.
        value = copy(value)
        for key, item in [*value.items()]:
            name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
            if excluded(name):
                del value[key]
            elif type(item) not in _UNTAGGED:
                value[key] = _without_keys(item, excluded)
        return value
    if type(value) in (list, tuple):
        return type(value)(_without_keys(item, excluded) for item in value)
    return value


def _without_excluded(
    request: flask.Request, body: bytes, excluded: _NameCheck, words: tuple[str, ...]
) -> _Body:
    if request.mimetype == _MULTIPART:
        form = _parse_form(request, body)
        if isinstance(form, _LeftOutStream):
            return form
        names = [name for name, _ in (*form.fields, *form.files)]
        return form if not names or any(map(excluded, names)) else body
    if not _may_name(body, words):
        return body
    if request.mimetype in _FORM_TYPES and not _is_json(body):
        return b"&".join(p for p in body.split(b"&") if not excluded(_field_name(p)))
    return _json_without_excluded(request, body, excluded)


_PUNCTUATION = bytes(n for n in range(128) if not chr(n).isalnum())


def _may_name(body: bytes, words: tuple[str, ...]) -> bool:
    """Whether an excluded name can be in the body: a short look before all of it
    is parsed, which would take a tenth of a publish for 4 KB of JSON. A name that fits
    a pattern holds the pattern's longest word."""
    if not body.isascii() or b"\\" in body or b"%" in body:
        return True
    # A string: a look into it takes less than half of one into bytes.
    folded = body.lower().translate(None, _PUNCTUATION).decode("ascii")
    for word in words:  # noqa: SIM110 - any() takes half as long again
        if word in folded:
            return True
    return False


def _field_name(pair: bytes) -> str:
    """With its equals sign where it has no value: then the name may be one."""
    name, equals, _ = pair.partition(b"=")
    return unquote_plus(name.decode("utf-8", "replace")) + ("" if equals else "=")


def _is_json(body: bytes) -> bool:
    """``curl -d`` and others call JSON a form too."""
    try:
        return isinstance(json.loads(body), dict | list)
    except (ValueError, RecursionError):
        return False


def _json_without_excluded(
    request: flask.Request, body: bytes, excluded: _NameCheck
) -> bytes | _LeftOutStream:
    removed = False

    def without(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
        nonlocal removed
        kept = [pair for pair in pairs if not excluded(pair[0])]
        removed = removed or len(kept) < len(pairs)
        return dict(kept)

    try:
        value = json.loads(body, object_pairs_hook=without)
    except (ValueError, RecursionError):
        if "json" not in request.mimetype:
            return body
        return _LeftOutStream(
            len(body), "TASK_CONTEXT_EXCLUDE cannot be applied to JSON that is broken"
        )
    if not removed:
        return body
    # Shorter than it was, so that it is not over a limit that the view's was under.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


# -- seal: payload <-> header ------------------------------------------------

_FORMAT = "1"

#: ``format:kind:app name:key id:length:payload``; what is before the length is a prefix.
_PARTS = re.compile(
    r"(\d+:(unsigned|signed|encrypted):([^:]*):([^:]*)):(0|[1-9]\d{0,8}):(.*)",
    re.ASCII | re.DOTALL,
)
_SIGNATURE = 44  # characters: a dot, and 32 bytes in base64
_ENCRYPTION = 28  # bytes: nonce and tag
#: From base64 for URLs, whose decoder takes the standard one too; here that is none.
_STANDARD = bytes.maketrans(b"-_+/", b"+/  ")
_LOOK = "Find what changes message headers between the sender and this worker."
_NOT_OURS = (
    "The context is not one that flask-task-context wrote: find what writes the"
    " message header 'flask_task_context'."
)
_NO_CRYPTOGRAPHY = (
    "the package 'cryptography' cannot be imported in this process: install"
    " 'flask-task-context[encryption]' for the web process and for the worker."
)


def _seal(payload: str, settings: _Settings) -> str:
    """``format:kind:app name:key id:length:payload``. Signed, the whole is followed
    by a dot and the signature; encrypted, all before the length is bound to it."""
    if settings.kind == "encrypted":
        try:
            payload = settings.keys[0].encrypt(payload, settings.prefix)
        except ImportError:
            raise RuntimeError(
                f"TASK_CONTEXT_ENCRYPT is set, and {_NO_CRYPTOGRAPHY}"
            ) from None
    text = f"{settings.prefix}:{len(payload)}:{payload}"
    if settings.kind == "signed":
        return f"{text}.{settings.keys[0].sign(text)}"
    if payload and settings.kind == "unsigned":
        _warn_of_no_key(settings.name)
    return text


@functools.cache
def _warn_of_no_key(name: str) -> None:
    """Once for a process, in the web and in the worker."""
    logging.getLogger("flask_task_context").warning(
        "The app %r has no SECRET_KEY: the requests that travel with its tasks are"
        " unsigned, and whoever can write to the broker can make one up. Set one, the"
        " same in every process.",
        name,
    )


def _room(settings: _Settings) -> int:
    """How many characters of payload fit into the largest header."""
    room = settings.max_size - len(f"{settings.prefix}:{settings.max_size}:")
    if settings.kind == "encrypted":
        return room // 4 * 3 - _ENCRYPTION
    return room - _SIGNATURE if settings.kind == "signed" else room


class _ParsedHeader:
    """What a header says of itself; :func:`_unseal` proves it."""

    def __init__(self, header: t.Any) -> None:
        if not isinstance(header, str):
            raise BadContext(
                f"The context is no string but of type {type(header).__name__!r}: send"
                " it as 'capture_context' gives it."
            )
        version = header.partition(":")[0]
        if version.isdecimal() and header.isascii() and int(version[:9]) > int(_FORMAT):
            raise BadContext(
                f"The context has format {version[:9]}, and this flask-task-context"
                f" ({__version__}) reads up to {_FORMAT}: update it in the worker first."
            )
        parts = _PARTS.fullmatch(header)
        if version != _FORMAT or parts is None or not header.isascii():
            raise BadContext(_NOT_OURS)
        self.text = header
        self.prefix, self.kind, name, self.key_id, length, self.payload = parts.groups()
        self.app_name = unquote(name)
        expected = int(length) + (_SIGNATURE if self.kind == "signed" else 0)
        if len(self.payload) != expected:
            raise BadContext(
                f"The context was cut or changed on its way: {len(self.payload)}"
                f" characters have arrived where {expected} were sent. {_LOOK}"
            )


def _unseal(header: _ParsedHeader, settings: _Settings) -> str:
    if header.kind == settings.kind == "unsigned":
        _warn_of_no_key(settings.name)
        return header.payload
    if not settings.keys:
        raise BadContext(
            f"The context is {header.kind}, and the app {settings.name!r} has no"
            " SECRET_KEY in this process: set the one of the process that sent it."
        )
    if header.kind != "encrypted" and header.kind != settings.kind:
        raise BadContext(
            f"The context is {header.kind}, and the app {settings.name!r} takes only"
            f" {settings.kind} ones in this process: give the process that sent it the"
            " same SECRET_KEY and TASK_CONTEXT_ENCRYPT."
        )
    for key in settings.keys:
        if key.id == header.key_id:
            return _unseal_with(key, header)
    ids = " and ".join(repr(key.id) for key in settings.keys)
    raise BadContext(
        f"The context is {header.kind} with a SECRET_KEY that the app"
        f" {settings.name!r} does not have in this process: give every process the"
        " same key (not one that 'os.urandom' or 'secrets' makes anew at each start),"
        " and old ones in SECRET_KEY_FALLBACKS. The context's key has the id"
        f" {header.key_id!r}, and this process has {ids}."
    )


def _unseal_with(key: _Key, header: _ParsedHeader) -> str:
    if header.kind == "encrypted":
        try:
            return key.decrypt(header.payload, header.prefix)
        except ImportError:
            raise BadContext(
                f"The context is encrypted, and {_NO_CRYPTOGRAPHY}"
            ) from None
        except ValueError:
            raise BadContext(
                f"The context was changed on its way: it does not decrypt. {_LOOK}"
            ) from None
    signed, _, signature = header.text.rpartition(".")
    # Strings: base64 takes other spellings of the same bytes too.
    if not hmac.compare_digest(key.sign(signed), signature):
        raise BadContext(
            f"The context was changed on its way: its signature is wrong. {_LOOK}"
        )
    return header.payload[:-_SIGNATURE]


class _Key:
    """What is derived from one secret key."""

    def __init__(self, secret: str | bytes) -> None:
        if not isinstance(secret, str | bytes):
            raise TypeError(
                "SECRET_KEY or one of SECRET_KEY_FALLBACKS is of type"
                f" {type(secret).__name__!r}: make it a string or bytes."
            )
        self.secret = secret.encode() if isinstance(secret, str) else secret
        #: Tells a foreign key from a damaged message.
        self.id = urlsafe_b64encode(self._derive("key id"))[:6].decode("ascii")
        self.signing = hmac.new(self._derive("signature"), digestmod="sha256")

    def _derive(self, purpose: str) -> bytes:
        message = f"flask-task-context {purpose}".encode("ascii")
        return hmac.digest(self.secret, message, "sha256")

    def sign(self, text: str) -> str:
        signing = self.signing.copy()
        signing.update(text.encode("ascii"))
        return urlsafe_b64encode(signing.digest()).decode("ascii").rstrip("=")

    @functools.cached_property
    def cipher(self) -> tuple[t.Any, type[Exception]]:
        """With what it raises where it does not decrypt."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = b"flask-task-context encryption"
        return AESGCM(HKDF(SHA256(), 32, None, info).derive(self.secret)), InvalidTag

    def encrypt(self, payload: str, bound: str) -> str:
        cipher, _ = self.cipher
        nonce = os.urandom(12)
        sealed = cipher.encrypt(nonce, payload.encode(), bound.encode())
        return urlsafe_b64encode(nonce + sealed).decode("ascii")

    def decrypt(self, text: str, bound: str) -> str:
        """:raises ValueError: when it is not what :meth:`encrypt` gave."""
        cipher, invalid_tag = self.cipher
        encoded = text.encode("ascii").translate(_STANDARD)
        sealed = b64decode(encoded)
        if b64encode(sealed) != encoded:
            raise ValueError("another spelling of the same bytes")
        try:
            payload: bytes = cipher.decrypt(sealed[:12], sealed[12:], bound.encode())
        except invalid_tag as error:
            raise ValueError("wrong tag") from error
        return payload.decode()


# -- travel: header -> message -> header --------------------------------------


class _Carried:
    """What messages carry that are sent here. It has no ``repr`` of its own, so that
    no error report writes the header out."""

    #: Celery's name of the process that sent it.
    sender: str | None = None
    #: Whether what it has opened is closed.
    ended = False
    #: In its place while hooks and teardown functions run.
    silence: _Carried | None = None

    def __init__(
        self, header: t.Any, context: t.Any = None, message_id: str | None = None
    ) -> None:
        #: "" for none; ``None`` for none, whatever is asked for.
        self.header = header
        #: The request that it stands for; ``None`` outside of any. Not its context, of
        #: which ``copy_current_request_context`` makes another.
        self.request = context and context.request
        #: The message that has opened its request, or its app context, here.
        self.message_id = message_id
        #: The names of what did not travel, under the setting that has left them out.
        self.missing: dict[str, list[str]] = {}


_carried: contextvars.ContextVar[_Carried | None] = contextvars.ContextVar(
    "carried", default=None
)

# The messages that this worker has. When the process of a task was killed, the main
# process sends its errbacks and calls its handlers, which have no more of it than its id.
_received: weakref.WeakValueDictionary[str, t.Any] = weakref.WeakValueDictionary()


def _carried_here() -> _Carried | None:
    """Not that of a message which has ended, in a thread that was begun there."""
    carried = _carried.get()
    return None if carried is not None and carried.ended else carried


def _is_silent(carried: _Carried | None) -> bool:
    """Whether hooks and teardown functions are running. What these send carries no
    request: an access log that a task writes would write itself for ever."""
    return carried is not None and carried.header is None


def _send(send: t.Callable[[], R], own: t.Any) -> R:
    """What is sent by this call carries its own context, or else the current request."""
    outer, context = _carried_here(), _request_context()
    if own is None and _is_silent(outer):
        return send()
    if own is None:
        own = _capture(context) if context else _inherited() or ""
    sending = _Carried(own, context)
    _carried.set(sending)
    del own  # An error report would write it out.
    try:
        return send()
    finally:
        sending.ended = True
        _carried.set(outer)


def _inherited() -> t.Any:
    """What a message carries that is sent here with no word of a context: the nearest
    of the live request and the message that is being worked on. "" for none, and
    ``None`` where neither is there: then its parent may be in this worker."""
    carried, context = _carried_here(), _request_context()
    if _is_silent(carried):
        return ""
    if carried is not None and carried.request is (context and context.request):
        return carried.header
    if context is None:
        _, message = _current_message()
        header = _header_in(message)
        return "" if header is None and message is not None else header
    return _capture(context) if _settings(context.app).auto else ""


def _add_header(headers: dict[str, t.Any] | None = None, **signal: t.Any) -> None:
    """To each message that is published, and has no context of its own."""
    if headers is None or _header_of(headers) is not None:
        return
    try:
        header = _inherited()
    except Exception as error:  # noqa: BLE001 - Celery would swallow it
        signal["properties"]["expiration"] = _Unsendable(error)
        return
    if header is None:
        header = _header_received(headers.get("parent_id"))
    if header:
        headers[_HEADER] = header


class _Unsendable:
    """Stops the message whose expiration it is. Celery swallows what a receiver of
    its signal raises, but not what kombu raises when it reckons in milliseconds."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __mul__(self, other: int) -> t.NoReturn:
        raise self.error


def _remember(request: t.Any = None, **signal: t.Any) -> None:
    _received[request.id] = request


def _begin(task: t.Any = None, **signal: t.Any) -> None:
    pushed = (
        _active_context() if flask.has_request_context() else None,
        _active_app_context() if flask.has_app_context() else None,
    )
    if pushed != _before.get() and not task.request.is_eager:
        _before.set(pushed)


before_task_publish.connect(_add_header, weak=False)
task_prerun.connect(_begin, weak=False)
task_received.connect(_remember, weak=False)


def _current_message(args: tuple[t.Any, ...] = ()) -> tuple[t.Any, Context | None]:
    """The message that is being worked on, and its task where no other one runs inside
    of it. Tasks that are called directly are passed over, and eager ones without a
    context: what they are called in counts."""
    innermost = None
    for task, message in _stacked_messages():
        innermost = innermost or task
        if not message.called_directly and (
            not message.is_eager or _header_in(message) is not None
        ):
            return task if task is innermost else None, message
    # When the process of a task was killed, the worker's main process calls its
    # errbacks, with no more than the failed message (behind the task, in ``__call__``).
    return None, next((arg for arg in args[:2] if isinstance(arg, Context)), None)


def _header_in(message: Context | None) -> t.Any:
    if message is None:
        return None
    header = _header_of(message.headers)
    return message.get(_HEADER) if header is None else header


def _header_of(headers: t.Mapping[str, t.Any] | None) -> t.Any:
    """Our header, or ``None``. Some tools (sentry-sdk, ddtrace) put a second dict
    of headers inside, and Celery then hands out the inner one alone."""
    if not headers:
        return None
    nested = headers.get("headers")
    if _HEADER not in headers and isinstance(nested, dict):
        return nested.get(_HEADER)
    return headers.get(_HEADER)


def _own_headers(task: t.Any) -> t.Any:
    """Those that a signature has among its options."""
    options = task.get("options") if isinstance(task, dict) else None
    return options.get("headers") if options else None


def _header_received(message_id: t.Any) -> t.Any:
    """That of a message which this worker has, or ``None``."""
    message = _received.get(str(message_id))
    return None if message is None else _header_of(message.request_dict)


def _check_headers(headers: t.Any) -> None:
    """:raises TypeError: where nothing could be found, though it may be there."""
    if not hasattr(headers, "get") or not hasattr(headers, "__contains__"):
        raise TypeError(
            f"The headers are of type {type(headers).__name__!r}: pass a mapping, as"
            " 'capture_context()' gives it and 'task.request.headers' holds it."
        )
    if _HEADER.encode() in headers:
        raise TypeError("The headers' names are bytes: decode names and values.")


def _check_task(task: t.Any, method: str) -> None:
    """:raises TypeError: for what is no task, and says what to send instead."""
    if hasattr(task, method) and not inspect.isclass(task):
        return
    if isinstance(task, str):
        instead = (
            "pass the task and then its arguments, not what a call of it returned; for"
            " a task's name 'celery_app.send_task(name, args, headers=capture_context())'"
        )
    elif inspect.isclass(task):
        instead = "pass the task that 'celery_app.register_task' made of it"
    elif hasattr(getattr(task, "__self__", None), "apply_async"):
        instead = "pass the task, not a method of it, and then its arguments"
    elif callable(task):
        instead = (
            "put '@app.task' or '@shared_task' on it, or pass one of its signatures"
        )
    else:
        instead = "pass a task, a signature or a canvas, and not what a task returned"
    raise TypeError(f"{task!r} is not a Celery task: {instead}.")


# -- find the app ------------------------------------------------------------

_apps: dict[str, flask.Flask] = {}
_loaded: dict[t.Any, flask.Flask] = {}
_loading = threading.RLock()


def _find_app(
    option: _AppOption, name: str | None = None, *, asked: bool
) -> flask.Flask:
    """:param asked: whether a message from a broker asks for it, which a context that
    was pushed in this process before has no say in."""
    if option is not None:
        # OpenTelemetry puts a class of its own in the place of ``flask.Flask``.
        return option if isinstance(option, Flask) else _load(option)
    if name in _apps:
        return _apps[name]
    active = flask.has_app_context()
    if len(_apps) == 1 and (asked or not active):
        return next(iter(_apps.values()))
    if active:
        return t.cast("flask.Flask", _behind(flask.current_app))
    if _apps:
        raise _unknown(name)
    return _load(os.environ.get("FLASK_APP"))


def _unknown(name: str | None) -> Exception:
    known = ", ".join(map(repr, sorted(_apps)))
    if name is None:
        return RuntimeError(
            f"Several Flask apps were given to 'init_app' ({known}) and the message"
            " names none: say which with '@with_request_context(app=...)'."
        )
    return BadContext(
        f"The context is for a Flask app named {name!r}, and 'init_app' was given"
        f" others ({known}): register it in the worker too."
    )


def _load(source: t.Callable[[], flask.Flask] | str | None) -> flask.Flask:
    """A factory or an import string, loaded once in this process."""
    with _loading:
        if source not in _loaded:
            with _celery_app_kept():
                app = source() if callable(source) else _import_app(source)
            _loaded[source] = _behind(app)
        app = _loaded[source]
    if not isinstance(app, Flask):
        raise TypeError(
            f"{source!r} gave {app!r}, which is not a Flask app: make it return one."
        )
    return app


def _import_app(path: str | None) -> flask.Flask:
    try:
        return ScriptInfo(app_import_path=path).load_app()
    except ClickException as error:
        if path is not None:
            raise RuntimeError(
                f"No Flask app for this task: {error.format_message()} Correct FLASK_APP"
                f" or 'app=', which is {path!r}: the worker must be able to import it."
            ) from error
        raise RuntimeError(
            "No Flask app for this task: call 'flask_task_context.init_app(app)' in a"
            " module that the worker imports, set FLASK_APP for the worker, or use"
            " '@with_request_context(app=\"module:create_app\")'. Flask's own search"
            f" says: {error.format_message()}"
        ) from error


def _check_app(option: t.Any) -> None:
    if not (option is None or callable(option) or isinstance(option, str)):
        raise TypeError(
            f"app={option!r} is no Flask app: pass one, its factory, or an import"
            " string such as 'shop:create_app'."
        )


# -- restore: header -> snapshot -> request ------------------------------------


def _restore(carried: _Carried, option: _AppOption) -> t.ContextManager[t.Any]:
    """The request that the header stands for, or an app context: of its own for a
    message that asks for it, else the active one where that is the app's."""
    try:
        return _restore_request(carried, option)
    except BadContext as error:
        _forget_variables(error)
        if carried.sender:
            error.args = (f"{error} It was sent by {carried.sender!r}.",)
        raise


def _restore_request(carried: _Carried, option: _AppOption) -> t.ContextManager[t.Any]:
    asked = carried.message_id is not None
    if carried.header in ("", None):
        app = _find_app(option, asked=asked)
        active = None if asked else _app_context()
        if active is not None and active.app == app:
            return contextlib.nullcontext()
        return _Restored(app, carried if asked else None)
    header = _ParsedHeader(carried.header)
    app = _find_app(option, header.app_name, asked=asked)
    settings = _settings(app)
    if settings.name != header.app_name and header.app_name in _apps:
        return _Restored(app, carried)
    snapshot = _decode(_unseal(header, settings), settings.values.decode)
    opened = _Restored(app, carried, snapshot)
    carried.request = opened.context.request
    carried.missing = snapshot["missing"]
    return opened


def _decode(payload: str, decode: t.Callable[[str], t.Any]) -> dict[str, t.Any]:
    """The snapshot, checked."""
    try:
        parts = decode(payload)
        body, session = parts.get("body") or {}, parts.get("session")
        missing = parts.get("missing", {})
        return {
            "environ": _environ_from(parts["server"], parts["environ"], body),
            "form": _form_from(body) if "form" in body else None,
            "session": None if session is None else dict(session),
            "g": _attributes_from(parts.get("g", {})),
            "signals": dict(parts.get("signals", {})),
            "missing": {str(k): [*map(str, v)] for k, v in missing.items()},
        }
    except _UNREADABLE as error:
        raise BadContext(
            f"The context cannot be read: {error!r}. Send it as 'capture_context'"
            " gives it."
        ) from error


def _attributes_from(values: dict[str, t.Any]) -> dict[str, t.Any]:
    attributes = dict(values)
    for name in attributes:
        if not _is_attribute(name):
            raise ValueError(f"{name!r} is no attribute of g")
    return attributes


_may_arrive = _Known(_may_travel)


def _environ_from(
    server: list[t.Any], variables: dict[str, str], body: dict[str, t.Any]
) -> dict[str, t.Any]:
    for key in variables:
        if not _may_arrive[key]:
            raise ValueError(f"{key!r} is no request variable")
    always = {k: v for k, v in zip(_ALWAYS, server, strict=True) if v is not None}
    # Raises where one is missing, is no string, or is none that WSGI knows.
    "".join([always["REQUEST_METHOD"], always["wsgi.url_scheme"], *variables.values()])
    texts = [v for k, v in always.items() if k not in _NUMBERS or isinstance(v, str)]
    "".join(texts).encode("latin-1")
    if not {str, int, bool}.issuperset(type(always.get(key, "")) for key in _NUMBERS):
        raise TypeError("a port or a flag of another type")
    stream = _stream_from(body)
    if "CONTENT_LENGTH" in variables and body.keys() & {"text", "base64"}:
        # Without the fields that were excluded it may be shorter.
        length = len(t.cast("io.BytesIO", stream).getbuffer())
        variables = {**variables, "CONTENT_LENGTH": str(length)}
    return {
        **always,
        **variables,
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
    }


def _stream_from(body: dict[str, t.Any]) -> t.IO[bytes]:
    if left_out := body.get("left_out") or body.get("raw"):
        return _left_out_from(*left_out)  # type: ignore[return-value]
    if "base64" in body:
        return io.BytesIO(b64decode(body["base64"]))
    return io.BytesIO(body.get("text", "").encode("ascii"))


def _left_out_from(what: str, size: int | None, reason: str) -> _LeftOutStream:
    if not isinstance(size, int | None):
        raise TypeError(f"{size!r} is no size")
    return _LeftOutStream(size, str(reason), str(what))


def _form_from(body: dict[str, t.Any]) -> tuple[list[t.Any], list[t.Any]]:
    fields = [(str(name), str(value)) for name, value in body["form"]]
    files = [(str(part[0]), _file_from(part)) for part in body.get("files", ())]
    return fields, files


def _file_from(part: list[t.Any]) -> FileStorage:
    name, filename, headers, content, left_out = part
    stream: t.Any = io.BytesIO(b64decode(content or ""))
    if left_out:
        stream = _left_out_from(*left_out)
    return FileStorage(
        stream,
        filename=None if filename is None else str(filename),
        name=str(name),
        headers=Headers([(str(key), str(value)) for key, value in headers]),
    )


class _Restored:
    """A request, or an app context alone, as a context manager: what is sent inside
    carries the header. It is no generator: one that a soft time limit leaves between
    two steps is closed later, maybe in another task's request."""

    def __init__(
        self,
        app: flask.Flask,
        carried: _Carried | None,
        snapshot: dict[str, t.Any] | None = None,
    ) -> None:
        self.app, self.carried = app, carried
        self.silence, self.entered = _Carried(None), False
        self.snapshot: t.Any = snapshot
        self.context: t.Any = None
        # Without one of its own, the request would share an active app context's ``g``.
        own = snapshot is None or not _MERGED
        self.around = app.app_context() if own else None
        if snapshot is None:
            return
        session = _restored_session(app, snapshot["session"])
        self.context = _new_request_context(app, snapshot["environ"], session)
        if snapshot["form"] is not None:
            request = self.context.request
            fields, files = snapshot["form"]
            storage = _storage_class(request)
            request.form, request.files = storage(fields), storage(files)
            request.data = b""

    def __enter__(self) -> t.Any:
        if self.entered:
            raise RuntimeError(
                "This context was entered before: call 'restore_context' for each time."
            )
        self.entered, self.outer = True, _carried_here()
        carried = self.carried or self.outer
        if self.carried is not None:
            self.carried.silence = self.silence
            if self.outer is not None and self.carried.message_id is None:
                self.carried.message_id = self.outer.message_id
        _carried.set(self.silence)
        try:
            if self.around is not None:  # pragma: no branch - Flask 3.2
                self.around.push()
            if self.snapshot is not None:
                self._push()
        except BaseException:
            self._end()
            raise
        _carried.set(carried)
        return self.context

    def _push(self) -> None:
        # The snapshot is no variable: an error report would write it out.
        try:
            self.context.push()
            for name in self.snapshot["g"]:
                setattr(flask.g, name, self.snapshot["g"][name])
            if context_restored.receivers:
                context_restored.send(self.app, entries=self.snapshot["signals"])
        except BaseException as error:
            self._pop(error)
            raise

    def __exit__(self, kind: t.Any, error: BaseException | None, trace: t.Any) -> None:
        _carried.set(self.silence)
        try:
            self._pop(None if isinstance(error, Ignore) else error)
        finally:
            self._end()

    def _end(self) -> None:
        _carried.set(self.outer)
        self.silence.ended = True
        if self.carried is not None:
            self.carried.ended = True
        for context in (self.context, self.around):
            if context is not None:
                setattr(context, _ENDED, True)

    def _pop(self, error: BaseException | None) -> None:
        try:
            if self.context is not None:
                _pop_context(self.context, error)
        finally:
            if self.around is not None:  # pragma: no branch - Flask 3.2
                _pop_context(self.around, error)


def _restored_session(app: flask.Flask, values: dict[str, t.Any] | None) -> t.Any:
    interface = app.session_interface
    if values is None:
        return interface.make_null_session(app)
    own = getattr(interface, "session_class", SecureCookieSession)
    session = _session_copy_class(interface.null_session_class, own)()
    session.update(values)
    session.modified = session.accessed = False
    return session


@functools.cache
def _session_copy_class(null_class: type, session_class: type) -> t.Any:
    # With the methods of the app's own session class, where that is another.
    own = () if issubclass(null_class, session_class) else (session_class,)
    return type("SessionCopy", (_SessionCopy, null_class, *own), {})


class _SessionCopy:
    """Makes a null session, which Flask never saves, hold values all the same."""

    __setitem__ = SecureCookieSession.__setitem__
    __delitem__ = SecureCookieSession.__delitem__
    clear = SecureCookieSession.clear
    pop = SecureCookieSession.pop
    popitem = SecureCookieSession.popitem
    update = SecureCookieSession.update
    setdefault = SecureCookieSession.setdefault


# -- run: a task's body, in its request ----------------------------------------

_MARK = "_flask_task_context"


class _Options(t.NamedTuple):
    app: _AppOption
    before_request: bool
    after_request: bool


def _wrap(body: t.Callable[..., t.Any], options: _Options) -> t.Callable[..., t.Any]:
    _refuse(body)

    @functools.wraps(body)
    def run(*args: t.Any, **kwargs: t.Any) -> t.Any:
        carried = _what_to_open(options, args)
        if carried is None:
            return body(*args, **kwargs)
        bound = functools.partial(body, *args, **kwargs)
        # Around a base class, the options of the task's own body are nearer.
        beneath = None
        if args and isinstance(args[0], Task) and args[0] is _innermost_task():
            beneath = _options_of(args[0])
        # A copy, so that nothing stays pushed whatever ends the task: a soft time
        # limit can strike between any two steps.
        return _copied_context().run(_work, bound, carried, beneath or options)

    # Celery reads the arguments to check from this, and not from __wrapped__: so what
    # a decorator below gives is not asked for.
    signature = inspect.signature(body, follow_wrapped=False, **_UNEVALUATED)
    run.__signature__ = signature  # type: ignore[attr-defined]
    setattr(run, _MARK, options)
    return run


def _options_of(task: t.Any) -> _Options | None:
    """The options of its own body."""
    return getattr(getattr(task, _body_attribute(task)), _MARK, None)


def _what_to_open(options: _Options, args: tuple[t.Any, ...]) -> _Carried | None:
    """For :func:`_restore`. ``None`` where this call runs as it is: in its caller's
    request, or in what its message has opened already."""
    carried = _carried_here()
    if _is_silent(carried) and flask.has_app_context():
        return None
    task, message = _current_message(args)
    header = _header_in(message)
    if message is not None and not message.is_eager:
        # By its id: a task that calls itself gets a copy of the message.
        if carried is not None and carried.message_id == message.id:
            return None
        if task is not None and _is_asked_for(options, task):
            asked = _Carried("" if header is None else header, message_id=message.id)
            asked.sender = message.get("origin")
            return asked
    if _request_context() is not None:
        return None
    if header is None and carried is not None:
        header = carried.header  # Of an eager chord with ``headers=``.
    return _Carried(header)


def _is_asked_for(options: _Options, task: t.Any) -> bool:
    """Whether this is the body of the message's own task, which a base class may have
    put into a request or an app context of its own."""
    return _options_of(task) == options or any(
        getattr(vars(kind).get("__call__"), _MARK, None) == options
        for kind in type(task).__mro__
    )


def _work(body: t.Callable[[], t.Any], carried: _Carried, options: _Options) -> t.Any:
    with _restore(carried, options.app) as context:
        if context is None:
            return body()
        try:
            _run_before_request(context, options)
            result = _run_body(body, context)
        except Ignore:  # Also ``self.replace``: a normal end.
            _run_after_request(context, options)
            raise
        except Exception as error:
            _explain(error, carried.missing)
            raise
        _run_after_request(context, options)
        return result


#: What Flask-Login and Flask-WTF change where the user and a form are looked at.
_NO_CHANGE = {"_fresh", "_id", "_remember", "_remember_seconds", "csrf_token"}


def _run_body(body: t.Callable[[], t.Any], context: t.Any) -> t.Any:
    # The session is no variable while the body runs: an error report would write it out.
    changed, modified = _changes_of(context), _session_of(context).modified
    _session_of(context).modified = False
    result = body()
    if _session_of(context).modified and (not changed() or changed() - _NO_CHANGE):
        _warn_of_session(body)
    _session_of(context).modified |= modified
    return result


def _changes_of(context: t.Any) -> t.Callable[[], set[t.Any]]:
    """Which keys have other values since. A function holds the values: an error report
    would write out a variable."""
    before, session = dict(_session_of(context)), _session_of(context)

    def changed() -> set[t.Any]:
        keys = before.keys() | session.keys()
        return {k for k in keys if before.get(k, session) is not session.get(k, before)}

    return changed


_warned: set[str] = set()


def _warn_of_session(body: t.Any) -> None:
    """Once for each task, at its function."""
    task = _innermost_task()
    function = _function_of(task) if task else inspect.unwrap(body.func)
    name = task.name if task else function.__qualname__
    if name in _warned:
        return
    _warned.add(name)
    code = getattr(function, "__code__", _work.__code__)
    warnings.warn_explicit(
        f"The task {name!r} changed its session. It is a copy of the visitor's: no"
        " session store and no cookie is written. Change it in a view.",
        UserWarning,
        code.co_filename,
        code.co_firstlineno,
    )


_HOW_TO_SEND_IT = {
    "TASK_CONTEXT_EXCLUDE": "set TASK_CONTEXT_ENCRYPT = True, which leaves none out",
    "TASK_CONTEXT_SESSION": "let the list name it",
}


def _explain(error: Exception, missing: dict[str, list[str]]) -> None:
    """What was left out may be why the task failed."""
    if not missing or isinstance(error, TaskPredicate):
        return
    named = (
        f"{', '.join(names)} ({setting}: {_HOW_TO_SEND_IT.get(setting, 'change it')})"
        for setting, names in missing.items()
    )
    note = (
        f"Of its request this task has not: {'; '.join(named)}. Pass what it needs as an"
        " argument, or change the setting."
    )
    try:
        if note not in (getattr(error, "__notes__", None) or ()):
            error.add_note(note)
    except Exception:  # noqa: BLE001 - Python 3.10, and exceptions that are frozen
        logging.getLogger("flask_task_context").error(note)


@contextlib.contextmanager
def _silenced() -> t.Iterator[None]:
    outer = _carried_here()
    _carried.set(outer and outer.silence)
    yield
    # Not in a ``finally``: a generator that a soft time limit has left would set it when
    # it is closed, maybe in another task's context.
    _carried.set(outer)


def _run_before_request(context: t.Any, options: _Options) -> None:
    if not options.before_request:
        return
    with _silenced():
        try:
            answer = _call_app(context, "preprocess_request")
        except HTTPException as error:
            raise _refusal(context, "aborted", error) from error
        if answer is not None:
            raise _refusal(context, "answered", answer)


def _refusal(context: t.Any, verb: str, answer: t.Any) -> RequestRefused:
    response = context.app.make_response(answer)
    named = repr(response.status)
    if response.location:
        named += f" to {response.location!r}"
    elif isinstance(answer, HTTPException) and answer.response is None:
        named = repr(str(answer))
    return RequestRefused(
        f"A before-request function {verb} the task's request with {named}: let it"
        " pass, or leave out 'before_request=True' of the task."
    )


def _run_after_request(context: t.Any, options: _Options) -> None:
    """They cannot undo the task: its work is done, and a retry would do it twice."""
    if not options.after_request:
        return
    with _silenced():
        try:
            response = context.app.make_response("")
            try:
                response = _call_app(
                    context, "process_response", response, app=_never_saving(context)
                )
            finally:
                response.close()
        except Exception:  # noqa: BLE001 - whatever it is, it is logged
            _call_app(context, "log_exception", sys.exc_info())


def _never_saving(context: t.Any) -> t.Any:
    """The app, or where its session interface takes no session for a null one, which
    Flask would not save, a copy of it with another interface."""
    app = context.app
    if not app.session_interface.is_null_session(_session_of(context)):
        app = copy(app)
        app.session_interface = _NoStore()
    return app


class _NoStore(SessionInterface):
    def is_null_session(self, obj: object) -> bool:
        return True


# -- decorate: functions, classes, and tasks that Celery has not made yet ------


def _decorate(task: t.Any, options: _Options) -> t.Any:
    # The type alone: an ``isinstance`` would make Celery evaluate a lazy task.
    if type(task) is PromiseProxy and not task.__evaluated__():
        _decorate_copies(*_made_lazily_of(task), options)
        task.__then__(lambda: _decorate_task(task, options))
    elif type(task) is Proxy:
        _decorate_copies(*_shared_by(task), options)
    elif isinstance(task, Task):
        _decorate_task(task, options)
        _decorate_copies(_function_of(task), task.name, options)
    elif inspect.isclass(task) and issubclass(task, Task):
        _decorate_class(task, options)
    elif isinstance(task, str | Flask):
        raise TypeError(
            f"{task!r} is no function and no task: name an app with"
            " '@with_request_context(app=...)'."
        )
    elif isinstance(task, staticmethod | classmethod):
        return type(task)(_wrap(task.__func__, options))
    elif callable(task) and not inspect.isclass(task):
        return _wrap(task, options)
    else:
        raise TypeError(
            f"{task!r} is no function and no task: put '@with_request_context' on a"
            " function below '@app.task', or on the task above it."
        )
    return task


def _refuse(function: t.Any) -> None:
    """:raises TypeError: for what would not run in its request."""
    name = repr(getattr(function, "__qualname__", function))
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its kind matters
    if hasattr(function, _MARK):
        raise TypeError(f"{name} has '@with_request_context' twice: keep one of them.")
    if not hasattr(function, "__name__"):
        raise TypeError(f"{name} has no name: decorate a function that calls it.")
    coroutine = any(map(inspect.iscoroutinefunction, (function, called)))
    if coroutine or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is an async function, which Celery does not await: its body would"
            " run outside of the request. Make it a plain function."
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{name} is a generator function: its body would run outside of the"
            " request. Return a list."
        )


def _decorate_class(task: t.Any, options: _Options) -> None:
    """What a base class does around its tasks is in their request too. With its
    ``run``, that is opened once all the same."""
    if task is Task:
        raise TypeError(f"{task!r} is Celery's own: decorate a subclass of it.")
    inherited = "__call__" not in vars(task) and hasattr(task.__call__, _MARK)
    if task.__call__ is Task.__call__:
        task.__call__ = _call_of_its_own(task, options)
    elif not inherited or task.run is Task.run:
        task.__call__ = _wrap(task.__call__, options)
    if task.run is not Task.run:
        task.run = _decorate(inspect.getattr_static(task, "run"), options)


def _call_of_its_own(base: t.Any, options: _Options) -> t.Callable[..., t.Any]:
    """Of a base class without one. A body that is decorated opens its request itself:
    beneath autoretry, so that teardown functions see the error."""
    bare = _call_for(base)
    opens = _wrap(bare, options)

    @functools.wraps(opens)
    def call(self: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return (bare if _options_of(self) else opens)(self, *args, **kwargs)

    return call


def _decorate_task(task: t.Any, options: _Options) -> None:
    """Where the same task is defined again, Celery gives the one that it has."""
    if _options_of(task) != options:
        name = _body_attribute(task)
        setattr(task, name, _wrap(getattr(task, name), options))


def _decorate_copies(
    function: t.Callable[..., t.Any], name: str | None, options: _Options
) -> None:
    """Celery apps make a task of their own of one function, as they are finalized:
    decorate the one that each has, or will have."""
    _refuse(function)

    def decorate_copy(sender: t.Any, **signal: t.Any) -> None:
        default = sender.gen_task_name(function.__name__, function.__module__)
        task = sender.tasks.get(name or default)
        if task is not None and _function_of(task) is inspect.unwrap(function):
            _decorate_task(task, options)

    _for_each_celery_app(decorate_copy)


def _function_of(task: t.Any) -> t.Any:
    function = inspect.unwrap(getattr(task, _body_attribute(task)))
    return getattr(function, "__func__", function)


# -- versions: what depends on one, and private names of Flask, Werkzeug and Celery --
#
# Each in a function of its own: since when, why, and what happens when it is gone.
# ``tests/test_private_names.py`` fails by name then, before a worker does.

# Flask 3.2 merges the request context into the app context.
_MERGED = hasattr(AppContext, "has_request")
_proxy: t.Any = flask.globals.app_ctx if _MERGED else flask.globals.request_ctx
_active_context = _proxy._get_current_object
_active_app_context = flask.globals.app_ctx._get_current_object  # type: ignore[attr-defined]


def _behind(app: t.Any) -> t.Any:
    """The app that ``current_app`` stands for, in all of Werkzeug: the proxy is empty
    when the task runs. Gone, so is the app of ``app=current_app``."""
    return getattr(app, "_get_current_object", lambda: app)()


def _session_of(context: t.Any) -> t.Any:
    """Since Flask 3.1.3 ``session`` marks the session as accessed, which adds
    ``Vary: Cookie``; the session itself is beneath."""
    return context._session if hasattr(context, "_session") else context.session


def _call_app(context: t.Any, method: str, *args: t.Any, app: t.Any = None) -> t.Any:
    """Flask 3.2 and later take the context first."""
    return getattr(app or context.app, method)(*((context, *args) if _MERGED else args))


def _new_request_context(app: flask.Flask, environ: t.Any, session: t.Any) -> t.Any:
    """With a session of its own, which Flask then does not open."""
    if _MERGED:  # pragma: no cover - Flask 3.2 is not released
        request = app.request_class(environ)
        request.json_module = app.json
        return AppContext(app, request=request, session=session)  # type: ignore[call-arg]
    return flask.ctx.RequestContext(app, environ, session=session)


_GROUPS: t.Any = getattr(builtins, "BaseExceptionGroup", ()) if _MERGED else ()


def _pop_context(context: t.Any, error: BaseException | None) -> None:
    """Flask 3.2 raises what teardown functions have raised as groups, on Python 3.11
    and later: one error alone leaves as that one, which ``autoretry_for`` knows."""
    raised = None
    try:
        context.pop(error)
    except _GROUPS as group:  # pragma: no cover - Flask 3.2 is not released
        raised = group
        while isinstance(raised, _GROUPS) and len(raised.exceptions) == 1:
            raised = raised.exceptions[0]
    if raised is not None:  # pragma: no cover
        raise raised


def _copied_context() -> contextvars.Context:
    """The context variables, without a request that was pushed in this process before
    the message began. Before Flask 3.2, whose app context hides it; gone, the task would
    see that request beside its own app context."""
    copied = contextvars.copy_context()
    if _MERGED or not flask.has_request_context() or _request_context() is not None:
        return copied
    kept = contextvars.Context()
    for variable in copied:
        if variable is not flask.globals._cv_request:
            kept.run(variable.set, copied[variable])
    return kept


def _cached_data(request: flask.Request) -> bytes | None:
    """What ``get_data()`` has kept, in all of Werkzeug: there is no public name for
    it. Gone, a body that the view has read would be left out."""
    return vars(request).get("_cached_data")


def _storage_class(request: flask.Request) -> t.Any:
    """Of a form: the app's own, which Werkzeug 3.2 deprecates and 3.3 takes away."""
    own = getattr(request, "parameter_storage_class", None)
    return own or ImmutableMultiDict


def _stacked_messages() -> t.Iterator[tuple[t.Any, Context]]:
    """The tasks that are running and their requests, the innermost first, in all of
    Celery. The public ``current_worker_task`` is none in a task that calls itself,
    before Celery 5.5. Gone, nothing inherits."""
    for task in reversed(_task_stack.stack):
        for message in reversed(task.request_stack.stack):
            yield task, message


def _innermost_task() -> t.Any:
    """As ``celery.current_task``, which is a proxy that hides the task's ``__call__``."""
    return _task_stack.top


def _body_attribute(task: t.Any) -> str:
    """Since Celery 4 the body beneath autoretry is ``_orig_run``. Gone, teardown
    functions would see ``Retry`` in place of the error."""
    return "_orig_run" if hasattr(task, "_orig_run") else "run"


def _call_for(base: t.Any) -> t.Callable[..., t.Any]:
    """The ``__call__`` of a base class that has none. Before Celery 5.5 Celery's own takes
    an eager message for a direct call, and hides it: ``_protected`` is how the worker's
    tells the first call. Gone, eager tasks of such a base find no ``self.request``."""

    def call(self: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        message, following = self.request_stack.top, super(base, self).__call__
        others = following.__func__ is not Task.__call__
        if others or message is None or message._protected or not message.is_eager:
            return following(*args, **kwargs)
        message._protected = 1
        return self.run(*args, **kwargs)

    call.__qualname__ = f"{base.__qualname__}.__call__"
    return call


def _made_lazily_of(proxy: t.Any) -> tuple[t.Any, str | None]:
    """The function and the name of ``@app.task`` on an app that is not finalized, in
    all of Celery. Gone, decorating above it fails at import."""
    (function,) = object.__getattribute__(proxy, "_Proxy__args")
    return function, object.__getattribute__(proxy, "_Proxy__kwargs").get("name")


def _shared_by(proxy: t.Any) -> tuple[t.Any, str | None]:
    """The same of ``@shared_task``."""
    finds_task = object.__getattribute__(proxy, "_Proxy__local")
    given = inspect.getclosurevars(finds_task).nonlocals
    return given["fun"], given["name"]


def _for_each_celery_app(decorate: t.Callable[..., None]) -> None:
    """Those that are finalized, and those that will be, as ``shared_task`` does it in
    all of Celery."""
    # Celery calls these in no order: a task may not be made yet.
    connect_on_app_finalize(
        lambda app: app.on_after_finalize.connect(decorate, weak=False)
    )
    for app in _get_active_apps():
        if app.finalized:
            decorate(app)


#: Since Python 3.14 reading a signature evaluates annotations, which may name what is
#: imported for type checkers alone.
_UNEVALUATED: dict[str, t.Any] = (
    {"annotation_format": import_module("annotationlib").Format.FORWARDREF}
    if sys.version_info >= (3, 14)
    else {}
)


@contextlib.contextmanager
def _celery_app_kept() -> t.Iterator[None]:
    """A factory that makes a Celery app makes it the current one, or the default one:
    not for the task that has just loaded it. In all of Celery, which has no public name
    for "none yet"."""
    current, default = _state._tls.current_app, _state.default_app
    try:
        yield
    finally:
        # Where there was none, the factory's own stays.
        found = current or default
        _state._set_current_app(current if found else _state._tls.current_app)
        _state.set_default_app(default if found else _state.default_app)
