"""The contract's table: which context a task runs in, and what is left of it."""

from __future__ import annotations

import typing as t
import wsgiref.validate

import flask
import pytest
from celery.app.trace import build_tracer
from celery.exceptions import Ignore
from celery.exceptions import Retry
from flask import g
from flask import request

from flask_task_context import BadContext
from flask_task_context import CaptureError
from flask_task_context import apply_async_with_context
from flask_task_context import delay_with_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import shop
from tests.conftest import Shop

HERE = "http://localhost/item/3"


def test_a_direct_call_runs_in_what_is_active(plain_shop: Shop) -> None:
    """A call is a call: an active app context is used, with its ``g``."""

    @with_request_context
    def read() -> t.Any:
        return g.mark

    with plain_shop.flask.app_context():
        g.mark = "outer"
        assert read() == "outer"


def traced(shop: Shop, name: str, headers: t.Any) -> t.Any:
    """As a worker's process runs a message: by Celery's own tracer."""
    task = shop.tasks[name]
    tracer = build_tracer(name, task, app=shop.celery)
    request = {"id": "1", "headers": headers, "origin": "gen1@web", **(headers or {})}
    return tracer("1", (), {}, request)


@pytest.mark.parametrize("kind", ["shop", "above"])
def test_what_was_pushed_before_the_message_began_is_nobodys(
    plain_shop: Shop, kind: str
) -> None:
    """A request or an app context that the process has pushed: no task sees it."""
    init_app(plain_shop.flask)
    headers = plain_shop.capture()
    for pushed in (
        plain_shop.flask.test_request_context("/", "http://pushed/"),
        plain_shop.flask.app_context(),
    ):
        with pushed:
            g.mark = "the process's"
            assert traced(plain_shop, f"{kind}.where", None).retval == "app context"
            assert traced(plain_shop, f"{kind}.where", headers).retval == HERE
            assert g.mark == "the process's"
    assert traced(plain_shop, f"{kind}.where", None).retval == "app context"


def test_another_apps_context_that_was_pushed_is_nobodys(plain_shop: Shop) -> None:
    """The one registered app serves the message, with and without a request."""
    init_app(plain_shop.flask)
    body = with_request_context(lambda: flask.current_app.name)
    plain_shop.task(body, name="named")
    headers = plain_shop.capture()
    with flask.Flask("another").app_context():
        assert traced(plain_shop, "named", None).retval == "shop"
        assert traced(plain_shop, "named", headers).retval == "shop"


@pytest.mark.parametrize("with_request", [True, False])
def test_a_task_that_calls_itself_stays_in_its_request(
    plain_shop: Shop, with_request: bool
) -> None:
    """Its message has opened a request, or an app context, once."""
    init_app(plain_shop.flask)

    def walk(depth: int = 3) -> int:
        g.nodes = g.get("nodes", 0) + 1
        if depth:
            task(depth - 1)
        return t.cast("int", g.nodes)

    task = plain_shop.task(with_request_context(walk), name="walk")
    headers = plain_shop.capture() if with_request else None
    assert traced(plain_shop, "walk", headers).retval == 4


def test_a_retry_is_no_normal_end(plain_shop: Shop) -> None:
    """No after-request functions run: the task is not done."""
    calls: list[str] = []
    plain_shop.flask.after_request(lambda response: calls.append("after") or response)  # type: ignore
    headers = plain_shop.capture()
    calls.clear()
    init_app(plain_shop.flask)

    def body() -> None:
        raise Retry

    task = plain_shop.task(with_request_context(body), name="retries")
    assert task.apply(headers=headers).state == "RETRY"
    assert calls == []


def test_a_refused_context_names_its_sender(plain_shop: Shop) -> None:
    """As Celery names the process that has sent the message."""
    init_app(plain_shop.flask)
    failed = traced(plain_shop, "shop.where", {"flask_task_context": "broken"}).retval
    assert failed.type is BadContext
    assert "It was sent by 'gen1@web'." in str(failed.exception)


ENDINGS = [ValueError("no"), Retry(), Ignore(), SystemExit(3), KeyboardInterrupt()]


