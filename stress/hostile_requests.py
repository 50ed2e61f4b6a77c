"""Hostile requests: a view that captures behaves as one that does not.

``python -m stress.hostile_requests`` sends the same bytes to two servers, whose views
differ in one call of ``delay_with_context``, and compares what the views saw and what
the clients got, to the last header.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import flask
from celery import Celery
from flask import g
from flask import request
from flask import session

from flask_task_context import CaptureError
from flask_task_context import delay_with_context
from stress import ROOT

if t.TYPE_CHECKING:
    from stress.report import Report

SERVERS = ("gunicorn", "waitress")
#: How the view reads its body, and when it sends its task.
WAYS = ("nothing", "data", "form", "json", "stream", "half", "session", "url")
TIMES = ("before", "after")
TOO_LARGE = re.compile(
    r"The request's context has \d+ characters, and TASK_CONTEXT_MAX_SIZE is 65536\."
    r" Nothing was sent\. The largest parts: .*\. Store large values in the view and"
    r" pass their keys to the task, or leave them out by TASK_CONTEXT_SESSION,"
    r" TASK_CONTEXT_G and TASK_CONTEXT_BODY\."
)


# -- the servers' side --------------------------------------------------------------


def digest(data: bytes) -> list[t.Any]:
    return [len(data), hashlib.sha256(data).hexdigest()]


def read(way: str, send: t.Callable[[], None]) -> t.Any:
    """What a view sees that reads its request in this way."""
    if way == "data":
        return digest(request.get_data())
    if way == "form":
        files = request.files.items(multi=True)
        return [
            digest(json.dumps(list(request.form.items(multi=True))).encode()),
            [[n, f.filename, digest(f.read())] for n, f in files],
        ]
    if way == "json":
        return digest(repr(request.get_json(force=True)).encode())
    if way == "stream":
        return digest(request.stream.read())
    if way == "half":
        first = request.stream.read(10)
        send()
        return [digest(first), digest(request.stream.read())]
    if way == "session":
        return [dict(session), request.cookies.to_dict()]
    if way == "url":
        # The one part in which the two servers differ.
        url = request.url.replace(request.environ["SERVER_PORT"], "PORT")
        return [url, request.args.to_dict(flat=False), list(request.headers)]
    return None


def create_app(captures: bool, records: Path) -> flask.Flask:
    """Every request, of whatever path and method, is the one view's."""
    app = flask.Flask("hostile")
    app.config["SECRET_KEY"] = "hostile key"
    celery = Celery("hostile", broker="memory://", set_as_current=False)
    task = celery.task(work, name="work", ignore_result=True, shared=False)

    def send() -> None:
        if captures:
            try:
                delay_with_context(task)
            except CaptureError as error:
                g.refused = str(error)
            except Exception as error:
                g.broken = type(error).__name__
                raise

    @app.before_request
    def view() -> t.Any:
        way, when = request.args.get("way", "nothing"), request.args.get("when")
        record: dict[str, t.Any] = {"way": way, "when": when}
        try:
            if when == "before":
                send()
            record["seen"] = read(way, send)
            if when == "after":
                send()
        except Exception as error:
            record["error"] = type(error).__name__
            raise
        finally:
            line = {**record, "refused": g.get("refused"), "broken": g.get("broken")}
            with records.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return flask.jsonify(record)

    return app


def work() -> None:
    """Sent, and never run."""


def application(environ: t.Any, start_response: t.Any) -> t.Any:
    """What gunicorn and waitress load."""
    global _app
    if _app is None:
        records = Path(os.environ["RECORDS"])
        _app = create_app(os.environ["CAPTURES"] == "1", records)
    return _app(environ, start_response)


_app: flask.Flask | None = None


