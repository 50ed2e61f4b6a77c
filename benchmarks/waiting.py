"""What messages that wait cost: the broker's memory, disk and rates.

Each way has a broker of its own. They are filled and emptied in turns, some messages
each time, so that whatever else the machine does hits all of them alike.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import tempfile
import time
import typing as t
from pathlib import Path

import flask
import kombu
import psutil
from celery import Celery

from benchmarks.brokers import message_of
from benchmarks.report import Results
from benchmarks.servers import RabbitMQ
from benchmarks.servers import Redis
from benchmarks.servers import Server
from benchmarks.servers import wait_until
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import create_celery
from benchmarks.ways import create_flask
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import delay_with_context

MESSAGES = 100_000
MILLION, GIB = 1_000_000, 2**30
TURNS = 200
PREFETCH = 64
SHAPE = SHAPES["form"]
QUEUE = "waiting"
#: What a task does without that needs the user, links and the language.
LITTLE = {
    "TASK_CONTEXT_BODY": False,
    "TASK_CONTEXT_SESSION": ["_user_id"],
    "TASK_CONTEXT_EXCLUDE": [
        *("cookie", "*authorization*", "*token*"),
        *("user-agent", "accept", "accept-encoding", "connection"),
        *("origin", "referer", "sec-*", "upgrade-*"),
    ],
}
WAYS = {  # and the task of ways.py
    "no context": "bare",
    "signed": "ours",
    "encrypted": "encrypted",
    "signed, less": "ours",
}


class InMemory(Redis):
    """It writes nothing to disk."""

    disk = ()


class SmallLog(RabbitMQ):
    """Quorum queues keep what is in their log in memory too, up to 512 MB of it. That
    is no price of a million messages, so here it is 8 MB, and full before it counts."""

    arguments = "-ra wal_max_size_bytes 8388608"


class Kind(t.NamedTuple):
    server: type[Redis | RabbitMQ]
    arguments: dict[str, str]  # of the queue


#: From RabbitMQ 3.12 on, every classic queue keeps its messages as a lazy one does.
KINDS = {
    "Redis": Kind(InMemory, {}),
    "RabbitMQ, classic": Kind(RabbitMQ, {}),
    "RabbitMQ, lazy": Kind(RabbitMQ, {"x-queue-mode": "lazy"}),
    "RabbitMQ, quorum": Kind(SmallLog, {"x-queue-type": "quorum"}),
}


def measure(results: Results, quick: bool, progress: t.Callable[[float], None]) -> None:
    count = MESSAGES // 20 if quick else MESSAGES
    for name, kind in KINDS.items():
        if missing := kind.server.missing():
            print(f"There is {missing}: no rows of {name}.")
            continue
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            queues = {way: Waiting(stack, folder, kind, way) for way in WAYS}
            for found in in_turns(queues, count):
                progress(found / len(KINDS))
            bare = queues["no context"].rates()
            for way, queue in queues.items():
                rates = {to: rate / bare[to] for to, rate in queue.rates().items()}
                for column, value in {**queue.sizes(), **rates}.items():
                    results.add("waiting", f"{name}, {way}", column, value)


def in_turns(queues: dict[str, Waiting], count: int) -> t.Iterator[float]:
    """A tenth first, as views publish it: it tells the rates, and what a broker takes
    once is not multiplied. The many behind it are copies of one, which take less time."""
    gc.collect()
    gc.freeze()
    turn, tenth = count // TURNS, TURNS // 10
    waiting = list(queues.values())
    parts = {Waiting.publish: tenth, Waiting.copy: TURNS, Waiting.take: 2 * tenth}
    for part, turns in parts.items():
        for _ in range(turns):
            for queue in random.sample(waiting, len(waiting)):
                part(queue, turn)
            yield 1 / sum(parts.values())
        for queue in waiting:
            queue.note()


class Waiting:
    """A broker with messages of one way."""

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, kind: Kind, way: str
    ) -> None:
        self.server = kind.server(folder / way)
        stack.callback(self.server.close)
        self.flask = create_flask(100, encrypt=way == "encrypted")
        self.flask.config.update(LITTLE if way == "signed, less" else {})
        self.environ = environ_of(self.flask, SHAPE)
        app = celery_of(self.flask, self.server, kind.arguments)
        stack.callback(app.close)
        task = app.tasks[WAYS[way]]
        with_context = functools.partial(delay_with_context, task)
        self.send = task.delay if way == "no context" else with_context
        self.connection = stack.enter_context(app.connection_for_read())
        self.queue = app.amqp.queues[QUEUE](self.connection.default_channel)
        self.queue.declare()
        self.producer = stack.enter_context(app.connection_for_write()).Producer()
        self.sent = self.published = self.taken = 0
        self.publishing = self.taking = 0.0  # seconds
        self.publish(1)
        self.message = message_of(app, lambda: None)
        self.sent = 0
        self.notes: list[tuple[int, dict[str, float]]] = []

    def send_one(self) -> None:
        """As a view does. What Flask takes to open a request is not counted."""
        with visit(self.flask, SHAPE, self.environ):
            start = time.perf_counter()
            self.send()
            self.publishing += time.perf_counter() - start

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.send_one()
        self.published += count
        self.wait_for(count)

    def copy(self, count: int) -> None:
        for _ in range(count):
            self.message.send(self.producer, QUEUE)
        self.wait_for(count)

    def wait_for(self, count: int) -> None:
        self.sent += count
        wait_until(self.all_wait, 60, f"message {self.sent}", 0.01)

    def all_wait(self) -> bool:
        found = self.queue.queue_declare(passive=True)
        return t.cast("int", found.message_count) == self.sent

    def take(self, count: int) -> None:
        """By a consumer that acknowledges each message and does nothing with it."""
        if not self.taken:
            channel = self.connection.default_channel
            consumer = kombu.Consumer(channel, self.queue, on_message=self.got)
            consumer.qos(prefetch_count=PREFETCH)
            consumer.consume()
        until = self.taken + count
        start = time.perf_counter()
        while self.taken < until:
            self.connection.drain_events(timeout=60)
        self.taking += time.perf_counter() - start

    def got(self, message: kombu.Message) -> None:
        message.ack()
        self.taken += 1

    def note(self) -> None:
        time.sleep(1)  # RabbitMQ writes what it has taken
        self.notes.append((self.sent, sizes_of(self.server)))

    def sizes(self) -> dict[str, float]:
        (few, before), (many, after), _ = self.notes
        million = MILLION / (many - few) / GIB
        return {size: (after[size] - before[size]) * million for size in before}

    def rates(self) -> dict[str, float]:
        """Messages in a second."""
        return {
            "publish rate : no context": self.published / self.publishing,
            "consume rate : no context": self.taken / self.taking,
        }


def celery_of(flask_app: flask.Flask, server: Server, arguments: t.Any) -> Celery:
    app = create_celery(Apps(flask_app, flask_app), server.url, QUEUE)
    exchange = kombu.Exchange(QUEUE)
    queue = kombu.Queue(QUEUE, exchange, QUEUE, queue_arguments=arguments)
    app.conf.task_queues = [queue]
    return app


def sizes_of(server: Server) -> dict[str, float]:
    """Bytes: what the broker counts as used, what its process has, and its files."""
    if isinstance(server, Redis):
        with kombu.Connection(server.url) as connection:
            used = connection.default_channel.client.info("memory")["used_memory"]
        process = psutil.Process(server.program.pid)
    else:
        used = server.status()["memory"]["total"]["erlang"]
        children = psutil.Process(server.program.pid).children(recursive=True)
        process = next(child for child in children if child.name() == "beam.smp")
    files = [file for file in server.folder.rglob("*") if file.is_file()]
    return {
        "used, GiB": used,
        "resident, GiB": process.memory_info().rss,
        "disk, GiB": sum(file.stat().st_blocks * 512 for file in files),
    }
