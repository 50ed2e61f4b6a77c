"""How many tasks of no work a prefork worker does in a second.

One worker does all ways in turns. It is stopped (SIGSTOP) while a round of messages is
written for it; the last message of each way's share notes the time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.brokers import BROKERS
from benchmarks.brokers import Message
from benchmarks.brokers import message_of
from benchmarks.brokers import own_queue
from benchmarks.report import Results
from benchmarks.ways import CELERYEXT
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import create_celery
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import delay_with_context

WAYS = ("bare", "Flask itself", *CELERYEXT, "article", "ours", "encrypted")
ROUNDS = 10
SHARE = 2000  # 20,000 tasks of each way
SERVERS = {"Redis": "redis-server", "RabbitMQ": "beam.smp"}


def measure(
    results: Results,
    brokers: list[str],
    quick: bool,
    progress: t.Callable[[float], None],
) -> None:
    rounds, share = (2, 200) if quick else (ROUNDS, SHARE)
    apps = Apps.create(100)
    for broker in brokers:
        with (
            own_queue(functools.partial(create_celery, apps), broker) as app,
            tempfile.TemporaryDirectory() as folder,
        ):
            messages = messages_of(apps, app)
            times = Path(folder) / "times"
            note = message_of(app, functools.partial(send_note, app, times))
            with running(broker, app.conf.task_default_queue, Path(folder)) as worker:
                for number in range(rounds + 1):
                    order = random.sample(WAYS, len(WAYS))
                    size = share if number else 100  # the first only warms up
                    seconds = one_round(
                        app, worker, [messages[way] for way in order], note, times, size
                    )
                    spent = dict(zip(order, seconds, strict=True))
                    for way in WAYS if number else ():
                        results.add("worker", broker, way, size / spent[way])
                    progress(1 / len(brokers) / (rounds + 2))
                processes = processes_of(worker, SERVERS[broker])
                for way, message in messages.items():
                    before = cpu_seconds(processes)
                    one_round(app, worker, [message], note, times, share)
                    after = cpu_seconds(processes)
                    for name in processes:
                        spent_here = (after[name] - before[name]) / share * 1e6
                        results.add("cpu", f"{broker}, {name}", way, spent_here)
                progress(1 / len(brokers) / (rounds + 2))


def messages_of(apps: Apps, app: t.Any) -> dict[str, Message]:
    shape = SHAPES["browser"]
    environ = environ_of(apps.signed, shape)

    def send(way: str) -> t.Callable[[], t.Any]:
        if way in ("ours", "encrypted"):
            return lambda: delay_with_context(app.tasks[way])
        return lambda: app.tasks[way].delay()

    messages = {}
    for way in WAYS:
        flask_app = apps.encrypted if way == "encrypted" else apps.signed
        with visit(flask_app, shape, environ):
            messages[way] = message_of(app, send(way))
    return messages


def processes_of(worker: int, server: str) -> dict[str, list[psutil.Process]]:
    main = psutil.Process(worker)
    return {
        "the worker's main process": [main],
        "its two others": main.children(),
        "the broker": [
            process
            for process in psutil.process_iter(["name"])
            if process.info["name"] == server
        ],
    }


def cpu_seconds(processes: dict[str, list[psutil.Process]]) -> dict[str, float]:
    return {
        name: sum(sum(process.cpu_times()[:2]) for process in some)
        for name, some in processes.items()
    }


def send_note(app: t.Any, times: Path) -> None:
    app.send_task("note", [str(times)])


def note(times: str) -> None:
    with Path(times).open("a") as file:
        file.write(f"{time.monotonic()}\n")


def one_round(
    app: t.Any,
    worker: int,
    messages: list[Message],
    note: Message,
    times: Path,
    share: int,
) -> list[float]:
    queue = app.conf.task_default_queue
    times.write_text("")
    os.killpg(worker, signal.SIGSTOP)
    with app.connection_for_write() as connection:
        producer = connection.Producer(auto_declare=False)
        note.send(producer, queue)
        for message in messages:
            for _ in range(share):
                message.send(producer, queue)
            note.send(producer, queue)
    os.killpg(worker, signal.SIGCONT)
    deadline = time.monotonic() + 60 + share * len(messages) * 0.02
    while len(lines := times.read_text().splitlines()) <= len(messages):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker has done {len(lines)} shares only")
        time.sleep(0.1)
    return [end - start for start, end in pairwise(sorted(map(float, lines)))]


@contextlib.contextmanager
def running(broker: str, queue: str, folder: Path) -> t.Iterator[int]:
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", broker, queue],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process.pid
    except RuntimeError as error:
        raise RuntimeError(f"{error}:\n{log.read_text()[-3000:]}") from error
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main(broker: str, queue: str) -> None:
    app = create_celery(Apps.create(100), BROKERS[broker], queue)
    app.task(note, name="note", shared=False, lazy=False)
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    pool = ["--pool=prefork", "--concurrency=2", "--loglevel=WARNING"]
    app.worker_main(["worker", *pool, *quiet])


if __name__ == "__main__":
    main(*sys.argv[1:])
