"""An app that writes down all that can be seen of a request, and a client that
sends any request byte by byte."""

from __future__ import annotations

import datetime
import decimal
import inspect
import json
import socket
import types
import typing as t
import uuid
import warnings
from pathlib import Path

import flask
from flask import g
from flask import request
from flask import session
from flask import url_for
from flask.json.provider import JSONProvider
from markupsafe import Markup
from werkzeug.datastructures import CombinedMultiDict
from werkzeug.datastructures import ETags
from werkzeug.datastructures import FileStorage
from werkzeug.datastructures import Headers
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter
from werkzeug.routing import Rule

from flask_task_context import LeftOut
from flask_task_context import capture_context

#: Public attributes of a request that are no values, and where they are tested.
NOT_COMPARED = {
    "environ": "holds the server's objects; its request variables are compared below",
    "input_stream": "the server's; what it gives is compared in test_body",
    "stream": "reading takes it away; what it gives is compared in test_body",
}
#: Those of a session that say what this side did with it.
NOT_COMPARED_OF_SESSION = {
    "accessed": "the view has used its session; the task has not yet",
    "modified": "the view's session is to be saved; the task's copy never is",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "TRACE"]


# -- what can be seen ---------------------------------------------------------


def observe() -> dict[str, t.Any]:
    """Every public attribute of the request and what hangs on it, as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return {
            "request": observe_request(),
            "environ": observe_environ(),
            "session": observe_session(),
            "g": {name: show(g.get(name)) for name in ("tenant", "tags", "language")},
            "url_for": {name: attempt(make) for name, make in URLS.items()},
        }


def observe_request() -> dict[str, t.Any]:
    current = request._get_current_object()  # type: ignore[attr-defined]
    seen = {
        name: attempt(lambda name=name: getattr(current, name))
        for name in public_attributes(current)
        if name not in NOT_COMPARED
    }
    seen["get_json(force=True)"] = attempt(lambda: current.get_json(force=True))
    seen["get_json(silent=True)"] = attempt(lambda: current.get_json(silent=True))
    seen["get_data(as_text=True)"] = attempt(lambda: current.get_data(as_text=True))
    return seen


def observe_environ() -> dict[str, t.Any]:
    return {
        key: show(value)
        for key, value in request.environ.items()
        if key.startswith("HTTP_")
        or key in ("AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "PATH_INFO")
        or key in ("QUERY_STRING", "REMOTE_ADDR", "REMOTE_HOST")
        or key in ("REMOTE_USER", "REQUEST_METHOD", "SCRIPT_NAME", "SERVER_NAME")
        or key in ("SERVER_PORT", "SERVER_PROTOCOL", "wsgi.url_scheme")
    }


def observe_session() -> dict[str, t.Any]:
    current = session._get_current_object()  # type: ignore[attr-defined]
    seen = {
        name: attempt(lambda name=name: getattr(current, name))
        for name in public_attributes(current)
        if name not in NOT_COMPARED_OF_SESSION
    }
    return {**seen, "values": show(dict(current))}


def public_attributes(thing: t.Any) -> list[str]:
    """All names without an underscore that are no method."""
    return [
        name
        for name in dir(thing)
        if not name.startswith("_")
        and not inspect.isroutine(inspect.getattr_static(thing, name))
    ]


def attempt(get: t.Callable[[], t.Any]) -> t.Any:
    try:
        return show(get())
    except (HTTPException, LookupError, LeftOut, AttributeError, ValueError) as error:
        return show(error)


def show(value: t.Any) -> t.Any:
    """The value as JSON that differs wherever the value does."""
    if value is None or isinstance(value, bool | int | float):
        return "NaN" if value != value else value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, JSONProvider):
        return kind
    if isinstance(value, str):
        return value if type(value) is str else [kind, str(value)]
    if isinstance(value, bytes):
        return [kind, value.decode("latin-1")]
    if isinstance(value, type | types.ModuleType):
        return repr(value)
    if isinstance(value, Headers):
        return ["headers", [show(pair) for pair in value]]
    if isinstance(value, MultiDict | CombinedMultiDict):
        return [kind, [show(pair) for pair in value.items(multi=True)]]
    if isinstance(value, FileStorage):
        return [kind, show_file(value)]
    if isinstance(value, HTTPException):
        return [kind, str(value), value.code, show(getattr(value, "new_url", None))]
    if isinstance(value, Exception):
        return [kind, str(value)]
    if isinstance(value, Rule):
        shown = [value.rule, value.endpoint, value.subdomain, value.host]
        return [kind, *shown, sorted(value.methods or ()), show(value.defaults)]
    if isinstance(value, dict):
        pairs = [[key, show(item)] for key, item in value.items()]
        return [kind, pairs, show_parts(value)]
    if isinstance(value, list | tuple):
        return [kind, [show(item) for item in value], show_parts(value)]
    if isinstance(value, set | frozenset):
        return [kind, sorted(map(repr, value))]
    if isinstance(value, datetime.datetime | uuid.UUID | decimal.Decimal):
        return repr(value)
    shown = show_parts(value)
    if isinstance(value, ETags):  # sets, whose order is by chance
        return [kind, shown]
    assert shown or hasattr(type(value), "__len__"), f"cannot show a {kind}"
    return [kind, str(value), shown]


def show_parts(value: t.Any) -> t.Any:
    parts = {k: v for k, v in getattr(value, "__dict__", {}).items() if v is not value}
    return {name: show(part) for name, part in parts.items() if not callable(part)}


def show_file(file: FileStorage) -> dict[str, t.Any]:
    shown = {
        name: show(getattr(file, name))
        for name in public_attributes(file)
        if name != "stream"
    }
    position = file.stream.tell()
    shown["content"] = show(file.read())
    file.stream.seek(position)
    return {**shown, "position": position}


URLS: dict[str, t.Callable[[], str]] = {
    "plain": lambda: url_for("item", number=7),
    "external": lambda: url_for("item", number=7, _external=True),
    "not external": lambda: url_for("item", number=7, _external=False),
    "scheme": lambda: url_for("item", number=7, _scheme="https", _external=True),
    "anchor": lambda: url_for("item", number=7, _anchor="oben, ä/b"),
    "method": lambda: url_for("item", number=7, _method="PURGE"),
    "query": lambda: url_for("item", number=7, q=["1", "ü&"], none=None),
    "path": lambda: url_for("deep", where="a b/ç?"),
    "converter": lambda: url_for("numbers", ids=[3, 4]),
    "static": lambda: url_for("static", filename="a b.css", _external=True),
    "sibling": lambda: url_for(".sibling"),
    "blueprint": lambda: url_for("local.sibling", language="fr", _external=True),
    "with defaults": lambda: url_for("local.view"),
    "current": lambda: url_for(str(request.endpoint), **(request.view_args or {})),
    "on a host": lambda: url_for("on_host", name="zoe", _external=True),
    "missing value": lambda: url_for("item"),
    "unknown": lambda: url_for("nowhere"),
}


# -- the app ------------------------------------------------------------------


class Numbers(BaseConverter):
    regex = r"\d+(?:\+\d+)*"

    def to_python(self, value: str) -> list[int]:
        return [int(part) for part in value.split("+")]

    def to_url(self, value: list[int]) -> str:
        return "+".join(map(str, value))


class Price(BaseConverter):
    regex = r"\d+\.\d\d"

    def to_python(self, value: str) -> decimal.Decimal:
        return decimal.Decimal(value)


VARIANTS: dict[str, dict[str, t.Any]] = {
    "plain": {},
    "proxied": {},
    "mounted": {},
    "signed in": {},
    "subdomains": {"subdomain_matching": True},
    "hosts": {"host_matching": True, "static_host": "static.example"},
}


def wrap(app: flask.Flask, variant: str) -> None:
    """Put the variant's middleware around the app."""
    inner = app.wsgi_app

    def signed_in(environ: dict[str, t.Any], start: t.Any) -> t.Any:
        environ.update(
            REMOTE_USER="anna", AUTH_TYPE="Negotiate", REMOTE_HOST="anna.example"
        )
        return inner(environ, start)

    if variant == "proxied":
        app.wsgi_app = ProxyFix(inner, 1, 1, 1, 1, 1)  # type: ignore[method-assign]
    elif variant == "mounted":
        mount = MOUNT.encode().decode("latin-1")
        none = flask.Flask("none")
        app.wsgi_app = DispatcherMiddleware(none, {mount: inner})  # type: ignore
    elif variant == "signed in":
        app.wsgi_app = signed_in  # type: ignore[method-assign]


