"""A worker that cannot take its messages says why, and a mended one runs them."""

from __future__ import annotations

import contextlib
import time
import typing as t
from pathlib import Path
from types import MappingProxyType

import kombu
import pytest

import flask_task_context
from flask_task_context import BadContext
from flask_task_context import capture_context
from tests import troubled_worker
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.secrecy import queue_length

URL = "http://localhost/anna"


class Trouble(t.NamedTuple):
    """What is wrong with a release, what mends it, and which of the ways to answer holds
    its messages. What is said of it then, ``test_error_messages.py`` has."""

    config: dict[str, t.Any]
    mended: t.Mapping[str, t.Any] = MappingProxyType({})
    sent: t.Mapping[str, t.Any] = MappingProxyType({})
    way: str = "retried"


FACTORY = {"APP": "tests.troubled_worker:create_app"}
TROUBLES = {
    "another key": Trouble({"SECRET_KEY": "another key"}),
    "older release": Trouble({}, {"FORMAT": "2"}, {"FORMAT": "2"}),
    "no app": Trouble(
        {"APP": "tests.no_such_module:create_app"}, FACTORY, way="retried always"
    ),
    "an app that fails to load": Trouble(
        {"APP": "tests.troubled_worker:create_broken_app"},
        FACTORY,
        way="retried always",
    ),
}


def capture(**config: t.Any) -> dict[str, str]:
    """A request as the web process sends it, which may be of a release to come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_task_context, "_FORMAT", config.pop("FORMAT", "1"))
        app = troubled_worker.create_app(**config)
        with app.test_request_context("/anna"):
            return capture_context()


class Site:
    """A queue, and one release of its worker after another."""

    def __init__(self, settings: dict[str, t.Any], folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.celery = troubled_worker.create_celery(**settings)
        self.worker: Worker | None = None

    def release(self, config: t.Mapping[str, t.Any]) -> Worker:
        """Stop the worker and start it anew."""
        self.stop()
        self.worker = Worker(
            self.settings,
            self.folder / "worker.log",
            "--pool=threads",  # solo takes 10 seconds to stop on RabbitMQ
            "--concurrency=1",
            module="tests.troubled_worker",
            flask_config=dict(config),
        )
        return self.worker

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.worker = None

    def send(self, way: str, **config: t.Any) -> t.Any:
        return self.celery.tasks[way].apply_async(headers=capture(**config))


@contextlib.contextmanager
def site_on(broker: str, folder: Path) -> t.Iterator[Site]:
    site = Site(celery_settings(broker, folder), folder)
    try:
        yield site
    finally:
        site.stop()
        drop_queue(site.celery)


def get(result: t.Any) -> t.Any:
    return result.get(timeout=30, interval=0.02)


@pytest.mark.parametrize("name", TROUBLES)
def test_a_retried_task_runs_when_the_worker_is_mended(
    name: str, tmp_path: Path
) -> None:
    """``autoretry_for=(ContextError,)`` holds what cannot be trusted or read yet; an app
    that cannot be loaded is no ``ContextError``, and is retried for every exception."""
    trouble = TROUBLES[name]
    with site_on("redis", tmp_path) as site:
        worker = site.release(trouble.config)
        result = site.send(trouble.way, **trouble.sent)
        worker.wait_for(f"Task {trouble.way}[{result.id}] retry: Retry in 1s")
        assert get(site.celery.tasks["alive"].delay()) == "alive"
        site.release(trouble.mended)
        assert get(result) == URL


@pytest.mark.parametrize(
    ("broker", "way"),
    [("redis", "requeued"), ("rabbitmq", "requeued"), ("rabbitmq", "retried")],
)
def test_a_message_that_is_given_back_is_run_by_the_mended_worker(
    broker: str, way: str, tmp_path: Path
) -> None:
    """A ``Reject`` with ``requeue=True`` and a retry, on both brokers."""
    trouble = TROUBLES["another key"]
    with site_on(broker, tmp_path) as site:
        worker = site.release(trouble.config)
        result = site.send(way)
        worker.wait_for(" retry: " if way == "retried" else "requeue=True")
        site.release({})
        assert get(result) == URL


def test_what_a_worker_finds_at_its_start_loses_nothing(tmp_path: Path) -> None:
    """A setting that ``init_app`` refuses stops the worker before it takes a message."""
    with site_on("redis", tmp_path) as site:
        result = site.send("fails")
        with pytest.raises(
            RuntimeError, match=r"TASK_CONTEXT_ENCRYPT needs a SECRET_KEY, and the app"
        ):
            site.release({"TASK_CONTEXT_ENCRYPT": True, "SECRET_KEY": None})
        assert queue_length(site.celery) == 1
        site.release({})
        assert get(result) == URL


@pytest.mark.parametrize("way", ["fails", "late", "kept"])
def test_without_that_the_message_is_gone(way: str, tmp_path: Path) -> None:
    """A task that fails is done for Celery, also with ``acks_late`` and
    ``reject_on_worker_lost`` (no worker was lost): what remains is its result.
    (``acks_on_failure_or_timeout=False`` rejects it, see below.)"""
    trouble = TROUBLES["another key"]
    with site_on("redis", tmp_path) as site:
        site.release(trouble.config)
        result = site.send(way)
        with pytest.raises(
            BadContext, match=r"^The context is signed with a SECRET_KEY"
        ):
            get(result)
        site.stop()
        assert queue_length(site.celery) == 0


def test_a_dead_letter_queue_keeps_what_was_rejected(tmp_path: Path) -> None:
    """On RabbitMQ, ``acks_late`` with ``acks_on_failure_or_timeout=False`` moves the
    message there, with its context; sent on to the queue, it runs."""
    settings = celery_settings("rabbitmq", tmp_path)
    queue = settings["task_default_queue"]
    site = Site({**settings, "dead_letters": f"{queue}-dead"}, tmp_path)
    with site.celery.connection_for_write() as connection:
        channel = connection.default_channel
        dead = kombu.Queue(f"{queue}-dead")(channel)
        dead.declare()
        try:
            site.release({"SECRET_KEY": "another key"})
            result = site.send("kept")
            with pytest.raises(
                BadContext, match=r"^The context is signed with a SECRET_"
            ):
                get(result)
            deadline = time.monotonic() + 60
            while (message := dead.get()) is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert message is not None
            assert message.headers["flask_task_context"].startswith(
                "1:signed:troubled:"
            )
            site.stop()
            result.forget()
            send_again(channel, queue, message)
            site.release({})
            assert get(result) == URL
        finally:
            site.stop()
            dead.delete()
            drop_queue(site.celery)


def send_again(channel: t.Any, queue: str, message: t.Any) -> None:
    """As RabbitMQ's shovel does, but for its own note of why a message is dead."""
    headers = {k: v for k, v in message.headers.items() if not k.startswith("x-")}
    kombu.Producer(channel).publish(
        message.body,
        routing_key=queue,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.properties["correlation_id"],
    )
    message.ack()
