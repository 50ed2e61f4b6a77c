"""Whether a worker's memory stays flat, and whether tasks leave reference cycles.

The worker runs on Celery's in-memory broker, so that 200,000 tasks take a minute.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import subprocess
import sys
import threading
import time
import typing as t

import flask
import psutil
from celery.worker import state

from benchmarks.alternate import Contest
from benchmarks.brokers import Message
from benchmarks.brokers import message_of
from benchmarks.micro import restore
from benchmarks.micro import run
from benchmarks.report import Results
from benchmarks.ways import SHAPES
from benchmarks.ways import Apps
from benchmarks.ways import create_celery
from benchmarks.ways import environ_of
from benchmarks.ways import visit
from flask_task_context import capture_context
from flask_task_context import delay_with_context

TASKS = 200_000
SAMPLES = 20
POOLS = ("solo", "threads")


def measure(results: Results, quick: bool, progress: t.Callable[[float], None]) -> None:
    count_cycles(results)
    tasks = 2_000 if quick else TASKS
    workers = {pool: start(pool, tasks) for pool in POOLS}
    for pool, worker in workers.items():
        assert worker.stdout is not None
        sizes = []
        for line in worker.stdout:
            sizes.append(float(line))
            progress(1 / len(POOLS) / SAMPLES)
        if worker.wait() or len(sizes) < SAMPLES:
            raise RuntimeError(f"the {pool} worker failed")
        # Caches are warm after a tenth of the tasks.
        warm, end = sizes[SAMPLES // 10 - 1], sizes[-1]
        results.add("memory", pool, f"after {tasks // 10:,}", warm)
        results.add("memory", pool, f"after {tasks:,}", end)
        results.add("memory", pool, "ours", end - warm)


def count_cycles(results: Results) -> None:
    """Objects that only the garbage collector could free, after 1,000 tasks."""
    apps = Apps.create(100)
    contests = run(apps, create_celery(apps).tasks)
    contests["Flask itself"] = restore(apps, SHAPES["browser"])["Flask itself"]
    for way, contest in contests.items():
        cycles = _cycles(functools.partial(_once, contest))
        results.add("cycles", "a task", way, cycles)

    def visits(
        app: flask.Flask, inside: t.Callable[[], object]
    ) -> t.Callable[[], None]:
        environ = environ_of(app, SHAPES["form"])

        def call() -> None:
            with visit(app, SHAPES["form"], environ):
                inside()

        return call

    case = "a capture"
    results.add("cycles", case, "Flask itself", _cycles(visits(apps.signed, int)))
    for way, app in (("ours", apps.signed), ("encrypted", apps.encrypted)):
        results.add("cycles", case, way, _cycles(visits(app, capture_context)))


def _once(contest: Contest) -> None:
    with contest.around() as argument:
        contest.timed(argument)


def _cycles(call: t.Callable[[], object]) -> int:
    call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(1000):
            call()
        return gc.collect()
    finally:
        gc.enable()


# -- the worker ----------------------------------------------------------------


def start(pool: str, tasks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory"]
    command += [pool, str(tasks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main(pool: str, tasks: str) -> None:
    apps = Apps.create(100)
    app = create_celery(apps)
    app.conf.broker_transport_options = {"polling_interval": 0.005}
    messages = [
        message_from(apps.signed, app.tasks["ours"]),
        message_from(apps.encrypted, app.tasks["encrypted"]),
    ]
    worker = app.Worker(
        pool=pool,
        concurrency=2,
        loglevel="ERROR",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    feeder = threading.Thread(target=feed, args=(app, messages, int(tasks)))
    feeder.start()
    with contextlib.suppress(SystemExit):
        worker.start()
    feeder.join()


def message_from(flask_app: flask.Flask, task: t.Any) -> Message:
    environ = environ_of(flask_app, SHAPES["form"])
    with visit(flask_app, SHAPES["form"], environ):
        return message_of(task.app, lambda: delay_with_context(task))


def feed(app: t.Any, messages: list[Message], tasks: int) -> None:
    """Give the worker its messages, never many at once, and note its size."""
    process = psutil.Process()
    queue = app.conf.task_default_queue
    with app.connection_for_write() as connection:
        producer = connection.Producer(auto_declare=False)
        for number in range(1, tasks + 1):
            messages[number % 2].send(producer, queue)
            while number - state.all_total_count[0] > 100:
                time.sleep(0.002)
            if number % (tasks // SAMPLES) == 0:
                print(process.memory_info().rss / 2**20, flush=True)
        while state.all_total_count[0] < tasks:
            time.sleep(0.002)
    state.should_stop = 0


if __name__ == "__main__":
    main(*sys.argv[1:])
