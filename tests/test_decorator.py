"""``@with_request_context`` in every place where users put it."""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import threading
import typing as t
from pathlib import Path

import flask
import pytest
from celery import Celery
from celery import Task
from celery import shared_task
from flask import g

from flask_task_context import _MERGED
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import shop
from tests.conftest import Shop
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.test_canvas import messages


def plain_celery(**conf: t.Any) -> Celery:
    app = Celery("plain", set_as_current=False, broker="memory://")
    app.conf.update(result_backend="cache+memory://", **conf)
    return app


def docs_task_class() -> type[Task]:
    """The Flask docs' base class, which opens an app context of its own."""
    flask_app = shop.create_app()

    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with flask_app.app_context():
                return self.run(*args, **kwargs)

    return FlaskTask


class CallsSuper(Task):  # type: ignore[misc]
    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return super().__call__(*args, **kwargs)


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize("base", [None, docs_task_class(), CallsSuper])
@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("lazy", [True, False])
def test_every_kind_of_task_finds_its_request(
    plain_shop: Shop, above: bool, bind: bool, base: t.Any, retried: bool, lazy: bool
) -> None:
    """Bound or not, with or without a base class or autoretry, lazy or not, below or above."""
    celery = plain_celery()
    options = {"bind": bind, "base": base, "shared": False, "lazy": lazy}
    if retried:
        options["autoretry_for"] = (KeyError,)

    def free(x: int) -> t.Any:
        return [flask.request.url, x]

    def bound(self: Task, x: int) -> t.Any:
        assert isinstance(self, Task)
        return [flask.request.url, x]

    function = bound if bind else free
    if above:
        task = with_request_context(celery.task(**options)(function))
    else:
        task = celery.task(**options)(with_request_context(function))
    init_app(plain_shop.flask)
    result = task.apply((4,), headers=plain_shop.capture())
    assert result.get() == ["http://localhost/item/3", 4]


@pytest.mark.parametrize("how", ["class", "run", "instance"])
def test_class_based_tasks(plain_shop: Shop, how: str) -> None:
    """The decorator fits a task class, its ``run``, and a registered instance, also
    where somebody calls its ``run``."""
    celery = plain_celery()

    class Greet(Task):  # type: ignore[misc]
        name = "greet"

        def run(self, x: int) -> t.Any:
            assert self.name == "greet"
            return [shop.where(), x]

    if how == "run":
        Greet.run = with_request_context(Greet.run)
    elif how == "class":
        assert with_request_context(Greet) is Greet
    task = celery.register_task(Greet())
    if how == "instance":
        assert with_request_context(task) is task
    init_app(plain_shop.flask)
    result = task.apply((4,), headers=plain_shop.capture())
    assert result.get() == ["http://localhost/item/3", 4]
    assert task.run(4) == ["app context", 4]


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_decorating_does_not_finalize_or_configure_the_celery_app(
    plain_shop: Shop, above: bool, shared: bool
) -> None:
    """Config set after the tasks were imported is still read."""
    celery = Celery("late", set_as_current=False)
    name = f"late.{above}.{shared}"
    decorator = shared_task(name=name) if shared else celery.task(name=name)

    def url() -> str:
        return flask.request.url

    task = (
        with_request_context(decorator(url))
        if above
        else decorator(with_request_context(url))
    )
    assert not celery.finalized
    assert not celery.configured
    celery.conf.update(
        broker_url="memory://", task_always_eager=True, task_serializer="pickle"
    )
    init_app(plain_shop.flask)
    assert not celery.finalized
    registered = celery.tasks[name]
    assert registered.serializer == "pickle"
    result = registered.apply_async(headers=plain_shop.capture())
    assert result.get() == "http://localhost/item/3"
    assert task.name == name


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize(
    "kind", ["shared", "shared, bound, unnamed", "lazy", "evaluated"]
)
def test_every_celery_apps_copy_is_wrapped(
    plain_shop: Shop, above: bool, kind: str
) -> None:
    """Apps finalized before or after, current or not, all run the task in its request."""
    before = plain_celery()
    before.finalize()
    own = plain_celery()
    if kind == "evaluated":
        own.finalize()
    name = f"copies_{kind}_{above}"
    made = shared_task if "shared" in kind else own.task

    def url(*self: t.Any) -> str:
        return flask.request.url

    if "unnamed" in kind:
        url.__name__ = f"copies_{above}"
        name, decorator = f"{__name__}.{url.__name__}", made(bind=True)
    else:
        decorator = made(name=name)

    if above:
        with_request_context(decorator(url))
    else:
        decorator(with_request_context(url))
    after = plain_celery()
    init_app(plain_shop.flask)
    headers = plain_shop.capture()
    # Celery gives finalized apps a copy of shared tasks alone.
    apps = [before, own, after] if "shared" in kind else [own, after]
    for app in apps:
        result = app.tasks[name].apply(headers=headers)
        assert result.get() == "http://localhost/item/3"
    assert own.tasks[name] is not after.tasks[name]


