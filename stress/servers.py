"""Brokers of the run's own, to end and to start again, and a network that fails."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import kombu

from stress.site import Process
from stress.site import answers
from stress.site import free_port
from stress.site import wait_until

RABBITMQ = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # Debian's wrapper changes user


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

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"redis://127.0.0.1:{self.port}/0"

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("redis-server") else "no redis-server to start"

    def command(self) -> tuple[list[str], None]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port)]
        files = ["--dir", str(self.folder), "--save", ""]
        disk = ["--appendonly", "yes", "--appendfsync", "always"]
        return ["redis-server", *where, *files, *disk], None


class RabbitMQ(Server):
    """A node with a name of its own, which no other node knows."""

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
            "RABBITMQ_NODENAME": f"stress-{os.urandom(4).hex()}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "none"),
        }
        super().__init__(folder)

    def command(self) -> tuple[list[str], dict[str, str]]:
        environ = {**self.environ, "RABBITMQ_NODE_PORT": str(self.port)}
        return [str(RABBITMQ)], environ

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


class Cutting:
    """A TCP proxy that cuts every connection after a number of bytes that were sent to
    the server, which is another one each time."""

    def __init__(self, port: int, least: int, most: int) -> None:
        self.target = port
        self.bytes = (least, most)
        self.random = random.Random(7)
        self.cuts = 0
        self.cutting = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                room = self.random.randint(*self.bytes)
                for pair in ((client, server, room), (server, client, None)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, here: socket.socket, there: socket.socket, room: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                if room is not None and self.cutting:
                    data, room = data[:room], room - len(data)
                there.sendall(data)
                if room is not None and room <= 0 and self.cutting:
                    self.cuts += 1
                    break
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.listener.close()


class SmallDisk:
    """A file system that is soon full, and can be made larger. Needs root."""

    def __init__(self, folder: Path, size: str) -> None:
        folder.mkdir()
        self.folder = folder
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            check=True,
            capture_output=True,
        )

    def grow(self, size: str) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)], check=True
        )

    def close(self) -> None:
        # What has a file open there has been ended, but may not be gone yet.
        def unmounted() -> bool:
            command = ["umount", str(self.folder)]
            return not subprocess.run(command, capture_output=True).returncode

        wait_until(unmounted, 20, "the end of the small disk")


def may_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None
