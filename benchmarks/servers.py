"""Brokers of the run's own, and other programs that it starts and ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import typing as t
from pathlib import Path

import kombu

ROOT = Path(__file__).parent.parent
RABBITMQ = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # Debian's wrapper changes user


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return t.cast("int", listener.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(
    true: t.Callable[[], t.Any], seconds: float, what: str, every: float = 0.05
) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come in {seconds:g} seconds")
        time.sleep(every)


class Process:
    """A program in a process group of its own, with a log."""

    def __init__(
        self, command: t.Sequence[str], log: Path, environ: dict[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environ,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, ready: t.Callable[[], bool], seconds: float = 60) -> None:
        def is_ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended at its start:\n{self.tail()}")
            return ready()

        try:
            wait_until(is_ready, seconds, "the start")
        except RuntimeError as error:
            self.kill()
            raise RuntimeError(f"{error}:\n{self.tail()}") from error

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> bool:
        """Whether it ended by itself after the signal."""
        if self.process.poll() is None:
            os.kill(self.pid, number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class Server:
    """A broker on a free port, with its data in a folder."""

    url: str

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.start()

    def command(self) -> tuple[list[str], dict[str, str] | None]:
        raise NotImplementedError

    def start(self) -> None:
        command, environ = self.command()
        self.program = Process(command, self.folder / "server.log", environ)
        self.program.wait_for(self.is_ready)

    def is_ready(self) -> bool:
        if answers(self.port):
            with (
                contextlib.suppress(Exception),
                kombu.Connection(self.url, connect_timeout=3) as connection,
            ):
                connection.ensure_connection(max_retries=1, interval_start=0.1)
                return True
        return False

    def stop(self) -> None:
        """As its owner stops it."""
        self.program.end(signal.SIGTERM)

    def close(self) -> None:
        self.program.kill()


class Redis(Server):
    """Every write is on disk before it is answered."""

    disk = ("--appendonly", "yes", "--appendfsync", "always")

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"redis://127.0.0.1:{self.port}/0"

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("redis-server") else "no redis-server to start"

    def command(self) -> tuple[list[str], None]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port)]
        files = ["--dir", str(self.folder), "--save", ""]
        return ["redis-server", *where, *files, *self.disk], None


class RabbitMQ(Server):
    """A node with a name of its own, which no other node knows."""

    arguments = ""  # of Erlang

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @staticmethod
    def missing() -> str:
        return "" if RABBITMQ.exists() else "no rabbitmq-server to start"

    def __init__(self, folder: Path) -> None:
        self.environ = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"own-{os.urandom(4).hex()}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self.arguments,
        }
        super().__init__(folder)

    def command(self) -> tuple[list[str], dict[str, str]]:
        environ = {**self.environ, "RABBITMQ_NODE_PORT": str(self.port)}
        return [str(RABBITMQ)], environ

    def status(self) -> dict[str, t.Any]:
        command = [str(RABBITMQ.with_name("rabbitmqctl")), "--silent", "status"]
        printed = b""

        def answered() -> bool:  # on a busy machine it may not
            nonlocal printed
            done = subprocess.run(
                [*command, "--formatter", "json"], env=self.environ, capture_output=True
            )
            printed = done.stdout if not done.returncode else b""
            return bool(printed)

        wait_until(answered, 120, "rabbitmqctl's answer", 1)
        return t.cast("dict[str, t.Any]", json.loads(printed))

    def stop(self) -> None:
        # The script in front of it waits for its child.
        os.killpg(self.program.pid, signal.SIGTERM)
        super().stop()

    def close(self) -> None:
        self.stop()

        # Erlang's port mapper is a daemon, and stays while it knows a node.
        def ended() -> bool:
            command = ["epmd", "-kill"]
            done = subprocess.run(command, env=self.environ, capture_output=True)
            return not done.returncode

        wait_until(ended, 20, "the end of epmd", 0.5)