def test_another_task_of_the_same_function_stays_as_it_is(plain_shop: Shop) -> None:
    """Only the decorated task is wrapped, not one beside it of the same function."""
    celery = plain_celery()
    celery.task(shop.where, name="undecorated")
    with_request_context(celery.task(shop.where, name="decorated"))
    celery.finalize()
    assert celery.tasks["undecorated"].apply().get() == "no context"
    init_app(plain_shop.flask)
    assert celery.tasks["decorated"].apply().get() == "app context"


@pytest.mark.parametrize("before", [True, False])
def test_a_lazy_task_used_before_its_app_is_finalized_is_wrapped(
    plain_shop: Shop, before: bool
) -> None:
    """Reading an attribute of a lazy task makes Celery create it early: wrapped too."""
    celery = plain_celery()
    task = celery.task(shop.where, name="early", shared=False)
    if before:
        assert task.name == "early"
    task = with_request_context(task)
    init_app(plain_shop.flask)
    assert task.name == "early"
    assert not celery.finalized
    assert task() == "app context"


def test_a_different_function_of_the_same_name_stays_as_it_is(plain_shop: Shop) -> None:
    """A task of another Celery app that only shares the name is left alone."""
    one, other = plain_celery(), plain_celery()
    with_request_context(one.task(shop.where, name="same", shared=False))
    other.task(flask.has_app_context, name="same", shared=False)
    init_app(plain_shop.flask)
    assert one.tasks["same"].apply().get() == "app context"
    assert other.tasks["same"].apply().get() is False


@pytest.mark.parametrize("above", [False, True])
def test_name_doc_signature_and_argument_check_are_the_bare_tasks(above: bool) -> None:
    """Celery checks arguments at ``delay`` as it does for the bare function."""
    celery = plain_celery()

    def greet(name: str, *, loud: bool = False) -> str:
        """Say hello."""
        return name

    task = (
        with_request_context(celery.task(greet, shared=False))
        if above
        else celery.task(with_request_context(greet), shared=False)
    )
    bare = plain_celery().task(greet, shared=False)
    assert task.name == bare.name
    assert task.__doc__ == "Say hello."
    assert inspect.signature(task.run) == inspect.signature(greet)
    assert task.__wrapped__.__name__ == "greet"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        task.delay()
    with pytest.raises(TypeError, match="unexpected keyword argument 'quiet'"):
        task.delay("x", quiet=True)


