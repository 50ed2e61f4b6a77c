"""The brokers, and queues of the benchmark's own on them."""

from __future__ import annotations

import contextlib
import os
import typing as t
import uuid

import celery
import kombu

BROKERS = {
    "Redis": os.environ.get("CELERY_TEST_REDIS_URL", "redis://localhost:6379/0"),
    "RabbitMQ": os.environ.get(
        "CELERY_TEST_AMQP_URL", "amqp://guest:guest@localhost//"
    ),
}


def server_version(name: str) -> str | None:
    """``None`` when the broker is not there."""
    with kombu.Connection(BROKERS[name], connect_timeout=3) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.1)
        except connection.connection_errors:
            return None
        if name == "Redis":
            version = connection.default_channel.client.info("server")["redis_version"]
        else:
            version = connection.connection.server_properties["version"]
        return str(version)


@contextlib.contextmanager
def own_queue(
    create: t.Callable[[str, str], celery.Celery], name: str
) -> t.Iterator[celery.Celery]:
    """The Celery app that ``create`` makes from the broker's URL and a queue; the queue
    and its exchange are gone at the end."""
    queue = f"bench-{uuid.uuid4().hex[:12]}"
    app = create(BROKERS[name], queue)
    try:
        yield app
    finally:
        with app.connection_for_write() as connection:
            bound = app.amqp.queues[queue](connection.default_channel)
            for entity in (bound, bound.exchange):
                with contextlib.suppress(connection.channel_errors):
                    entity.delete()
            if name == "Redis":  # kombu keeps its bindings
                delete_keys(connection.default_channel.client, queue)
        app.close()


def delete_keys(client: t.Any, queue: str) -> None:
    for key in client.scan_iter(f"*{queue}*"):
        client.delete(key)


def purge(app: celery.Celery) -> None:
    with app.connection_for_write() as connection:
        app.amqp.queues[app.conf.task_default_queue](connection.default_channel).purge()


class Message(t.NamedTuple):
    """A published task, to send again many times at little cost."""

    body: t.Any
    headers: dict[str, t.Any]
    properties: dict[str, t.Any]

    def send(self, producer: kombu.Producer, queue: str) -> None:
        task_id = str(uuid.uuid4())
        producer.publish(
            self.body,
            routing_key=queue,
            exchange=queue,
            headers={**self.headers, "id": task_id, "root_id": task_id},
            correlation_id=task_id,
            **self.properties,
        )


def message_of(app: celery.Celery, send: t.Callable[[], t.Any]) -> Message:
    """What ``send`` puts into the app's empty queue."""
    send()
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue]
        message = queue(connection.default_channel).get(no_ack=True)
    properties = {
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "delivery_mode": 2,
        "reply_to": message.properties.get("reply_to"),
    }
    return Message(message.body, message.headers, properties)
