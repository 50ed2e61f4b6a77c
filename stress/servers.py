"""A network that fails, and a disk that is full."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from benchmarks.servers import wait_until


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