class Server:
    """A real server process, and what its view has recorded."""

    def __init__(self, kind: str, captures: bool, folder: Path) -> None:
        name = f"{kind}-{captures}"
        self.records = folder / f"{name}.jsonl"
        self.records.touch()
        self.read_up_to = 0
        self.log = folder / f"{name}.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        address = f"127.0.0.1:{self.port}"
        options = {
            "gunicorn": [
                *("--bind", address, "--worker-class=gthread", "--threads=4"),
                *("--limit-request-field_size=0", "--limit-request-line=0"),
                *("--limit-request-fields=2000", "--log-level=critical"),
            ],
            "waitress": ["--listen", address],
        }
        module = "gunicorn" if kind == "gunicorn" else "waitress"
        environ = {"CAPTURES": "01"[captures], "RECORDS": str(self.records)}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", module, *options[kind]),
                    "stress.hostile_requests:application",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environ},
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(self.address):
                return
            time.sleep(0.05)
        raise RuntimeError(f"no server: {self.log.read_text()}")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def new_records(self) -> list[dict[str, t.Any]]:
        text = self.records.read_bytes()[self.read_up_to :]
        whole = text[: text.rfind(b"\n") + 1]
        self.read_up_to += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Pair: t.TypeAlias = tuple[Server, Server]


# -- the client's side ----------------------------------------------------------------


class Case(t.NamedTuple):
    """What is sent. ``TARGET`` in it stands for the query that says what to read."""

    raw: bytes
    ends: str = "half"  # "half" closes one direction, "close" both, "reset" at once
    #: gunicorn goes on after so long a body where somebody has read it.
    long: bool = False


def post(
    body: bytes,
    content_type: str = "text/plain",
    length: t.Any = ...,
    more: bytes = b"",
    ends: str = "half",
    path: bytes = b"/",
    method: bytes = b"POST",
) -> Case:
    lines = [method + b" " + path + b"?TARGET HTTP/1.1", b"Host: shop.example"]
    if content_type:
        lines.append(b"Content-Type: " + content_type.encode("latin-1"))
    if length is ...:
        length = len(body)
    if length is not None:
        lines.append(b"Content-Length: " + str(length).encode())
    head = b"\r\n".join(lines) + b"\r\n" + more + b"Connection: close\r\n\r\n"
    return Case(head + body, ends)


def get(path: bytes = b"/", more: bytes = b"", host: bytes = b"shop.example") -> Case:
    lines = b"GET " + path + b"?TARGET HTTP/1.1\r\nHost: " + host + b"\r\n"
    return Case(lines + more + b"Connection: close\r\n\r\n")


