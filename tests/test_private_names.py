"""Every private name of Flask, Werkzeug and Celery that the module uses, by name.

``python -m pytest --noconftest`` runs this file where the module cannot be imported.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import inspect
import io
import re
import threading
import types
import typing as t
from pathlib import Path

import flask
import pytest
from celery import Celery
from celery import _state
from celery import shared_task
from celery.exceptions import Retry
from celery.local import PromiseProxy
from celery.local import Proxy
from celery.signals import before_task_publish
from celery.worker.request import Request
from werkzeug.test import create_environ

INSIDE = Path(__file__).parent.parent / "docs" / "inside.md"


class Row(t.NamedTuple):
    package: str
    name: str
    #: What the module would do wrong without it.
    without: str
    holds: t.Callable[[], bool]


ROWS: list[Row] = []


def row(package: str, name: str, without: str) -> t.Callable[..., t.Any]:
    """The function below it says whether the name still does what the module needs."""

    def add(holds: t.Callable[[], bool]) -> t.Callable[[], bool]:
        ROWS.append(Row(package, name, without, holds))
        return holds

    return add


class NotImported(Exception):
    """The module needs a name at import, and has not found it."""


def module() -> t.Any:
    try:
        import flask_task_context
    except Exception as error:
        raise NotImported(str(error)) from error
    return flask_task_context


# -- Flask and Werkzeug ------------------------------------------------------


@row(
    "flask",
    "globals.request_ctx, globals.app_ctx",
    "the module would not find the live request, and nothing would be captured",
)
def active_context() -> bool:
    name = "app_ctx" if module()._MERGED else "request_ctx"
    proxy = getattr(flask.globals, name)
    with flask.Flask("canary").test_request_context() as context:
        return proxy._get_current_object() is context


@row(
    "flask",
    "RequestContext(session=), AppContext(request=, session=)",
    "a task would see the session of its cookie, or none, and not the visitor's",
)
def given_session() -> bool:
    app = flask.Flask("canary")
    session = app.session_interface.null_session_class()
    environ = create_environ("/x")
    with module()._new_request_context(app, environ, session) as context:
        return context.session is session and flask.request.path == "/x"


@row(
    "flask",
    "_session",
    "a view that sends a task would answer with 'Vary: Cookie', which it did not ask for",
)
def session_beneath() -> bool:
    app = flask.Flask("canary")
    app.secret_key = "key"
    with app.test_request_context() as context:
        session = module()._session_of(context)
        return not session.accessed and session is context.session


@row(
    "flask",
    "globals._cv_request",
    "a task without a context would see a request that its worker pushed at the start",
)
def request_variable() -> bool:
    if module()._MERGED:
        return True
    with flask.Flask("canary").test_request_context() as context:
        return flask.globals._cv_request.get() is context


@row(
    "werkzeug",
    "_get_current_object",
    "the Flask app behind 'app=current_app' would be gone when the task runs",
)
def object_behind() -> bool:
    app = flask.Flask("canary")
    with app.app_context():
        return flask.current_app._get_current_object() is app


@row(
    "werkzeug",
    "_cached_data",
    "a body that the view has read with 'get_data()' would be left out",
)
def data_kept() -> bool:
    with posted() as request:
        before = vars(request).get("_cached_data")
        return (before, request.get_data()) == (None, vars(request)["_cached_data"])


@row(
    "werkzeug",
    "form, files",
    "the module would not see that the view has parsed a form, and would read its bytes again",
)
def form_kept() -> bool:
    with posted() as request:
        before = {"form", "files"} & vars(request).keys()
        given = request.form
        request.files = replaced = type(request.files)()
        kept = vars(request)
        return (
            not before
            and given["a"] == "1"
            and kept["form"] is given
            and kept["files"] is request.files is replaced
        )


@row(
    "werkzeug",
    "stream",
    "the module would not see that the view has opened the stream, or could not put back what it"
    " has read ahead",
)
def stream_kept() -> bool:
    with posted() as request:
        before = "stream" in vars(request)
        opened = vars(request).get("stream") is request.stream
        after = vars(request).get("stream") is request.stream
        request.stream = io.BytesIO(b"put back")
        return (before, opened, after, request.get_data()) == (
            False,
            False,
            True,
            b"put back",
        )


@contextlib.contextmanager
def posted() -> t.Iterator[t.Any]:
    """A live request whose body is a form that nobody has read."""
    app = flask.Flask("canary")
    with app.test_request_context("/", method="POST", data={"a": "1"}) as context:
        yield context.request


# -- Celery: what is running -------------------------------------------------


def celery_app(name: str = "canary", *, current: bool = False) -> Celery:
    return Celery(
        name,
        broker="memory://",
        backend="cache+memory://",
        set_as_current=current,
    )


def body() -> int:
    """What most tasks below do."""
    return 1


def made(function: t.Callable[..., t.Any], **options: t.Any) -> t.Any:
    """A task of an app that is finalized, so no promise of one."""
    app = celery_app()
    app.finalize()
    return app.task(name="canary.made", shared=False, **options)(function)


@row(
    "celery",
    "_state._task_stack.stack",
    "nothing would inherit: retries, later steps and children would have no request",
)
def stacked_tasks() -> bool:
    def outer() -> t.Any:
        return inner_task()

    def inner() -> t.Any:
        return list(_state._task_stack.stack)

    outer_task, inner_task = made(outer), made(inner)
    return outer_task() == [outer_task, inner_task]


@row(
    "celery",
    "request_stack.stack",
    "nothing would inherit, or a task that calls itself would open its request twice",
)
def stacked_messages() -> bool:
    def calls_itself(depth: int) -> t.Any:
        if depth:
            return task(depth - 1)
        return [message.args for message in task.request_stack.stack]

    task = made(calls_itself)
    return task(1) == [(1,), (0,)]


@row(
    "celery",
    "_state._task_stack.top",
    "a task that another one calls would open the message's request a second time",
)
def innermost_task() -> bool:
    def innermost() -> t.Any:
        return _state._task_stack.top

    task = made(innermost)
    return task() is task and _state._task_stack.top is None


@row(
    "celery",
    "called_directly",
    "a task that is called like a function would count as a message of its own, and what"
    " it sends would inherit nothing",
)
def direct_calls() -> bool:
    def asks() -> bool:
        return task.request.called_directly

    task = made(asks)
    return (task(), task.apply().get()) == (True, False)


@row(
    "celery",
    "is_eager",
    "an eager task without a context would hide the message that it is called in",
)
def eager_calls() -> bool:
    def asks() -> bool:
        return task.request.is_eager

    task = made(asks)
    return (task(), task.apply().get()) == (False, True)


@row(
    "celery",
    "request_dict",
    "errbacks of a task whose process was killed would have no request",
)
def received_message() -> bool:
    app = celery_app()
    task = app.task(name="canary.received", shared=False)(body)
    task.apply_async(headers={"canary": "sings"}, queue="canary.received")
    with app.connection_for_read() as connection:
        with connection.SimpleQueue("canary.received") as queue:
            message = queue.get(timeout=5)
            message.ack()
        return Request(message, app=app).request_dict["canary"] == "sings"


@row(
    "kombu",
    "expiration",
    "a context that cannot be captured under TASK_CONTEXT_AUTO would be swallowed, and"
    " the message sent without it",
)
def stopped_publish() -> bool:
    unsendable = module()._Unsendable(BlockingIOError("stop"))

    def stop(properties: dict[str, t.Any], **signal: t.Any) -> None:
        properties["expiration"] = unsendable

    task = made(body)
    before_task_publish.connect(stop, sender=task.name)
    try:
        task.delay()
    except BlockingIOError as error:
        return str(error) == "stop"
    finally:
        before_task_publish.disconnect(stop, sender=task.name)
    return False


# -- Celery: tasks that are not made yet -------------------------------------


def promised() -> t.Any:
    """``@app.task`` on an app that is not finalized."""
    promise = celery_app().task(name="canary.promised", shared=False)(body)
    assert type(promise) is PromiseProxy, type(promise)
    return promise


@row(
    "celery",
    "_Proxy__args",
    "'@with_request_context' above '@app.task' would fail at import",
)
def promised_function() -> bool:
    return object.__getattribute__(promised(), "_Proxy__args") == (body,)


@row(
    "celery",
    "_Proxy__kwargs",
    "a task with 'name=' would run without its request in the second Celery app",
)
def promised_name() -> bool:
    kwargs = object.__getattribute__(promised(), "_Proxy__kwargs")
    return kwargs["name"] == "canary.promised"


@row(
    "celery",
    "__evaluated__",
    "the module could not tell a promise from a task, and would finalize the app at import",
)
def promise_evaluated() -> bool:
    promise = promised()
    return (promise.__evaluated__(), promise(), promise.__evaluated__()) == (
        False,
        1,
        True,
    )


@row(
    "celery",
    "__then__",
    "a task decorated above '@app.task' would run without its request",
)
def promise_kept() -> bool:
    promise, said = promised(), []
    promise.__then__(lambda: said.append("made"))
    before = list(said)
    return (before, promise(), said) == ([], 1, ["made"])


def shared() -> t.Any:
    proxy = shared_task(name="canary.shared")(body)
    assert type(proxy) is Proxy, type(proxy)
    return proxy


@row(
    "celery",
    "_Proxy__local",
    "'@with_request_context' above '@shared_task' would fail at import",
)
def shared_lookup() -> bool:
    look_up = object.__getattribute__(shared(), "_Proxy__local")
    app = celery_app(current=True)
    return look_up() is app.tasks["canary.shared"]


@row(
    "celery",
    "fun, name",
    "'@with_request_context' above '@shared_task' would fail at import",
)
def shared_function() -> bool:
    look_up = object.__getattribute__(shared(), "_Proxy__local")
    given = inspect.getclosurevars(look_up).nonlocals
    return (given["fun"], given["name"]) == (body, "canary.shared")


@row(
    "celery",
    "_orig_run",
    "teardown functions would see 'Retry' in place of the error",
)
def body_beneath_autoretry() -> bool:
    def fails() -> None:
        raise BlockingIOError

    task = made(fails, autoretry_for=(BlockingIOError,))
    try:
        task._orig_run()
    except BlockingIOError:
        task._orig_run = body
        return task.run() == 1 and not hasattr(made(body), "_orig_run")
    except Retry:
        return False
    return False


@row(
    "celery",
    "_protected",
    "an eager task of a decorated base class would find no 'self.request'",
)
def first_call_of_a_message() -> bool:
    def begun(self: t.Any) -> t.Any:
        return self.request_stack.top._protected

    return made(begun, bind=True).apply().get() == 0


# -- Celery: its apps --------------------------------------------------------


@row(
    "celery",
    "_state._get_active_apps",
    "a shared task would run without its request in an app that is finalized already",
)
def apps_known() -> bool:
    app = celery_app()
    return app in _state._get_active_apps()


@row(
    "celery",
    "_state.connect_on_app_finalize",
    "a shared task would run without its request in an app that is made later",
)
def apps_told() -> bool:
    told: list[str] = []
    _state.connect_on_app_finalize(lambda app: told.append(app.main))
    app = celery_app("canary told")
    before = app.main in told
    app.finalize()
    return (before, app.main in told) == (False, True)


@row(
    "celery",
    "_state._tls.current_app",
    "a factory that makes a Celery app would make it the current one of the whole worker",
)
def app_made_current() -> bool:
    before = _state._tls.current_app
    app = celery_app(current=True)
    return before is None and _state._tls.current_app is app


@row(
    "celery",
    "_state._set_current_app",
    "a factory's Celery app would stay the current one",
)
def no_current_app() -> bool:
    celery_app(current=True)
    _state._set_current_app(None)
    return _state._tls.current_app is None


@row(
    "celery",
    "_state.default_app",
    "a factory's Celery app would stay the default one",
)
def default_app() -> bool:
    app = celery_app()
    app.set_default()
    return _state.default_app is app


@row(
    "celery",
    "_state.set_default_app",
    "a factory's Celery app would stay the default one",
)
def no_default_app() -> bool:
    celery_app().set_default()
    _state.set_default_app(None)
    return _state.default_app is None


# -- tests -------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_private_name_does_what_the_module_needs(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is gone, or does something else, fails with a sentence."""
    default = getattr(_state, "default_app", None)
    monkeypatch.setattr(_state, "default_app", default, raising=False)
    reason: Exception | None = None
    holds = False

    def look() -> None:
        nonlocal holds, reason
        try:
            holds = row.holds()
        except Exception as error:  # noqa: BLE001 - it is told below
            reason = error

    # Celery's current app is a thread's own: the next test does not inherit it.
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    trouble = "is gone or does something else"
    if isinstance(reason, NotImported):
        trouble = "is not looked at, since the module cannot be imported"
    version = importlib.metadata.version(row.package)
    assert holds, (
        f"{row.name!r} of {row.package} {version} {trouble} ({reason!r})."
        f" Without it {row.without}."
    )


