"""TASK_CONTEXT_MAX_SIZE: what is too large is refused in the view, before sending."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from flask import g
from flask import request

from flask_task_context import CaptureError
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import restore_context
from tests import secrecy
from tests.conftest import Shop

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