MOUNT = "/my shöp"


def create_app(variant: str = "plain", **config: t.Any) -> flask.Flask:
    app = flask.Flask("observed", static_folder="static", **VARIANTS[variant])
    app.config.update(
        {
            "SECRET_KEY": "observed",
            "TASK_CONTEXT_G": ["tenant", "tags", "language"],
            "TASK_CONTEXT_EXCLUDE": [],
            "PREFERRED_URL_SCHEME": "https",
            **({"SERVER_NAME": "shop.example"} if variant == "subdomains" else {}),
            **config,
        }
    )
    wrap(app, variant)
    app.url_map.converters.update(numbers=Numbers, price=Price)
    place: dict[str, t.Any] = {"host": "inner.example"} if variant == "hosts" else {}

    def view(**values: t.Any) -> str:
        report(app, "view")
        return "seen\n"

    for rule, endpoint, options in (
        ("/", "index", {}),
        ("/item/<int:number>", "item", {}),
        ("/deep/<path:where>", "deep", {}),
        ("/name/<name>", "name", {}),
        ("/numbers/<numbers:ids>", "numbers", {}),
        ("/price/<price:amount>/<float:rate>/<uuid:key>", "price", {}),
        ("/kind/<any(a,b):kind>", "kind", {}),
        ("/page/", "page", {"defaults": {"number": 1}}),
        ("/page/<int:number>", "page", {}),
        ("/get", "get", {"methods": ["GET"]}),
    ):
        options = {"methods": METHODS, **options, **place}
        options["provide_automatic_options"] = False
        app.add_url_rule(rule, endpoint, view, **options)
    if variant == "subdomains":
        app.add_url_rule("/on", "on_host", view, subdomain="<name>")
    if variant == "hosts":
        app.add_url_rule("/on", "on_host", view, host="<name>.example:<int:port>")
        return add_hooks(app)
    local = flask.Blueprint("local", __name__, url_prefix="/<language>")
    local.add_url_rule("/", "view", view)
    local.add_url_rule("/sibling", "sibling", view)
    inner = flask.Blueprint("inner", __name__, url_prefix="/inner")
    inner.add_url_rule("/<int:number>", "view", view)
    inner.add_url_rule("/sibling", "sibling", view)
    local.register_blueprint(inner)

    @local.url_defaults
    def fill(endpoint: str, values: dict[str, t.Any]) -> None:
        values.setdefault("language", g.language)

    app.register_blueprint(local)
    return add_hooks(app)


