"""Once more in one process, what other tests see in processes of their own."""

from __future__ import annotations

import contextvars
import io
import typing as t

import flask
import pytest
from celery.signals import before_task_publish
from celery.signals import task_received
from flask import request

import flask_task_context
from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import restore_context
from tests.conftest import Shop


def test_a_process_variable_in_the_environ_stays_out(
    plain_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wsgiref mixes them: the variable stays, a header of the same name travels."""
    monkeypatch.setenv("HTTP_X_INTERNAL", "internal")
    monkeypatch.setenv("HTTP_X_TENANT", "internal")
    mixed = {
        "PATH": "/bin",
        "HTTP_X_INTERNAL": "internal",
        "HTTP_X_TENANT": "visitor's",
    }
    headers = plain_shop.capture(environ_overrides=mixed)
    assert "internal" not in headers["flask_task_context"]
    with restore_context(headers, plain_shop.flask):
        assert request.headers["X-Tenant"] == "visitor's"


def test_under_real_cgi_the_process_environment_is_the_request(
    plain_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the variables are the visitor's headers, and travel."""
    monkeypatch.setenv("GATEWAY_INTERFACE", "CGI/1.1")
    monkeypatch.setenv("HTTP_X_TENANT", "a")
    mixed = {"PATH": "/bin", "HTTP_X_TENANT": "a"}
    headers = plain_shop.capture(environ_overrides=mixed)
    with restore_context(headers, plain_shop.flask):
        assert request.headers["X-Tenant"] == "a"


def test_a_body_of_which_the_view_cached_the_rest(plain_shop: Shop) -> None:
    """``get_data()`` after a part was read from the stream is not the body."""

    def view() -> t.Any:
        request.stream.read(2)
        assert request.get_data() == b"llo"
        return capture_context()

    headers = plain_shop.visit(view, data=b"hello", content_type="text/plain")
    with (
        restore_context(headers, plain_shop.flask),
        pytest.raises(LeftOut, match=r"\(5 bytes\) .* had begun to read it"),
    ):
        request.get_data()


def test_files_that_fit_only_one_by_one(plain_shop: Shop) -> None:
    """The first travels with the fields; the second, for which there is no room, not."""

    def view() -> t.Any:
        assert len(request.files) == 2
        return capture_context()

    data = {
        "to": "anna",
        "one": (io.BytesIO(b"1" * 30_000), "1"),
        "two": (io.BytesIO(b"2" * 30_000), "2"),
    }
    headers = plain_shop.visit(view, data=data)
    with restore_context(headers, plain_shop.flask):
        assert request.form.to_dict() == {"to": "anna"}
        assert request.files["one"].read() == b"1" * 30_000
        with pytest.raises(LeftOut, match=r"uploaded file 'two' \(30000 bytes\)"):
            request.files["two"].read()


def test_text_that_only_looks_like_json_travels(plain_shop: Shop) -> None:
    """A text that names a credential is not JSON, and is left as it is."""
    headers = plain_shop.capture(data=b"{my password}", content_type="text/plain")
    with restore_context(headers, plain_shop.flask):
        assert request.get_data() == b"{my password}"


def test_a_tools_nested_headers(plain_shop: Shop) -> None:
    """``headers["headers"]`` of another tool hides nothing, and wins nothing."""
    headers = plain_shop.capture()
    with restore_context({"headers": headers}, plain_shop.flask):
        assert request.path == "/item/3"
    both = {"headers": {"flask_task_context": "broken"}, **headers}
    with restore_context(both, plain_shop.flask):
        assert request.path == "/item/3"


def test_flask_app_is_read_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no app registered and none active, FLASK_APP names it."""
    monkeypatch.setenv("FLASK_APP", "tests.shop:create_app")
    with restore_context({}):
        assert flask.current_app.name == "shop"


@pytest.mark.parametrize("own", [None, "", "broken"])
def test_a_task_that_sends_from_a_request(plain_shop: Shop, own: str | None) -> None:
    """A message's own header is not touched; one without inherits the task's."""
    sent: list[t.Any] = []
    plain_shop.celery.conf.update(broker_url="memory://", task_default_queue="sends")
    headers = plain_shop.capture()
    init_app(plain_shop.flask)
    inner = plain_shop.tasks["plain.add"]

    def body() -> None:
        given = None if own is None else {"flask_task_context": own}
        inner.apply_async((1, 2), headers=given)

    task = plain_shop.task(flask_task_context.with_request_context(body), name="sends")
    task.apply(headers=headers).get()
    with plain_shop.celery.connection_for_read() as connection:
        queue = plain_shop.celery.amqp.queues["sends"](connection.default_channel)
        sent.append(queue.get(no_ack=True).headers["flask_task_context"])
    assert sent == [headers["flask_task_context"] if own is None else own]


@pytest.mark.parametrize("where", ["a hook", "the body", "a call that sends"])
def test_what_has_ended_is_nobodys(plain_shop: Shop, where: str) -> None:
    """In context variables that were copied there, as a thread has them that was begun
    there, nothing is sent in the visitor's name, and a new request is sent."""
    copies: list[contextvars.Context] = []

    def copy() -> None:
        copies.append(contextvars.copy_context())

    def body() -> None:
        if where == "a hook":
            flask.after_this_request(lambda response: copy() or response)  # type: ignore
        else:
            copy()

    task = plain_shop.task(flask_task_context.with_request_context(body), name="copies")
    init_app(plain_shop.flask)
    if where == "a call that sends":
        plain_shop.celery.conf.task_always_eager = True
        plain_shop.visit(lambda: flask_task_context.delay_with_context(task))
        plain_shop.celery.conf.task_always_eager = False
    else:
        task.apply(headers=plain_shop.capture()).get()

    def later() -> list[t.Any]:
        published: list[t.Any] = []

        def note(headers: t.Any, **signal: t.Any) -> None:
            published.append(headers.get("flask_task_context"))

        before_task_publish.connect(note)
        plain_shop.celery.send_task("any")
        with plain_shop.flask.test_request_context("/new"):
            headers = capture_context()
        before_task_publish.disconnect(note)
        with restore_context(headers, plain_shop.flask):
            return [*published, request.path]

    assert copies[0].run(later) == [None, "/new"]


def test_an_id_among_other_headers_is_the_senders(plain_shop: Shop) -> None:
    """By its id alone a message is found that this worker has."""

    class Received:
        id, request_dict = "1", plain_shop.capture()

    received = Received()
    task_received.send(None, request=received)
    with restore_context({"id": "1"}, plain_shop.flask):
        assert request.path == "/item/3"
    for headers in ({"id": "1", "task": "x"}, {"id": "2"}, {"id": []}):
        with restore_context(headers, plain_shop.flask):
            assert not flask.has_request_context()
