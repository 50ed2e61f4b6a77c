"""Hostile headers, guided by what they reach: ``restore_context`` under atheris.

``make stress`` runs it where the package ``atheris`` is (Python 3.11 to 3.13 on Linux,
x86-64); by hand::

    python -m stress.headers_guided -runs=1000000 [-max_len=4096] [a folder]

The first byte of an input says what the rest is: a header as it stands, or a payload
that is sealed under the app's own key. The options are libFuzzer's. An input that
breaks a promise is written to a file, and the run ends.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["flask_task_context", "flask.json.tag"]):
    import flask_task_context  # noqa: F401 - to be instrumented

from stress import headers

WAYS = ("signed", "unsigned", "encrypted")
target = headers.Target()


def one_input(data: bytes) -> None:
    if not data:
        return
    kind = WAYS[data[0] % 3]
    try:
        text = data[1:].decode("utf-8", "surrogatepass" if data[0] & 8 else "replace")
    except UnicodeDecodeError:
        return
    if data[0] & 4:
        header = text
    else:
        payload = text.encode("ascii", "backslashreplace").decode("ascii")
        header = target.seal(payload, kind)
    headers.check({headers.HEADER: header}, target.apps[kind])


def write_seeds(folder: Path) -> None:
    """What was really captured, to begin with."""
    for way in range(3):
        for number, payload in enumerate(target.payloads):
            (folder / f"payload-{way}-{number}").write_bytes(
                bytes([way + 48]) + payload.encode()
            )
    for number, header in enumerate(target.every_header):
        (folder / f"header-{number}").write_bytes(b"4" + header.encode())
    for number, word in enumerate((*headers.TEXTS, *headers.KEYS)):
        quoted = headers.dump({"server": word, word: [word]})
        (folder / f"word-{number}").write_bytes(b"0" + quoted.encode())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        arguments = [sys.argv[0], "-max_len=4096", *sys.argv[1:], folder]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
