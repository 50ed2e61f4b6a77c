"""WSGI servers, each in a process of its own, as it is started in production."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLEAR_NOTHING = "--no-clear-untrusted-proxy-headers"
GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:0", "--workers=1"]
COMMANDS = {
    "waitress": ["-m", "waitress", "--listen=127.0.0.1:0", CLEAR_NOTHING],
    "wsgiref": ["-m", "tests.wsgiref_server"],
    "gunicorn sync": [*GUNICORN, "--worker-class=sync"],
    "gunicorn gthread": [*GUNICORN, "--worker-class=gthread", "--threads=2"],
    "gunicorn gevent": [*GUNICORN, "--worker-class=gevent"],
    "uWSGI": [
        "-c",
        "import pyuwsgi; pyuwsgi.run()",
        "--http-socket=127.0.0.1:0",
        "--master",
        "--need-app",
        "--die-on-term",
        "--enable-threads",
        "--module",
    ],
}
# They give the view no bytes of such a body.
WITHOUT_CHUNKED_BODIES = ("wsgiref", "uWSGI")


@contextlib.contextmanager
def serving_apart(
    server: str,
    application: str,
    log: Path,
    environ: dict[str, str],
    under: t.Sequence[str] = (),
) -> t.Iterator[int]:
    """``module:application`` on that server; gives the port."""
    # To a view under wsgiref, a proxy that is set here would look like a header.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HTTP_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*under, sys.executable, *COMMANDS[server], application],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **environ},
        )
    try:
        yield _port(process, log)
    finally:
        process.terminate()
        process.wait(60)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 60
    while not (found := re.search(r"127\.0\.0\.1:([1-9]\d*)", log.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no server:\n{log.read_text()}")
        time.sleep(0.05)
    return int(found[1])