def test_every_private_name_has_its_row() -> None:
    """A private name that the module begins to use is added to the table, with a
    check."""
    listed = {word for row in ROWS for word in words(row.name)}
    new = {name: line for name, line in private_names().items() if name not in listed}
    assert not new, f"Give each a row in {Path(__file__).name} (name: line): {new}"


def test_every_row_is_of_a_name_that_is_used() -> None:
    """A name that the module does not use any more leaves the table."""
    used = set(words(module_source()))
    idle = [row.name for row in ROWS if not used.issuperset(words(row.name))]
    assert not idle, f"Take out of {Path(__file__).name}, and of docs/inside.md: {idle}"


def test_every_row_is_on_the_page_for_contributors() -> None:
    """``docs/inside.md`` has the same private names."""
    written = set(re.findall(r"`([^`\n]+)`", INSIDE.read_text(encoding="utf-8")))
    names = {name for row in ROWS for name in re.split(r", (?![^(]*\))", row.name)}
    missing = sorted(names - written)
    assert not missing, f"Write into the last table of docs/inside.md: {missing}"


def test_the_page_for_contributors_names_what_is_there() -> None:
    """Each function and class on ``docs/inside.md`` is one of the module."""
    named = re.findall(r"\b_[A-Za-z]\w+", INSIDE.read_text(encoding="utf-8"))
    gone = sorted(set(named).difference(words(module_source())))
    assert not gone, f"docs/inside.md names what the module does not have: {gone}"


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def module_source() -> str:
    """Of the module, which may be one that cannot be imported any more."""
    spec = importlib.util.find_spec("flask_task_context")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