def multipart(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def field(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    disposition = b'Content-Disposition: form-data; name="' + name + b'"' + more
    return disposition + b"\r\n\r\n" + value


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", **options: t.Any) -> Case:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end
    more = options.pop("more", b"") + b"Transfer-Encoding: chunked\r\n"
    content_type = options.pop("content_type", "text/plain")
    return post(body, content_type, None, more, **options)


def kept(case: Case) -> Case:
    """On a connection that the client does not ask to close."""
    second = b"GET /second?way=url&when=before HTTP/1.1\r\nHost: shop.example\r\n"
    raw = case.raw.replace(b"Connection: close\r\n", b"", 1)
    return case._replace(raw=raw + second + b"Connection: close\r\n\r\n")


FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
FILE = b'; filename="f.txt"'
WORDS = b"the body of a request, "


def cases() -> dict[str, Case]:
    """Requests that are made to break something."""
    headers = b"".join(b"X-H%d: %s\r\n" % (n, b"x" * 1000) for n in range(62))
    fields = b"&".join(b"f%d=%d" % (n, n) for n in range(10_000))
    parts = [field(b"f%d" % n, b"%d" % n) for n in range(10_000)]
    large = WORDS * 60_000
    found = {
        # -- headers
        "62 KB of headers": post(b"body", more=headers),
        "70 KB of headers": post(b"body", more=headers + headers[:8000]),
        "one header of 64 KiB": get(more=b"X-Long: " + b"x" * 65536 + b"\r\n"),
        "1,500 headers": get(more=b"".join(b"X%d: a\r\n" % n for n in range(1500))),
        "the same header 500 times": get(more=b"X-Same: a\r\n" * 500),
        "a folded header": get(more=b"X-Folded: a\r\n b\r\n"),
        "bytes in a header": get(more=b"X-Bytes: \xff\xfe\x80\xc3\xa9\r\n"),
        "a nul in a header": get(more=b"X-Nul: a\x00b\r\n"),
        "a Proxy header": get(more=b"Proxy: http://evil\r\n"),
        "names that look like CGI": get(
            more=b"X_Under: 1\r\nWsgi.Input: 1\r\nContent_Length: 3\r\nHttp-Host: e\r\n"
        ),
        "a header without a name": get(more=b": nothing\r\n"),
        "blanks before the colon": get(more=b"Content-Length : 4\r\n"),
        # -- forms
        "10,000 form fields": post(fields, FORM),
        "10,000 fields of a multipart form": post(multipart(*parts), MULTIPART),
        "1,001 fields of a multipart form": post(multipart(*parts[:1001]), MULTIPART),
        "a form field of 600 KB": post(b"a=" + b"x" * 600_000, FORM),
        "a multipart field of 600 KB": post(
            multipart(field(b"a", b"x" * 600_000)), MULTIPART
        ),
        "a file of 1.4 MB": post(multipart(field(b"f", large, FILE)), MULTIPART),
        "a body of 1.4 MB": post(large),
        "no boundary": post(multipart(field(b"a", b"1")), "multipart/form-data"),
        "another boundary": post(
            multipart(field(b"a", b"1")), "multipart/form-data; boundary=c"
        ),
        "a boundary of 3,000": post(
            multipart(field(b"a", b"1")), "multipart/form-data; boundary=" + "b" * 3000
        ),
        "an unfinished form": post(multipart(field(b"a", b"1"), end=b""), MULTIPART),
        "an unfinished part": post(
            b"--b\r\nContent-Disposition: form-data; na", MULTIPART
        ),
        "a large unfinished form": post(
            multipart(field(b"f", large, FILE), end=b""), MULTIPART
        ),
        "a part without a name": post(
            multipart(b"Content-Disposition: form-data\r\n\r\n1"), MULTIPART
        ),
        "a part without headers": post(multipart(b"\r\n1"), MULTIPART),
        "a part whose header is none": post(multipart(b"nonsense\r\n\r\n1"), MULTIPART),
        "a part in another encoding": post(
            multipart(
                b"Content-Type: text/plain; charset=utf-16\r\n"
                + field(b"a", b"\xff\xfe1")
            ),
            MULTIPART,
        ),
        "bytes in a field's name": post(
            multipart(field(b"\xff\x00", b"\xff")), MULTIPART
        ),
        "line ends of another kind": post(
            multipart(field(b"a", b"1")).replace(b"\r\n", b"\n"), MULTIPART
        ),
        "a form that is none": post(b"\x00\xff" * 100, FORM),
        "percent signs": post(b"%=%&%zz=%ff%fe&a=%00&=&&&==", FORM),
        "a form in another encoding": post(
            "é=ł".encode("utf-16"), FORM + "; charset=utf-16"
        ),
        "an encoding that is none": post(b"\xc3\xa9", "text/plain; charset=utf-99"),
        "a password in a broken form": post(
            multipart(field(b"password", b"1"), end=b""), MULTIPART
        ),
        # -- JSON
        "broken JSON": post(b'{"a": ', "application/json"),
        "JSON of bytes": post(b'{"a": "\xff"}', "application/json"),
        "JSON of surrogates": post(b'{"a": "\\ud800", "token": 1}', "application/json"),
        "JSON, 20,000 deep": post(b"[" * 20_000 + b"]" * 20_000, "application/json"),
        "a number of 20,000 digits": post(
            b'{"token":' + b"9" * 20_000 + b"}", "text/json"
        ),
        "a JSON number of 5,000 digits": post(
            b'{"password":' + b"9" * 5_000 + b"}", "application/json"
        ),
        "NaN": post(b'{"a": NaN, "token": -Infinity}', "application/json"),
        "the same key twice": post(b'{"a": 1, "a": 2, "token": 3}', "application/json"),
        "content that is compressed": post(
            b"\x1f\x8b\x08\x00", "application/json", more=b"Content-Encoding: gzip\r\n"
        ),
        # -- bodies that lie about their length
        "shorter than it says": post(WORDS, length=400),
        "shorter, a form": post(b"a=1&b=2", FORM, length=400),
        "shorter, a multipart form": post(
            multipart(field(b"a", b"1")), MULTIPART, length=4000
        ),
        "shorter, large": post(large, length=2_000_000),
        "shorter, a large file": post(
            multipart(field(b"f", large, FILE)), MULTIPART, length=2_000_000
        ),
        "longer than it says": post(WORDS * 4, length=10),
        "longer, and a second request": post(
            WORDS + b"GET / HTTP/1.1\r\n\r\n", length=23
        ),
        "longer, a form": post(b"a=1&b=2", FORM, length=5),
        "no length at all": post(WORDS, length=None),
        "a length of -1": post(WORDS, length=-1),
        "a length of +5": post(WORDS, length="+5"),
        "a length of 1_0": post(WORDS, length="1_0"),
        "a length of 0x5": post(WORDS, length="0x5"),
        "a length of 10**30": post(WORDS, length=10**30),
        "a length of 5,000 digits": post(WORDS, length="9" * 5000),
        "two lengths": post(WORDS, more=b"Content-Length: 3\r\n"),
        "a length and chunks": chunked(WORDS, more=b"Content-Length: 3\r\n"),
        # -- chunks
        "chunks": chunked(WORDS, WORDS),
        "chunks of a form": chunked(b"a=1&", b"b=2", content_type=FORM),
        "chunks of a multipart form": chunked(
            multipart(field(b"a", b"1")), content_type=MULTIPART
        ),
        "chunks with trailers": chunked(
            WORDS, end=b"0\r\nX-Trailer: 1\r\nContent-Length: 3\r\n\r\n"
        ),
        "chunks of 1.4 MB": chunked(*[WORDS * 1000] * 60),
        "chunks of a large file": chunked(
            multipart(field(b"f", large, FILE)), content_type=MULTIPART
        ),
        "no last chunk": chunked(WORDS, end=b""),
        "half a chunk": chunked(WORDS, end=b"ff\r\nhalf"),
        "half a large chunk": chunked(large, end=b"ffffff\r\nhalf"),
        "a chunk's size that is none": chunked(WORDS, end=b"zz\r\nhalf\r\n0\r\n\r\n"),
        "a chunk of 2**64": chunked(WORDS, end=b"ffffffffffffffff\r\nx\r\n0\r\n\r\n"),
        "a chunk with an extension": chunked(end=b"4;a=b\r\nbody\r\n0\r\n\r\n"),
        "gzip, chunked": post(
            b"4\r\nbody\r\n0\r\n\r\n",
            length=None,
            more=b"Transfer-Encoding: gzip, chunked\r\n",
        ),
        "identity": post(WORDS, more=b"Transfer-Encoding: identity\r\n"),
        # -- clients that hang up
        "hangs up in the body": post(WORDS, length=4000, ends="close"),
        "resets in the body": post(WORDS, length=4000, ends="reset"),
        "hangs up in a form": post(b"a=1&b", FORM, length=4000, ends="close"),
        "hangs up in a multipart form": post(
            multipart(field(b"a", b"1"), end=b""), MULTIPART, length=9000, ends="close"
        ),
        "resets in a large file": post(
            multipart(field(b"f", large, FILE), end=b""),
            MULTIPART,
            length=3_000_000,
            ends="reset",
        ),
        "hangs up in a large body": post(large, length=3_000_000, ends="close"),
        "hangs up in chunks": chunked(WORDS, end=b"ff\r\nhalf", ends="close"),
        "resets in large chunks": chunked(large, end=b"ff\r\nhalf", ends="reset"),
        "expects to continue": post(WORDS, more=b"Expect: 100-continue\r\n"),
        # -- connections that stay open, with a second request behind the body
        "kept open": kept(post(WORDS)),
        "kept open, a body of 1.4 MB": kept(post(large)),
        "kept open, shorter than it says": kept(post(WORDS, length=4000)),
        "kept open, longer than it says": kept(post(WORDS, length=10)),
        "kept open, a form": kept(post(b"a=1&b=2", FORM)),
        "kept open, chunks": kept(chunked(WORDS, WORDS)),
        "kept open, chunks of 100 KB": kept(
            chunked(*[WORDS * 100] * 43)._replace(long=True)
        ),
        "kept open, chunks of 1.4 MB": kept(chunked(*[WORDS * 1000] * 60)),
        "kept open, chunks with trailers": kept(
            chunked(WORDS, end=b"0\r\nX-Trailer: 1\r\n\r\n")
        ),
        "kept open, broken trailers": kept(
            chunked(WORDS, end=b"0\r\nX-Trailer: 1\r\nContent-Length: 3\r\n\r\n")
        ),
        "kept open, a chunk's size that is none": kept(
            chunked(WORDS, end=b"zz\r\nhalf\r\n0\r\n\r\n")
        ),
        "kept open, a chunk without an end": kept(
            chunked(WORDS, end=b"4\r\nhalf0\r\n\r\n")
        ),
        # -- cookies
        "a cookie that is none": get(more=b"Cookie: ;;;=;a;=b;\x01\r\n"),
        "bytes in a cookie": get(more=b'Cookie: a="\xff\\377"; b=%ff\r\n'),
        "a forged session": get(more=b"Cookie: session=eyJhIjoxfQ.aaaa.bbbb\r\n"),
        "a session of dots": get(more=b"Cookie: session=.......\r\n"),
        "a session of 30 KB": get(more=b"Cookie: session=." + b"x" * 30_000 + b"\r\n"),
        "a cookie of 80 KB": get(more=b"Cookie: a=" + b"x" * 80_000 + b"\r\n"),
        # -- methods, paths, hosts
        "a nul in the path": get(b"/a%00b"),
        "a raw nul in the path": get(b"/a\x00b"),
        "bytes in the path": get(b"/%ff%fe/%c3%28"),
        "raw bytes in the path": get(b"/\xff\xc3\xa9"),
        "a path of 70 KB": get(b"/" + b"a" * 70_000),
        "a path upwards": get(b"/../..//etc/passwd;a=b"),
        "an absolute target": get(b"http://evil.example/x"),
        "line ends in the path": get(b"/a%0d%0aSet-Cookie:%20a=b"),
        "bytes in the query": Case(
            b"GET /?TARGET&a=%ff&b=\xff&%00=1&=&& HTTP/1.1\r\nHost: h\r\n"
            b"Connection: close\r\n\r\n"
        ),
        "no host": Case(b"GET /?TARGET HTTP/1.0\r\n\r\n"),
        "two hosts": get(more=b"Host: evil.example\r\n"),
        "a host that is none": get(host=b"a b/c?d#e@f"),
        "a host of brackets": get(host=b"[::1"),
        "a host of bytes": get(host=b"\xff\xfe.example"),
        "a host of 300 letters": get(host=b"a" * 300),
        "a port that is none": get(host=b"shop.example:99999999"),
        "forwarded headers": get(
            more=b"X-Forwarded-For: ,,\r\nX-Forwarded-Proto: javascript\r\n"
        ),
        "an Authorization that is none": get(
            more=b"Authorization: Basic \xff\xff==\r\n"
        ),
        "a Range that is none": get(more=b"Range: bytes=9999999999999999999-\r\n"),
    }
    for method in (
        b"FOO",
        b"get",
        b"M-SEARCH",
        b"TRACE",
        b"X" * 200,
        b"G\xffT",
        b"PRI",
    ):
        name = f"the method {method[:12].decode('latin-1')}"
        found[name] = post(WORDS, method=method)
    return found


class Answer(t.NamedTuple):
    """What a client got and what the view saw."""

    response: bytes
    records: list[dict[str, t.Any]]


def exchange(server: Server, case: Case, target: bytes) -> bytes:
    """Send, and read all that comes back, without the date."""
    raw = case.raw.replace(b"TARGET", target, 1)
    with socket.create_connection(server.address, timeout=20) as client:
        received = b""
        # A server that has heard enough closes its end.
        with contextlib.suppress(OSError):
            client.sendall(raw)
            if case.ends == "close":
                return b""
            if case.ends == "reset":
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return b""
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while chunk := client.recv(65536):
                received += chunk
    return re.sub(rb"Date: [^\r]*", b"Date: now", received)


def compare(pair: Pair, case: Case, target: bytes) -> tuple[list[Answer], list[str]]:
    """The same bytes to the server without and the one with capture."""
    responses = [exchange(server, case, target) for server in pair]
    records: list[list[dict[str, t.Any]]] = [[], []]
    # A view whose client has gone ends in its own time, or was never called.
    deadline = time.monotonic() + (0.4 if case.ends != "half" else 0.02)
    while True:
        for index, server in enumerate(pair):
            records[index] += server.new_records()
        waiting = len(records[0]) != len(records[1]) and not case.long
        limit = deadline + 5 if waiting else deadline
        if (not waiting and records[0]) or time.monotonic() > limit:
            break
        time.sleep(0.01)
    answers = [Answer(*both) for both in zip(responses, records, strict=True)]
    return answers, problems_of(answers, case)


def as_reading_it(server: Server, case: Case, answer: Answer) -> list[str]:
    """Where a body breaks off, capturing raises what reading raises, in any way."""
    broken = {record["broken"] for record in answer.records if record["broken"]}
    errors = set()
    for way in (b"data", b"stream"):
        exchange(server, case, b"way=%s&when=after" % way)
        deadline = time.monotonic() + 5
        while not (records := server.new_records()) and time.monotonic() < deadline:
            time.sleep(0.01)
        errors |= {record.get("error") for record in records}
    return [f"{name} where reading raises {errors}" for name in broken - errors]


def differs_afterwards(answers: list[Answer], case: Case) -> bool:
    """Whether only the server differs, after the view's answer, in what it does with a
    connection whose body the capture alone has read: it closes it where it would have
    answered 400 of its own to the broken rest, or goes on where it would have closed."""
    (before, first), (after, second) = answers
    if case.long and first and second and before != after:
        served = after.count(b"HTTP/1.1 ")
        return after.startswith(before) and served == len(second) == 2
    rest = before.removeprefix(after) if after and before.startswith(after) else b""
    return rest.startswith(b"HTTP/1.1 400 ") and rest.count(b"HTTP/1.1 ") == 1


def problems_of(answers: list[Answer], case: Case) -> list[str]:
    without, with_capture = answers
    problems = []
    if differs_afterwards(answers, case):
        # After a long body, the second request is served only with capture.
        served = len(without.records) if case.long else None
        with_capture = Answer(without.response, with_capture.records[:served])
    if without.response != with_capture.response:
        found = f"{without.response[:400]!r} became {with_capture.response[:400]!r}"
        problems.append(f"the client got {found}")
    seen = [
        [{**r, "refused": None, "broken": None} for r in a.records]
        for a in (without, with_capture)
    ]
    if seen[0] != seen[1]:
        problems.append(f"the view saw {seen[1]} in place of {seen[0]}")
    problems += [
        f"an error that is not documented: {record['refused']}"
        for record in with_capture.records
        if record["refused"] and not TOO_LARGE.fullmatch(record["refused"])
    ]
    return problems


class Tally:
    def __init__(self) -> None:
        self.requests = self.reached = self.errors = self.refused = 0
        self.afterwards = self.broken = 0
        self.problems: list[str] = []

    def add(self, name: str, case: Case, target: str, pair: Pair) -> None:
        answers, problems = compare(pair, case, target.encode())
        if any(record["broken"] for record in answers[1].records):
            problems = as_reading_it(pair[0], case, answers[1])
            self.broken += 1
        self.requests += 1
        self.afterwards += differs_afterwards(answers, case)
        records = answers[1].records
        self.reached += bool(records)
        self.errors += any("error" in record for record in records)
        self.refused += any(record["refused"] for record in records)
        self.problems += [f"{name}: {problem}" for problem in problems]


@contextlib.contextmanager
def serving(kind: str) -> t.Iterator[Pair]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        servers = []
        for captures in (False, True):
            servers.append(Server(kind, captures, Path(name)))
            stack.callback(servers[-1].stop)
        yield servers[0], servers[1]


def targets() -> list[str]:
    return [
        f"way={way}&when={when}"
        for way in WAYS
        for when in (("middle",) if way == "half" else TIMES)
    ]


def every_case(
    kind: str,
    every: int = 1,
    names: t.Container[str] | None = None,
    progress: t.Callable[[float], None] = lambda done: None,
) -> Tally:
    """Each case, read in each way (or in every n-th)."""
    tally = Tally()
    found = {n: case for n, case in cases().items() if names is None or n in names}
    tried = [(name, target) for name in found for target in targets()][::every]
    with serving(kind) as pair:
        for name, target in tried:
            tally.add(f"{name}, {target}", found[name], target, pair)
            progress(1 / len(tried))
    return tally


def mutations(
    kind: str,
    count: int,
    seed: int = 1,
    progress: t.Callable[[float], None] = lambda done: None,
) -> Tally:
    """Cases with some of their bytes exchanged."""
    rng, tally = random.Random(seed), Tally()
    small = [case for case in cases().values() if len(case.raw) < 10_000]
    with serving(kind) as pair:
        for _ in range(count):
            case = rng.choice(small)
            target = rng.choice(targets())
            raw = bytearray(case.raw)
            for _ in range(rng.choice((1, 1, 2, 5))):
                at = rng.randrange(len(raw))
                # The query stays, which says what the view has to do.
                if not 0 <= at - case.raw.find(b"TARGET") < 6:
                    raw[at] = rng.choice(b"\x00\r\n :;=-09aZ%\xff" + bytes(raw[-1:]))
            tally.add(repr(bytes(raw[:300])), Case(bytes(raw)), target, pair)
            progress(1 / count)
    return tally


#: Of every how many cases one is tried, and how many mutations there are.
SCALES = {"brief": (5, 100), "short": (1, 400), "long": (1, 5_000)}
NOTE = (
    "The same bytes to two servers, whose views differ in one `delay_with_context`: the"
    " answers are equal to the last header, and so is what the views saw. `reached`"
    " counts those that the server let through to the view, `errors` the views that"
    " failed, `broken` those in which the capture raised what reading the body raises,"
    " `refused` the `CaptureError` of a request over the size limit,"
    " `afterwards` the connections that the server, after the same answer, closed without"
    " its own 400 to a broken body, or kept open after a long one, as it does when a view"
    " has read of the body."
)


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("requests", NOTE)
    every, count = SCALES[scale]

    def quarter(done: float) -> None:
        progress(done / 4)

    for kind in SERVERS:
        for name, tally in (
            ("cases", every_case(kind, every, progress=quarter)),
            ("mutations", mutations(kind, count, progress=quarter)),
        ):
            report.add(
                "requests",
                f"{kind}, {name}",
                tally.problems,
                requests=tally.requests,
                reached=tally.reached,
                errors=tally.errors,
                refused=tally.refused,
                afterwards=tally.afterwards,
                broken=tally.broken,
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.hostile_requests")
    parser.add_argument("--count", type=int, default=300, help="of mutations")
    parser.add_argument("--every", type=int, default=1, help="one of how many cases")
    options = parser.parse_args()
    problems = []
    for kind in SERVERS:
        for name, tally in {
            "cases": every_case(kind, options.every),
            "mutations": mutations(kind, options.count),
        }.items():
            print(
                f"{kind:9} {name:10} {tally.requests:,} requests, {tally.reached:,}"
                f" reached the view, {tally.errors:,} failed there, {tally.refused:,}"
                f" were too large, {tally.afterwards:,} differed after the answer,"
                f" {len(tally.problems)} problems"
            )
            problems += tally.problems
    print(*(problem[:1500] for problem in problems[:40]), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
