"""TASK_CONTEXT_MAX_SIZE: what is too large is refused in the view, before sending."""

from __future__ import annotations

import bisect
import typing as t
from pathlib import Path

import flask
import pytest
from flask import g
from flask import request
from flask import session

from flask_task_context import CaptureError
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import restore_context
from tests import secrecy
from tests.conftest import Shop
from tests.observed import multipart

SEALS = [{}, {"TASK_CONTEXT_ENCRYPT": True}, {"SECRET_KEY": None}]
IDS = ["signed", "encrypted", "unsigned"]


def make_shop(**config: t.Any) -> Shop:
    return secrecy.make_shop({"broker_url": "memory://"}, **config)


def capture(made: Shop, filling: int) -> str:
    """A header that grows with ``filling``, which is in g."""

    def view() -> t.Any:
        g.tenant = "x" * filling
        return capture_context()

    return str(made.visit(view)[secrecy.HEADER])


@pytest.mark.parametrize("config", SEALS, ids=IDS)
def test_a_header_of_just_the_limit_is_taken_and_one_more_is_not(
    config: dict[str, t.Any],
) -> None:
    """The limit counts the characters of the whole header, whatever its seal."""
    limit = 4000
    made = make_shop(**config, TASK_CONTEXT_MAX_SIZE=limit)
    fits = limit - len(capture(made, 0)) - 1
    if config.get("TASK_CONTEXT_ENCRYPT"):
        fits = fits * 3 // 4 - 2
    longest = 0
    for filling in range(fits - 8, fits + 16):
        try:
            header = capture(make_shop(**config, TASK_CONTEXT_MAX_SIZE=10**6), filling)
            captured = capture(made, filling)
        except CaptureError:
            assert len(header) > limit
        else:
            assert len(captured) == len(header) <= limit
            longest = max(longest, len(captured))
    assert limit - 3 <= longest <= limit


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("config", SEALS[:2], ids=IDS[:2])
def test_nothing_is_sent_over_the_limit(
    broker: str, config: dict[str, t.Any], tmp_path: Path
) -> None:
    """The queue stays as long as it was, whichever way the task is sent, and the
    next request's task is sent."""
    with secrecy.shop_without_worker(broker, tmp_path, **config) as made:
        task = made.tasks["shop.where"]

        def too_large() -> None:
            g.tenant = "x" * 70_000
            for send in (delay_with_context, apply_async_with_context):
                with pytest.raises(
                    CaptureError, match=r"^The request's context has \d+"
                ):
                    send(task)

        made.visit(too_large)
        assert secrecy.queue_length(made.celery) == 0
        made.visit(lambda: delay_with_context(task))
        assert secrecy.queue_length(made.celery) == 1


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("limit", [64 * 1024, 120 * 1024])
@pytest.mark.parametrize("config", SEALS[:2], ids=IDS[:2])
def test_a_message_at_the_limit_passes_and_so_does_the_next(
    broker: str, limit: int, config: dict[str, t.Any], tmp_path: Path
) -> None:
    """At the default limit and near RabbitMQ's own, the header arrives as it was
    sent, and the connection carries the next message."""
    config = {**config, "TASK_CONTEXT_MAX_SIZE": limit}
    with secrecy.shop_without_worker(broker, tmp_path, **config) as made:
        sent: list[t.Any] = []

        def view() -> None:
            ratio = 4 / 3 if made.flask.config.get("TASK_CONTEXT_ENCRYPT") else 1
            free = limit - len(capture_context()[secrecy.HEADER])
            g.tenant = "x" * (int(free / ratio) - 26)
            header = capture_context()[secrecy.HEADER]
            assert limit - 40 < len(header) <= limit
            with made.celery.connection_for_write() as connection:
                for _ in range(2):
                    sent.append(
                        made.tasks["shop.where"].apply_async(
                            headers={secrecy.HEADER: header}, connection=connection
                        )
                    )
            sent.append(header)

        made.visit(view)
        for result in sent[:2]:
            message = secrecy.take_message(made.celery)
            assert message.headers["id"] == result.id
            assert message.headers[secrecy.HEADER] == sent[2]
        with restore_context(message.headers, made.flask):
            assert set(g.tenant) == {"x"}


