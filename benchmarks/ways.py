"""The requests that are sent along, and the ways to send them."""

from __future__ import annotations

import contextlib
import io
import json
import random
import typing as t
from urllib.parse import urlencode

import celery
import flask
import flask_celeryext.app
import kombu

import flask_task_context
from flask_task_context import init_app
from flask_task_context import with_request_context

HEADER = "flask_task_context"
#: Version 0.5.1 calls ``preprocess_request()``, which takes the context since Flask 3.2.
CELERYEXT = () if flask_task_context._MERGED else ("Flask-CeleryExt",)
ROUTES = (3, 100, 1000)
PATH = "/items/42/edit"
_random = random.Random(5)
SESSION = {
    "_fresh": True,
    "_id": _random.randbytes(64).hex(),
    "_user_id": "1042",
    "csrf_token": _random.randbytes(20).hex(),
}


# -- the requests ------------------------------------------------------------


class Shape(t.NamedTuple):
    """A kind of request; ``read`` is what its view does before it sends a task."""

    method: str = "GET"
    content_type: str = ""
    body: bytes = b""
    read: t.Callable[[], t.Any] = lambda: None


def form_of(fields: int) -> Shape:
    values = {f"field_{n}": _random.randbytes(8).hex() for n in range(fields)}
    return _form(values)


def _form(values: dict[str, str]) -> Shape:
    body = urlencode(values).encode()
    kind = "application/x-www-form-urlencoded"
    return Shape("POST", kind, body, lambda: flask.request.form)


_ORDER = {
    "email": "anna.maria@shop.example",
    "note": "Please ring twice, and leave it with the neighbours.",
    "items": [
        {"sku": "A-10442", "count": 2, "price": "19.90"},
        {"sku": "B-20981", "count": 1, "price": "104.00"},
        {"sku": "C-31337", "count": 12, "price": "0.85"},
    ],
}
_ADDRESS = {
    "name": "Anna Maria Müller",
    "email": "anna.maria@shop.example",
    "street": "Lange Straße 14",
    "city": "12345 Neustadt",
    "language": "de",
    "note": "Please ring twice.",
}
SHAPES = {
    "browser": Shape(),
    "JSON": Shape(
        "POST",
        "application/json",
        json.dumps(_ORDER).encode(),
        lambda: flask.request.get_json(),
    ),
    "form": _form(_ADDRESS),
}


def environ_of(app: flask.Flask, shape: Shape) -> dict[str, t.Any]:
    """As gunicorn makes it: twelve headers, and three more with a body."""
    headers = {
        "Host": "www.shop.example",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101"
        " Firefox/144.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language": "de-AT,de;q=0.9,en-US;q=0.7,en;q=0.5",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Referer": "https://www.shop.example/items/42?sort=price&page=3",
        "Connection": "keep-alive",
        "Cookie": f"session={_cookie(app)}",
        "Upgrade-Insecure-Requests": "1",
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": "same-origin",
    }
    environ = {
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": io.BytesIO,
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(shape.body),
        "wsgi.url_scheme": "https",
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": shape.method,
        "RAW_URI": f"{PATH}?sort=price&page=3",
        "SCRIPT_NAME": "",
        "PATH_INFO": PATH,
        "QUERY_STRING": "sort=price&page=3",
        "REMOTE_ADDR": "203.0.113.7",
        "REMOTE_PORT": "51402",
    }
    if shape.body:
        headers["Origin"] = "https://www.shop.example"
        environ["CONTENT_TYPE"] = shape.content_type
        environ["CONTENT_LENGTH"] = str(len(shape.body))
    for name, value in headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ


def _cookie(app: flask.Flask) -> str:
    serializer = flask.sessions.SecureCookieSessionInterface()
    return t.cast("str", serializer.get_signing_serializer(app).dumps(SESSION))  # type: ignore[union-attr]


@contextlib.contextmanager
def visit(
    app: flask.Flask, shape: Shape, environ: dict[str, t.Any]
) -> t.Iterator[None]:
    """A fresh request, at the point where its view sends a task."""
    environ = {**environ, "wsgi.input": io.BytesIO(shape.body)}
    with app.request_context(environ):
        flask.session["_user_id"]
        shape.read()
        yield