@pytest.mark.parametrize("above", [False, True])
def test_what_a_decorator_injects_is_not_asked_for(
    plain_shop: Shop, above: bool
) -> None:
    """A task that plain Celery accepts, whose first argument a decorator gives."""

    def with_session(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        @functools.wraps(function)
        def inner(*args: t.Any, **kwargs: t.Any) -> t.Any:
            return function("session", *args, **kwargs)

        return inner

    @with_session
    def write(session: str, number: int) -> str:
        return f"{session} {number}"

    plain_shop.celery.conf.task_always_eager = True
    made = plain_shop.celery.task(name="injected", shared=False)
    if above:
        task = with_request_context(made(write))
    else:
        task = made(with_request_context(write))
    assert plain_shop.visit(lambda: delay_with_context(task, 1).get()) == "session 1"
    assert plain_shop.visit(lambda: task.delay(1).get()) == "session 1"


def test_options_are_keyword_only_and_return_the_decorator() -> None:
    """``@with_request_context(...)`` with options decorates like the bare form."""

    @with_request_context(after_request=False)
    def add(x: int) -> int:
        """Docs."""
        return x + 1

    with flask.Flask("x").app_context():
        assert add(1) == 2
    assert add.__name__ == "add"
    with pytest.raises(TypeError, match="positional"):
        with_request_context(add, flask.Flask("x"))  # type: ignore[call-overload]


def test_a_thread_that_a_task_starts_has_no_context_of_it(plain_shop: Shop) -> None:
    """Contexts belong to the task's own thread, as Flask's do."""
    seen: list[str] = []

    @with_request_context(app=plain_shop.flask)
    def task() -> None:
        thread = threading.Thread(target=lambda: seen.append(shop.where()))
        thread.start()
        thread.join()

    task()
    assert seen == ["no context"]


def test_a_thread_that_outlives_its_task_is_in_nothing_of_it(plain_shop: Shop) -> None:
    """Where it has inherited its context variables, or those of a teardown function: a
    task has a ``g`` of its own there, and a request that is opened is captured."""
    app = plain_shop.flask
    inherited: list[contextvars.Context] = []

    @app.teardown_appcontext
    def keep(error: BaseException | None) -> None:
        inherited.append(contextvars.copy_context())

    @with_request_context(app=app)
    def task() -> t.Any:
        left, g.mark = g.get("mark"), 1
        inherited.append(contextvars.copy_context())
        return left

    def capture() -> dict[str, str]:
        with app.test_request_context("/"):
            return capture_context()

    with restore_context(plain_shop.capture(), app):
        inherited.append(contextvars.copy_context())
    assert inherited[-2].run(capture_context) == {}
    assert task() is None
    for context in inherited[:]:
        assert context.run(task) is None
        assert context.run(capture)


def carries(plain_shop: Shop) -> list[bool]:
    """Of each message that waits, whether there is a context in it."""
    sent = messages(plain_shop.celery)
    return ["flask_task_context" in message.headers for message in sent]


def test_a_thread_that_outlives_its_task_sends_nothing_in_its_name(
    plain_shop: Shop,
) -> None:
    """Not even with a copy of its request."""
    where = plain_shop.tasks["shop.where"]
    with restore_context(plain_shop.capture(), plain_shop.flask):
        flask.copy_current_request_context(where.delay)()
        copied = flask.copy_current_request_context(where.delay)
        inherited = contextvars.copy_context()
    inherited.run(copied)
    assert carries(plain_shop) == [True, False]


def test_an_app_context_in_a_task_keeps_what_is_carried(plain_shop: Shop) -> None:
    """Of another app, without a request; Flask 3.2 hides the request beneath it."""
    with (
        restore_context(plain_shop.capture(), plain_shop.flask),
        restore_context({}, flask.Flask("other")),
    ):
        plain_shop.tasks["shop.where"].delay()
    assert carries(plain_shop) == [not _MERGED]


def generator() -> t.Iterator[int]:
    yield 1


@pytest.mark.parametrize("kind", ["function", "lazy", "shared"])
def test_twice_is_refused_at_once(kind: str) -> None:
    """The decorator both below and above would open the request twice."""
    celery = plain_celery()

    def decorated() -> None: ...

    function = with_request_context(decorated)
    task = {
        "function": lambda: function,
        "lazy": lambda: celery.task(function, shared=False),
        "shared": lambda: shared_task(function, name="twice.shared"),
    }[kind]()
    with pytest.raises(TypeError, match="decorated' has '@with_request_context' twice"):
        with_request_context(task)


def test_a_task_that_is_defined_again_stays_decorated_once(plain_shop: Shop) -> None:
    """As in an app factory that runs once per test: Celery gives the task it has."""
    celery = plain_celery()

    def create() -> t.Any:
        task = celery.task(shop.where, name="again", shared=False)
        return with_request_context(task)

    first, second = create(), create()
    celery.finalize()
    third = create()
    init_app(plain_shop.flask)
    for task in (first, second, third):
        assert task() == "app context"
    with pytest.raises(TypeError, match="where' has '@with_request_context' twice"):
        with_request_context(after_request=False)(third)


def test_a_bad_shared_task_is_refused_where_it_stands(plain_shop: Shop) -> None:
    """It raises at import, and takes nothing from the tasks after it."""
    with pytest.raises(TypeError, match="'generator' is a generator function"):
        with_request_context(shared_task(generator, name="bad.rows"))
    good = with_request_context(shared_task(shop.where, name="bad.good"))
    init_app(plain_shop.flask)
    assert plain_celery().tasks["bad.good"].apply().get() == "app context"
    assert good.name == "bad.good"


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="Python evaluates annotations before 3.14"
)
def test_annotations_that_only_type_checkers_can_evaluate(tmp_path: Path) -> None:
    """A task whose parameter is annotated with a name that is imported under
    ``TYPE_CHECKING`` is decorated, below and above, and runs in a worker."""
    settings = celery_settings("embedded", tmp_path)
    log = tmp_path / "worker.log"
    worker = Worker(settings, log, module="tests.annotated_worker")
    web = Shop(settings)
    try:
        for name in ("below", "above"):
            result = web.celery.send_task(
                f"annotated.{name}", (4,), headers=web.capture()
            )
            assert result.get(timeout=30) == [4, "http://localhost/item/3"]
    finally:
        worker.stop()
        web.celery.close()