@pytest.mark.parametrize("config", SEALS, ids=IDS)
def test_a_body_that_does_not_fit_makes_no_error(config: dict[str, t.Any]) -> None:
    """Only what must travel counts: with a large body the header stays in the limit."""
    limit = 3000
    made = make_shop(**config, TASK_CONTEXT_MAX_SIZE=limit)
    sizes = []
    for size in range(0, 4000, 37):
        headers = made.capture(data=b"x" * size, content_type="text/plain")
        sizes.append(len(headers[secrecy.HEADER]))
        with restore_context(headers, made.flask):
            assert request.content_length == (size or None)
    assert max(sizes) <= limit
    assert max(sizes) > limit - 100


FILE = 'Content-Disposition: form-data; name="{0}"; filename="{0}"'


def multipart_of(*contents: bytes) -> dict[str, t.Any]:
    parts = [(FILE.format(n), content) for n, content in enumerate(contents)]
    kind = "multipart/form-data; boundary=b0undary"
    return {"data": multipart("b0undary", *parts), "content_type": kind}


#: Requests that grow, byte by byte.
GROWING: dict[str, t.Callable[[int], dict[str, t.Any]]] = {
    "text": lambda n: {"data": b"x" * n, "content_type": "text/plain"},
    "bytes": lambda n: {"data": b"\xff" * n, "content_type": "text/plain"},
    "a form": lambda n: {"data": {"a": "1", "b": "x" * n}},
    "a file": lambda n: multipart_of(b"x" * n),
    "two files": lambda n: multipart_of(b"1", b"x" * n),
    "names of what is left out": lambda n: {
        "headers": {"X-Token": "1", "X-Long": "x" * n}
    },
}


@pytest.mark.parametrize("config", SEALS, ids=IDS)
@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("kind", GROWING)
def test_what_fits_travels_to_the_last_character(
    kind: str, read: bool, config: dict[str, t.Any]
) -> None:
    """What a larger limit lets travel, a smaller one does as long as the header with it
    is no longer; then there is one without it, and no error."""
    config = {**config, "TASK_CONTEXT_SESSION": []}

    def length(app: flask.Flask, filling: int) -> int:
        made = {"method": "POST", **GROWING[kind](filling)}
        with app.test_request_context("/", **made):
            if "X-Long" in request.headers and app.secret_key:
                session["left out"] = 1
            if read:
                request.form.get("a")
            headers = capture_context()
        if kind in ("a file", "two files"):  # A file is left out alone.
            with restore_context(headers, app):
                assert len(request.files) == (1 if kind == "a file" else 2)
        return len(headers[secrecy.HEADER])

    large = make_shop(**config, TASK_CONTEXT_MAX_SIZE=9999).flask
    for limit in range(4000, 4004):  # Encrypted, four characters are three bytes.
        small = make_shop(**config, TASK_CONTEXT_MAX_SIZE=limit).flask
        over = bisect.bisect(range(4000), limit, key=lambda n: length(large, n))
        for filling in range(over - 3, over + 3):
            captured = length(small, filling)
            if filling < over:
                assert captured == length(large, filling)
            else:
                assert captured <= limit


def test_the_default_limit_is_64_kib() -> None:
    """Without a setting, a header of 64 KiB is taken and a longer one is not."""
    made = make_shop()
    room = 64 * 1024 - len(capture(made, 0))
    assert 64 * 1024 - 16 <= len(capture(made, room - 16)) <= 64 * 1024

    def view() -> None:
        g.tenant = "x" * (room + 16)
        with pytest.raises(CaptureError, match=r"TASK_CONTEXT_MAX_SIZE is 65536\."):
            capture_context()

    made.visit(view)