#: What Python itself has, the mark that the module puts on a function, and keys of a
#: session.
PUBLIC = {
    *("_fresh", "_id", "_remember", "_remember_seconds"),
    *dir(type),
    *dir(dict),
    *dir(io.BytesIO),
    *dir(types.FunctionType),
    *dir(types.MethodType),
    *dir(BaseException),
    "__cause__",
    "__notes__",
    "__signature__",
    "__traceback__",
    "__wrapped__",
    "_flask_task_context",
    "_flask_task_context_ended",
}


def private_names() -> dict[str, int]:
    """Of other packages, in the module's code, and the line of each."""
    tree = ast.parse(module_source())
    private_roots = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if is_private(alias.name) or any(map(is_private, parts(node.module)))
    }
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        for name in named_by(node, private_roots):
            found.setdefault(name, node.lineno)
    return found


def named_by(node: ast.AST, private_roots: set[str]) -> t.Iterator[str]:
    """The private names in one node: imported, as an attribute, or as a string."""
    if isinstance(node, ast.Import):
        yield from filter(is_private, (p for a in node.names for p in parts(a.name)))
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        of_private = any(map(is_private, parts(node.module)))
        yield from filter(is_private, parts(node.module))
        yield from (a.name for a in node.names if of_private or is_private(a.name))
    elif isinstance(node, ast.Attribute):
        base = node.value
        while isinstance(base, ast.Attribute):
            base = base.value
        root = base.id if isinstance(base, ast.Name) else ""
        own = root == "self" and isinstance(node.value, ast.Name)
        if root in private_roots or (is_private(node.attr) and not own):
            yield node.attr
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value.isidentifier() and is_private(node.value):
            yield node.value
    elif isinstance(node, ast.keyword) and node.arg and is_private(node.arg):
        yield node.arg


def is_private(name: str) -> bool:
    return re.match("_+[a-zA-Z]", name) is not None and name not in PUBLIC


def parts(module: str | None) -> list[str]:
    return (module or "").split(".")