@pytest.mark.parametrize("ending", [None, *ENDINGS], ids=repr)
@pytest.mark.parametrize("with_request", [True, False])
def test_teardown_runs_with_the_tasks_exception_and_nothing_is_left(
    plain_shop: Shop, ending: BaseException | None, with_request: bool
) -> None:
    """Whatever ends the body: teardown functions get it, but for Celery's ``Ignore``,
    which is a normal end, and the stack is clean."""
    seen: list[t.Any] = []
    plain_shop.flask.teardown_request(seen.append)
    plain_shop.flask.teardown_appcontext(seen.append)
    headers = plain_shop.capture() if with_request else None
    seen.clear()
    init_app(plain_shop.flask)

    def body() -> None:
        if ending is not None:
            raise ending

    def run() -> None:
        if with_request:
            with restore_context(headers):
                body()
        else:
            with_request_context(body)()

    if ending is None:
        run()
    else:
        with pytest.raises(type(ending)):
            run()
    error = None if isinstance(ending, Ignore) else ending
    assert seen == ([error, error] if with_request else [error])
    assert not flask.has_app_context()


@pytest.mark.parametrize("above", [False, True])
def test_autoretry_shows_teardown_the_real_exception(
    plain_shop: Shop, above: bool
) -> None:
    """Under autoretry a teardown function sees the error, not Celery's ``Retry``."""
    seen: list[t.Any] = []
    plain_shop.flask.teardown_request(seen.append)
    headers = plain_shop.capture()
    seen.clear()
    init_app(plain_shop.flask)
    decorate = plain_shop.celery.task(
        autoretry_for=(ValueError,), max_retries=1, name="retried", shared=False
    )

    def body() -> None:
        raise ValueError(request.url)

    if above:
        task = with_request_context(decorate(body))
    else:
        task = decorate(with_request_context(body))
    with pytest.raises(ValueError, match=HERE):
        task.apply(headers=headers).get()
    assert [repr(error) for error in seen] == [f"ValueError('{HERE}')"] * 2


def test_each_task_has_a_g_of_its_own(plain_shop: Shop) -> None:
    """A request restored inside an active app context shares nothing with it."""
    headers = plain_shop.capture()
    with plain_shop.flask.app_context():
        g.mark = "outer"
        with restore_context(headers):
            assert "mark" not in g
            g.mark = "inner"
        assert g.mark == "outer"


def test_a_decorated_task_called_by_a_task_stays_in_its_request(
    plain_shop: Shop,
) -> None:
    """A task that calls another one directly, or its ``run``, shares its request."""
    init_app(plain_shop.flask)
    inner = plain_shop.task(with_request_context(lambda: g.get("mark")), name="inner")

    @with_request_context
    def outer() -> t.Any:
        g.mark = "kept"
        return [inner(), inner.run(), inner.apply().get()]

    result = plain_shop.task(outer, name="outer").apply(headers=plain_shop.capture())
    assert result.get() == ["kept", "kept", "kept"]


def test_restore_context_is_the_other_half_of_capture_context(
    plain_shop: Shop,
) -> None:
    """Headers open their request in any process or thread, and run no hooks."""
    calls: list[str] = []
    plain_shop.flask.before_request(lambda: calls.append("before"))
    headers = plain_shop.capture("/item/9?q=1")
    calls.clear()
    with restore_context(headers, plain_shop.flask):
        assert request.url == "http://localhost/item/9?q=1"
        assert request.view_args == {"number": 9}
        wsgiref.validate.check_environ(request.environ)
    with restore_context({}, plain_shop.flask):
        assert shop.where() == "app context"
    with restore_context(None, plain_shop.flask):
        assert shop.where() == "app context"
    assert calls == []


def test_a_signature_with_a_context_is_sent_where_none_can_be_captured(
    plain_shop: Shop,
) -> None:
    """Its own travels, and not the current request."""
    plain_shop.celery.conf.task_always_eager = True
    task = plain_shop.task(lambda self: self.request.headers, name="h", bind=True)
    signature = task.s().set(headers=plain_shop.capture())

    def view() -> t.Any:
        g.tenant = object()
        with pytest.raises(CaptureError):
            delay_with_context(task)
        return delay_with_context(signature).get()

    assert plain_shop.visit(view) == signature.options["headers"]


def test_the_callers_headers_are_sent_as_celery_sends_them(plain_shop: Shop) -> None:
    """Those of a signature, or those of the call in their place."""
    plain_shop.celery.conf.task_always_eager = True
    task = plain_shop.task(lambda self: self.request.headers, name="h", bind=True)
    signature = task.s().set(headers={"a": "1", "b": "1"})

    def view() -> t.Any:
        return [
            apply_async_with_context(signature, headers={"b": "2"}).get(),
            apply_async_with_context(signature).get(),
            delay_with_context(signature).get(),
        ]

    own = {"a": "1", "b": "1"}
    assert plain_shop.visit(view) == [{"b": "2"}, own, own]
