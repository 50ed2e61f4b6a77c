"""A site on its own queue: gunicorn, ``celery worker`` and 8 clients, all real."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from benchmarks.servers import Process
from benchmarks.servers import answers
from benchmarks.servers import free_port
from stress.shop import Ledger
from stress.shop import Settings
from stress.shop import tasks_of
from stress.visitors import Client
from stress.visitors import Visitor

CLIENTS = 8
POOL = ("--pool=prefork", "--concurrency=2")


class Tally(t.NamedTuple):
    """What the ledger says."""

    sent: int
    ended: int
    again: int  # how often tasks were begun beyond their first time
    wrong: list[str]

    missing: list[str]


class Reading:
    """The ledger, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.seen: dict[str, collections.Counter[str]] = {
            "began": collections.Counter(),
            "saw": collections.Counter(),
            "ended": collections.Counter(),
        }
        self.wrong: list[str] = []

    def read(self) -> int:
        """How many lines are new."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            content = file.read()
        lines = content[: content.rfind(b"\n") + 1]
        self.position += len(lines)
        for line in lines.decode().splitlines():
            event, name, wrong = line.split("\t", 2)
            if wrong:
                self.wrong.append(f"{event} {name}: {wrong}")
            if event in self.seen:
                self.seen[event][name] += 1
        return lines.count(b"\n")

    def missing(self, names: dict[str, bool]) -> list[str]:
        saw, ended = self.seen["saw"], self.seen["ended"]
        return [
            name
            for name, ends in names.items()
            if name not in saw or (ends and name not in ended)
        ]

    def in_flight(self) -> set[tuple[str, int]]:
        """The tasks that have begun and not ended, and how often they have begun."""
        self.read()
        began, ended = self.seen["began"], self.seen["ended"]
        return {(name, began[name]) for name in began.keys() - ended.keys()}

    def tally(self, names: dict[str, bool], first: str) -> Tally:
        names = {name: ends for name, ends in names.items() if name.startswith(first)}
        wrong = [
            line for line in self.wrong if line.partition(" ")[2].startswith(first)
        ]
        strangers = [
            f"{event} {name}: nobody sent it"
            for event, counter in self.seen.items()
            for name in counter.keys() - names.keys()
            if name.startswith(first)
        ]
        began = self.seen["began"].items()
        again = sum(count - 1 for name, count in began if name.startswith(first))
        missing = self.missing(names)
        ended = len(names) - len(missing)
        return Tally(len(names), ended, again, wrong + strangers, missing)


class Site:
    """Everything of one case. What is started is ended at the end of ``with``."""

    def __init__(
        self,
        broker: str,
        queue: str,
        *,
        web_broker: str = "",
        celery: dict[str, t.Any] | None = None,
        flask: dict[str, t.Any] | None = None,
        pause: float = 0,
        apps: t.Sequence[str] = ("shop",),
    ) -> None:
        self.stack = contextlib.ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        ledger = self.folder / "ledger"
        Ledger(ledger)
        self.settings = Settings(
            broker, queue, str(ledger), celery or {}, flask or {}, pause, apps
        )
        self.web_settings = self.settings._replace(broker=web_broker or broker)
        self.reading = Reading(ledger)
        self.names: dict[str, bool] = {}
        self.refused = 0  # answers that were errors, so that the client tried again
        self.lock = threading.Lock()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def start(self, program: Process) -> Process:
        self.stack.callback(program.kill)
        return program

    def serve(self, workers: int = 2, threads: int = 4) -> Process:
        """gunicorn; waits until it answers."""
        self.port = port = free_port()
        command = [sys.executable, "-m", "gunicorn", "stress.web:application"]
        how = [f"--workers={workers}", f"--threads={threads}", "--worker-class=gthread"]
        at = [f"--bind=127.0.0.1:{port}", "--timeout=120", "--keep-alive=30"]
        log = self.folder / "web.log"
        # Where gunicorn has its control socket.
        environ = {**self.web_settings.environ(), "XDG_RUNTIME_DIR": str(self.folder)}
        program = Process([*command, *how, *at], log, environ)
        program.wait_for(lambda: answers(port))
        return self.start(program)

    def work(self, *options: str) -> Process:
        """``celery worker``; waits until it is ready."""
        command = [sys.executable, "-m", "celery", "-A", "stress.worker", "worker"]
        quiet = ["--without-gossip", "--without-mingle", "--loglevel=INFO"]
        name = f"--hostname=stress-{os.urandom(6).hex()}@localhost"
        log = self.folder / f"worker-{os.urandom(6).hex()}.log"
        environ = self.settings.environ()
        program = Process([*command, *quiet, name, *(options or POOL)], log, environ)
        program.wait_for(lambda: " ready." in log.read_text(errors="replace"))
        return self.start(program)

    def visit(
        self,
        kinds: t.Sequence[str],
        progress: t.Callable[[float], None] = lambda done: None,
        share: float = 1,
        attempts: int = 1,
    ) -> list[str]:
        """8 clients at once make one visit of each kind; what went wrong. A visit that
        is answered with an error is made again, up to so many ``attempts``."""
        first = len(self.names) + 1  # more tasks than visits, so never twice
        visits: queue.SimpleQueue[Visitor] = queue.SimpleQueue()
        for number, kind in enumerate(kinds, first):
            visits.put(Visitor(kind, number))
        errors: list[str] = []

        def make_visits() -> None:
            client = Client(self.port)
            while True:
                try:
                    visitor = visits.get_nowait()
                except queue.Empty:
                    client.connection.close()
                    return
                error = self.visit_once(client, visitor, attempts)
                with self.lock:
                    self.names.update(tasks_of(visitor))
                    errors.extend([error] if error else [])
                    progress(share / len(kinds))

        threads = [threading.Thread(target=make_visits) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    def visit_once(self, client: Client, visitor: Visitor, attempts: int) -> str:
        for attempt in range(attempts):
            error = client.visit(visitor)
            if not error:
                return ""
            with self.lock:
                self.refused += 1
            time.sleep(0.2 if attempt + 1 < attempts else 0)
        return error

    def settle(
        self,
        progress: t.Callable[[float], None] = lambda done: None,
        share: float = 0,
        patience: float = 60,
        meanwhile: t.Callable[[], None] = lambda: None,
    ) -> None:
        """Wait for the last task: until all have ended, or nothing has happened for so
        many seconds."""
        last = time.monotonic()
        begun = len(self.reading.missing(self.names)) or 1
        before = begun
        while time.monotonic() - last < patience:
            if self.reading.read():
                last = time.monotonic()
            missing = len(self.reading.missing(self.names))
            progress(share * (before - missing) / begun)
            before = missing
            if not missing:
                return
            meanwhile()
            time.sleep(0.2)

    def tally(self, first: str = "") -> Tally:
        """Of the tasks whose names begin so."""
        self.reading.read()
        return self.reading.tally(self.names, first)
