"""Start a mail server, a web server and a Celery worker; end them all."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TypeVar

import kombu
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30
ANSWER_SECONDS = 20

T = TypeVar("T")


class Failed(Exception):
    """The demo cannot go on; the message says why."""


class Interrupted(Exception):
    """Somebody pressed Ctrl-C, or asked the process to end."""


class Signals:
    """Remembers that the process should end, so that no start and no end is cut in two.

    ``check`` is where the program really stops; every wait calls it.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def check(self) -> None:
        if self.received is not None:
            raise Interrupted


class Process:
    """A program with a log file and a process group of its own."""

    def __init__(
        self, name: str, arguments: list[str], environ: dict[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def failure(self, what: str) -> Failed:
        lines = self.log.read_text(errors="replace").splitlines()[-25:]
        log = "\n".join(f"  | {line}" for line in lines)
        return Failed(f"The {self.name} {what}. Its log ends:\n{log}")

    def check(self) -> None:
        if self._popen.poll() is not None:
            raise self.failure(f"ended with status {self._popen.returncode}")

    def find(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.log.read_text(errors="replace"))

    def end(self) -> None:
        """Ask politely, then less so (SIGQUIT is Celery's cold shutdown)."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
            self._popen.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=2)
                break
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS
            os.killpg(self._popen.pid, signal.SIGKILL)  # what is left of its group


class Stack:
    """The running demo. Use it in a ``with`` statement."""

    def __init__(self, signals: Signals, port: int = 0) -> None:
        self.port = port
        self._signals = signals
        self._cleanup = ExitStack()
        self._processes: list[Process] = []

    def __enter__(self) -> Stack:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cleanup.close()

    def _check_port(self) -> None:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("127.0.0.1", self.port))
            except OSError:
                raise Failed(
                    f"Port {self.port} is taken: name another one with --port, or 0 for any."
                ) from None

    def _start(self) -> None:
        self._check_port()
        self.folder = Path(
            self._cleanup.enter_context(
                TemporaryDirectory(
                    prefix="flask-task-context-", ignore_cleanup_errors=True
                )
            )
        )
        self.mail_folder = self.folder / "mails"
        environ = self._environ(mail_port=self._start_mail_server())
        worker = self._start_process(
            "worker",
            "celery -A examples.invitations.worker worker --concurrency=2"
            " --loglevel=INFO --without-gossip --without-mingle --without-heartbeat",
            environ,
        )
        web = self._start_process(
            "web server",
            # One thread: the "rpc://" result backend answers the thread that sent.
            f"waitress --listen=127.0.0.1:{self.port} --threads=1"
            " --no-clear-untrusted-proxy-headers"
            " --call examples.invitations:create_app",
            environ,
        )
        self.wait_for(lambda: worker.find(r" ready\.\s"), worker, START_SECONDS)
        serving = self.wait_for(
            lambda: web.find(r"Serving on http://\S+:(\d+)"), web, START_SECONDS
        )
        self.port = int(serving[1])

    def _start_mail_server(self) -> int:
        port = free_port()
        server = Controller(Mailbox(self.mail_folder), hostname="127.0.0.1", port=port)
        server.start()
        self._cleanup.callback(server.stop)
        return port

    def _environ(self, mail_port: int) -> dict[str, str]:
        queue = f"invitations-{secrets.token_hex(4)}"
        broker = os.environ.get("CELERY_BROKER_URL")
        if broker:
            check_broker(broker)
            self._cleanup.callback(delete_queue, broker, queue)
        return {
            **os.environ,
            "CELERY_BROKER_URL": broker or f"sqla+sqlite:///{self.folder}/broker.db",
            "CELERY_RESULT_BACKEND": os.environ.get("CELERY_RESULT_BACKEND")
            or f"db+sqlite:///{self.folder}/results.db",
            # Keep to ourselves on a broker that others use too.
            "FLASK_CELERY__task_default_queue": queue,
            "FLASK_CELERY__worker_enable_remote_control": "false",
            "FLASK_CELERY__result_expires": "600",
            "FLASK_SECRET_KEY": f"demo-{secrets.token_hex()}",
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(mail_port),
            "FLASK_MAIL_FOLDER": str(self.mail_folder),
        }

    def _start_process(
        self, name: str, command: str, environ: dict[str, str]
    ) -> Process:
        log = self.folder / f"{name}.log"
        process = Process(name, command.split(), environ, log)
        self._cleanup.callback(process.end)
        self._processes.append(process)
        self._signals.check()
        return process

    def pause(self) -> None:
        """Wait a moment; raise if the demo should end or a process has ended."""
        self._signals.check()
        for process in self._processes:
            process.check()
        time.sleep(0.05)

    def wait_for(
        self, condition: Callable[[], T | None], process: Process, seconds: float
    ) -> T:
        """Return the first true value of *condition*; blame *process* for none."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise process.failure(f"was not done within {seconds} seconds")
            self.pause()
        return value

    def wait_for_worker(self, condition: Callable[[], T | None]) -> T:
        return self.wait_for(condition, self._processes[0], ANSWER_SECONDS)

    def request(
        self, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask the web server, with any Host and forwarded headers one likes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._processes[1].failure(f"did not answer ({error!r})") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise self._processes[1].failure(f"answered {response.status} to {path}")
        return response, content


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def check_broker(broker: str) -> None:
    """Say at once that it is not there; a worker would try again and again."""
    try:
        with kombu.Connection(broker, connect_timeout=3) as connection:
            connection.connect()
    except Exception as error:  # each transport has its own
        raise Failed(f"No broker answers at CELERY_BROKER_URL: {error}") from error


def delete_queue(broker: str, queue: str) -> None:
    """Leave nothing of ours on a broker that outlives the demo."""
    connection = kombu.Connection(broker, connect_timeout=3)
    try:
        with connection:
            ours = kombu.Queue(queue, kombu.Exchange(queue), queue)
            ours = ours(connection.default_channel)
            ours.declare()  # on Redis, only who has declared a queue can delete it
            ours.delete()
            ours.exchange.delete()
    except connection.connection_errors + connection.channel_errors as error:
        print(f"The queue {queue!r} is still on the broker: {error}", file=sys.stderr)