def add_hooks(app: flask.Flask) -> flask.Flask:
    @app.before_request
    def before() -> None:
        session.update(SESSION)
        session.permanent = True
        g.tenant, g.tags, g.unnamed = TENANT, ["a", ("b",)], object()
        g.language = (request.view_args or {}).get("language", "de")
        report(app, "before_request")

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        report(app, "after_request")
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        report(app, "teardown_request")

    @app.errorhandler(404)
    @app.errorhandler(405)
    def refused(error: HTTPException) -> tuple[str, int]:
        report(app, "error handler")
        return "refused\n", t.cast("int", error.code)

    return app


TENANT = {"id": uuid.UUID(int=7), "since": [1, 2.5, None, True, "ü"], "key": b"\0\xff"}
SESSION = {
    "cart": {"pear": 2, "tuple": (1, (2,))},
    "html": Markup("<b>&amp;</b>"),
    "seen": datetime.datetime(2026, 11, 22, 9, 39, tzinfo=datetime.timezone.utc),
    "thumb": b"\x00\xfe",
    "user": uuid.UUID(int=1),
}


def report(app: flask.Flask, stage: str) -> None:
    """At the stage that the test has asked for: observe, capture, write down."""
    if "FOLDER" not in app.config:  # the task's own app
        return
    folder = Path(app.config["FOLDER"])
    order = json.loads((folder / "next.json").read_text())
    if order["stage"] != stage:
        return
    captured = [capture_context()] if order["capture_first"] else []
    seen = observe()
    captured.append(capture_context())
    (folder / "writing.json").write_text(json.dumps([seen, captured]))
    (folder / "writing.json").rename(folder / "seen.json")


def front(folder: str) -> t.Callable[..., t.Any]:
    """All variants as one WSGI application: each request's order says which."""
    apps = {variant: create_app(variant, FOLDER=folder) for variant in VARIANTS}

    def application(environ: dict[str, t.Any], start: t.Any) -> t.Any:
        order = json.loads((Path(folder) / "next.json").read_text())
        return apps[order["variant"]](environ, start)

    return application


# -- the client ---------------------------------------------------------------


class Sent(t.NamedTuple):
    """One request, as it goes over the wire."""

    target: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    variant: str = "plain"
    stage: str = "view"
    chunked: bool = False
    host: str | None = "shop.example"
    protocol: str = "HTTP/1.1"
    expected: t.Mapping[str, t.Any] = types.MappingProxyType({})

    def bytes(self) -> t.Any:
        lines = [f"{self.method} {self.target} {self.protocol}"]
        lines += [f"{key}: {value}" for key, value in self.all_headers()]
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        body = self.body or b""
        return head + (chunked(body) if self.chunked else body)

    def all_headers(self) -> list[tuple[str, str]]:
        headers = [] if self.host is None else [("Host", self.host)]
        headers += self.headers
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif self.body is not None:
            headers.append(("Content-Length", str(len(self.body))))
        return headers

    def order(self, capture_first: bool) -> str:
        order = {"variant": self.variant, "stage": self.stage}
        return json.dumps({**order, "capture_first": capture_first})


def chunked(body: bytes, size: int = 7) -> bytes:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return framed + b"0\r\n\r\n"


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes, and give the bytes that come back."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def open_in_client(app: flask.Flask, sent: Sent) -> None:
    """Send it with Flask's test client, as near to the wire as that comes."""
    environ: dict[str, t.Any] = {"SERVER_PROTOCOL": sent.protocol}
    if sent.chunked:
        environ["wsgi.input_terminated"] = True
    app.test_client(use_cookies=False).open(
        sent.target,
        method=sent.method,
        headers=Headers([h for h in sent.all_headers() if h[0] != "Content-Length"]),
        data=sent.body,
        environ_overrides=environ,
    )


def multipart(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    """Parts, each as its headers and its content."""
    framed = [f"--{boundary}\r\n{h}\r\n\r\n".encode() + c + b"\r\n" for h, c in parts]
    return b"".join(framed) + f"--{boundary}--\r\n".encode()