# -- the Flask apps and the tasks ----------------------------------------------


def create_flask(routes: int, encrypt: bool = False) -> flask.Flask:
    app = flask.Flask("shop")
    app.config["SECRET_KEY"] = "the same in the web process and in the worker"
    app.config["TASK_CONTEXT_ENCRYPT"] = encrypt
    rules = ["/", "/static-pages/<path:page>", "/items/<int:number>/edit"]
    rules += [f"/section-{n % 40}/page-{n}/<int:number>" for n in range(routes - 3)]
    for number, rule in enumerate(rules):
        app.add_url_rule(
            rule, f"view_{number}", lambda **_: "", methods=["GET", "POST"]
        )
    return app


class Apps(t.NamedTuple):
    signed: flask.Flask
    encrypted: flask.Flask

    @classmethod
    def create(cls, routes: int) -> Apps:
        apps = cls(create_flask(routes), create_flask(routes, encrypt=True))
        init_app(apps.signed)
        return apps


def article_context() -> dict[str, t.Any]:
    request = flask.request
    return {
        "path": request.path,
        "base_url": request.url_root,
        "method": request.method,
        "headers": dict(request.headers),
        "query_string": request.url.partition("?")[2],
    }


class ArticleTask(celery.Task):
    """The way of the article: a hidden keyword, and a test request."""

    abstract = True
    typing = False  # with Celery's argument check on, every call is a TypeError

    def apply_async(
        self,
        args: t.Any = None,
        kwargs: t.Any = None,
        *rest: t.Any,
        **options: t.Any,
    ) -> t.Any:
        if flask.has_request_context():
            kwargs["_flask_request_context"] = article_context()
        return super().apply_async(args, kwargs, *rest, **options)

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        context = kwargs.pop("_flask_request_context", None)
        if context is None:
            return super().__call__(*args, **kwargs)
        app = self.app.flask_app
        with app.test_request_context(**context) as opened:
            result = super().__call__(*args, **kwargs)
            response = app.make_response(result or "")
            flask_task_context._call_app(opened, "process_response", response)
        return result


class DocsTask(celery.Task):
    """The way of Flask's documentation: an app context."""

    abstract = True

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.app.flask_app.app_context():
            return self.run(*args, **kwargs)


class FlaskTask(celery.Task):
    """What any way must do at the least: open a request that is ready, and close it."""

    abstract = True

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.app.flask_app.request_context(dict(self.app.ready_environ)):
            return self.run(*args, **kwargs)


def arguments() -> tuple[t.Any, ...]:
    """What a view would pass by hand."""
    request = flask.request
    language = request.accept_languages.best_match(["en", "de"])
    return request.url_root, request.path, language, flask.session["_user_id"]


def do_nothing(*args: t.Any) -> None:
    pass


def create_celery(
    apps: Apps, broker: str = "memory://", queue: str = "bench"
) -> celery.Celery:
    """A Celery app that has the same task in every way."""
    app = celery.Celery("bench", broker=broker, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=queue,
        task_queues=[kombu.Queue(queue, kombu.Exchange(queue), routing_key=queue)],
        task_default_exchange=queue,
        task_default_routing_key=queue,
        broker_connection_retry_on_startup=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_prefetch_multiplier=16,
    )
    app.flask_app = apps.signed
    app.ready_environ = environ_of(apps.signed, SHAPES["browser"])
    encrypted = with_request_context(app=apps.encrypted)
    for name, base, body in [
        ("bare", None, do_nothing),
        ("docs", DocsTask, do_nothing),
        ("Flask itself", FlaskTask, do_nothing),
        ("Flask-CeleryExt", flask_celeryext.app.RequestContextTask, do_nothing),
        ("article", ArticleTask, do_nothing),
        ("ours", None, with_request_context(do_nothing)),
        ("encrypted", None, encrypted(do_nothing)),
    ]:
        options = {"base": base} if base else {}
        app.task(body, name=name, shared=False, lazy=False, **options)
    return app
