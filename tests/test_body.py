"""The body at every stage: the view keeps it, the task has it or hears why not."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import socket
import subprocess
import sys
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from flask import request
from werkzeug.datastructures import FileStorage
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import make_server

from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import restore_context
from tests.observed import chunked
from tests.observed import multipart
from tests.observed import show
from tests.observed import show_file

# Werkzeug leaves its files open where it gives a form up half-way.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled")
LIMIT = 4096
FIELD = 'Content-Disposition: form-data; name="{}"'
FILE = FIELD + '; filename="{}.bin"\r\nContent-Type: application/x-thing'
FORM_DATA = "multipart/form-data; boundary=b0undary"
FORM = "application/x-www-form-urlencoded"

#: Content type and body, below and above the limit.
SMALL = {
    "text": ("text/plain", b"one\ntwo\r\nthree"),
    "bytes": ("application/octet-stream", bytes(range(256))),
    "json": ("application/json", b'{"a": [1, 2]}'),
    "urlencoded": (FORM, b"a=1&b=2&a=3"),
    "multipart": (
        FORM_DATA,
        multipart(
            "b0undary",
            (FIELD.format("a"), b"1"),
            (FILE.format("f", "one"), b"\0 1 2\n3"),
            (FIELD.format("a"), b"2"),
            (FILE.format("f", "two"), b""),
        ),
    ),
    "broken multipart": (FORM_DATA, b"--b0undary\r\nnonsense"),
    "broken json": ("application/json", b'{"a": '),
    "empty": ("text/plain", b""),
}
LARGE = {
    "large text": ("text/plain", b"0123456789abcde\n" * 1000),
    "large json": ("application/json", json.dumps(["ü"] * 2000).encode()),
    "large urlencoded": (FORM, b"&".join(b"a=%d" % n for n in range(2000))),
    "large multipart": (
        FORM_DATA,
        multipart(
            "b0undary",
            (FIELD.format("a"), b"1"),
            (FILE.format("photo", "large"), bytes(range(256)) * 100),
            (FIELD.format("a"), "zwölf".encode()),
            (FILE.format("note", "small"), b"small"),
        ),
    ),
    "spooled multipart": (
        FORM_DATA,
        multipart(
            "b0undary",
            (FILE.format("photo", "large"), b"0123456789abcdef" * 2**16),
            (FIELD.format("a"), b"1"),
        ),
    ),
    "large broken multipart": (FORM_DATA, b"--b0undary\r\nnonsense" * 1000),
}
BODIES = SMALL | LARGE


def half_of_files() -> list[bytes]:
    return [file.read(3) for file in request.files.values()]


#: What a view may have done with the body before it captures.
STAGES: dict[str, t.Callable[[], t.Any]] = {
    "untouched": lambda: None,
    "data": lambda: request.data,
    "get_data": lambda: request.get_data(),
    "json": lambda: request.get_json(silent=True),
    "form": lambda: request.form,
    "half of files": half_of_files,
    "stream": lambda: bool(request.stream),
    "half of stream": lambda: request.stream.read(5),
    "all of stream": lambda: request.stream.read(),
}
#: What it, or the task, may do then.
USES: dict[str, t.Callable[[], t.Any]] = {
    "data": lambda: request.data,
    "get_data": lambda: request.get_data(),
    "get_data twice": lambda: [request.get_data(), request.get_data()],
    "get_data as text": lambda: request.get_data(as_text=True),
    "get_data uncached": lambda: request.get_data(cache=False),
    "get_data parsed": lambda: [request.get_data(parse_form_data=True), request.form],
    "get_data, then form": lambda: [request.get_data(), request.form],
    "form, then get_data": lambda: [request.form, request.get_data()],
    "form": lambda: request.form,
    "values": lambda: request.values,
    "files": lambda: request.files,
    "positions": lambda: [file.stream.tell() for file in request.files.values()],
    "rest of files": lambda: [file.read() for file in request.files.values()],
    "json": lambda: request.json,
    "forced json": lambda: request.get_json(force=True, silent=True),
    "stream": lambda: request.stream.read(),
    "stream in parts": lambda: [request.stream.read(3), request.stream.read()],
    "stream by lines": lambda: [request.stream.readline(), *request.stream],
    "stream into": lambda: read_into(bytearray(7)),
    "stream, then data": lambda: [request.stream.read(7), request.get_data()],
}


def read_into(buffer: bytearray) -> bytes:
    count = request.stream.readinto(buffer)  # type: ignore[attr-defined]
    return bytes(buffer[:count])


# -- a server whose view does what the test says ------------------------------


class QuietHandler(WSGIRequestHandler):
    def log(self, *args: t.Any) -> None:
        """Nothing."""


class Place:
    """An app on Werkzeug's server, which hands the socket's own bytes to it."""

    def __init__(self) -> None:
        self.app = make_app()
        self.server = make_server(
            "127.0.0.1", 0, self.run, request_handler=QuietHandler
        )
        self.app.add_url_rule("/", "view", self.view, methods=["POST"])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        self.todo: t.Callable[[], t.Any] = str
        self.done = threading.Event()
        self.seen: t.Any = None

    def run(self, environ: dict[str, t.Any], start: t.Any) -> t.Any:
        return self.app(environ, start)

    def view(self) -> str:
        try:
            self.seen = self.todo()
        finally:
            self.done.set()
        return "ok"

    def visit(self, data: bytes, todo: t.Callable[[], t.Any]) -> t.Any:
        """Send the bytes, and then no more; give what the view's part gave."""
        self.todo, self.seen = todo, None
        self.done.clear()
        address = ("127.0.0.1", self.server.server_port)
        with socket.create_connection(address, timeout=30) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            assert self.done.wait(30)
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass
        return self.seen


def make_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("bodies")
    app.config.update(
        SECRET_KEY="bodies",
        TASK_CONTEXT_MAX_SIZE=LIMIT,
        TASK_CONTEXT_EXCLUDE=[],
        **config,
    )
    return app


@pytest.fixture(scope="module")
def running() -> Iterator[Place]:
    place = Place()
    yield place
    place.server.shutdown()
    place.thread.join(10)
    place.server.server_close()


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    yield running
    gc.collect()
    for key in ("MAX_CONTENT_LENGTH", "MAX_FORM_MEMORY_SIZE", "MAX_FORM_PARTS"):
        running.app.config.pop(key, None)
    running.app.config.update(make_app().config)


def wire(content_type: str, body: bytes, length: str = "known") -> bytes:
    """A request's bytes, its body in chunks where the length is not known."""
    head = f"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Type: {content_type}\r\n"
    if length == "no body":
        return f"{head}\r\n".encode()
    if length == "known":
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(body, 1000)


def outcome(use: t.Callable[[], t.Any]) -> t.Any:
    """What it gives, or the error, in a form that compares."""
    try:
        return shown(use())
    except LeftOut as error:
        return ["left out", str(error)]
    except (HTTPException, OSError, ValueError) as error:
        return [type(error).__name__, str(error)]


def shown(value: t.Any) -> t.Any:
    if isinstance(value, ImmutableMultiDict) and value:
        pairs = value.items(multi=True)
        return [[name, outcome(lambda part=part: part)] for name, part in pairs]
    return show_file(value) if isinstance(value, FileStorage) else show(value)


def in_task(
    headers: dict[str, str], use: t.Callable[[], t.Any], app: flask.Flask | None = None
) -> t.Any:
    with restore_context(headers, app or make_app()):
        return outcome(use)


# -- at every stage -----------------------------------------------------------


@functools.cache
def seen_without_capture(place: Place, kind: str, stage: str, length: str) -> t.Any:
    """What each use gives at that stage, each on a request of its own."""
    return {
        name: place.visit(wire(*BODIES[kind], length), lambda use=use: act(stage, use))
        for name, use in USES.items()
    }


def act(stage: str, use: t.Callable[[], t.Any], captures: int = 0) -> t.Any:
    outcome(STAGES[stage])
    for _ in range(captures):
        capture_context()
    return outcome(use)


#: Every pair of a body, a stage and a length; the rest is thorough.
GRID = [
    pytest.param(kind, stage, length, marks=[pytest.mark.thorough] * ((i + j + k) % 2))
    for i, kind in enumerate(BODIES)
    for j, stage in enumerate(STAGES)
    for k, length in enumerate(["known", "unknown"])
]


@pytest.mark.parametrize(("kind", "stage", "length"), GRID)
def test_the_view_can_do_all_that_it_could(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """Two captures at any stage change nothing of what the view reads then."""
    data = wire(*BODIES[kind], length)
    expected = seen_without_capture(place, kind, stage, length)
    for name, use in USES.items():
        seen = place.visit(data, lambda use=use: act(stage, use, captures=2))
        assert (name, seen) == (name, expected[name])


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("kind", ["json", "large json"])
@pytest.mark.parametrize("stage", ["untouched", "stream"])
def test_a_view_sends_a_thousand_tasks_before_it_reads(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """As many captures as Python has frames leave the body where it is."""
    data = wire(*BODIES[kind], length)
    captures = sys.getrecursionlimit() + 100
    seen = place.visit(data, lambda: act(stage, request.get_data, captures))
    assert seen == seen_without_capture(place, kind, stage, length)["get_data"]


@pytest.mark.parametrize(("kind", "stage", "length"), GRID)
def test_the_task_has_the_body_or_hears_why_not(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """The task reads what the view reads or could have read, or a ``LeftOut`` says
    why not; it never reads less in silence."""
    data = wire(*BODIES[kind], length)
    headers = place.visit(data, lambda: [act(stage, str), capture_context()])[1]
    could = [seen_without_capture(place, kind, s, length) for s in ("untouched", stage)]
    incomplete = kind in LARGE or stage in READ or (length, stage) in TOUCHED
    for name, use in USES.items():
        seen = in_task(headers, use)
        if incomplete and "left out" in json.dumps(seen):
            continue
        assert (name, seen) in [(name, seen_in_view[name]) for seen_in_view in could]


BEGUN = r"had begun to read it from request\.stream"
#: The view has taken what it read from the stream, and nobody else has it.
READ = ("half of stream", "all of stream")
#: Without a length nobody can tell whether it has.
TOUCHED = [("unknown", stage) for stage in ("stream", "form", "half of files")]


# -- left out is loud ---------------------------------------------------------

NO_ROOM = (
    r"The {} \({}\) did not travel with the task: it does not fit into"
    r" TASK_CONTEXT_MAX_SIZE\. Store it in the view and pass its key to the task\."
)


def captured_at(
    place: Place, *stages: str, kind: str, length: str = "known"
) -> dict[str, str]:
    """What the view captures last; it captures after each stage."""
    data = wire(*BODIES[kind], length)
    seen = place.visit(data, lambda: [[act(s, str), capture_context()] for s in stages])
    return t.cast("dict[str, str]", seen[-1][1])


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("stage", ["form", "half of files"])
@pytest.mark.parametrize("kind", ["large multipart", "spooled multipart"])
def test_a_large_file_is_left_out_loudly_and_the_fields_are_there(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """Of a form over the limit that the view has parsed, the fields, the small files and
    the names are there; touching a large file says what is missing, how large it is, and what to do."""
    headers = captured_at(place, stage, kind=kind, length=length)
    size = 25600 if kind == "large multipart" else 1 << 20
    missing = NO_ROOM.format("uploaded file 'photo'", f"{size} bytes")
    with restore_context(headers, make_app()):
        photo = request.files["photo"]
        assert (photo.filename, photo.mimetype) == ("large.bin", "application/x-thing")
        for touch in (photo.read, photo.stream.readline, lambda: photo.save("/none")):
            with pytest.raises(LeftOut, match=missing):
                touch()
        with pytest.raises(LeftOut, match=missing):
            list(photo.stream)
        if kind == "large multipart":
            assert request.form.getlist("a") == ["1", "zwölf"]
            assert request.files["note"].read() == b"small"
        else:
            assert request.form.getlist("a") == ["1"]


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("stage", ["untouched", "data", "json"])
@pytest.mark.parametrize(
    "kind", ["large text", "large json", "large urlencoded", "large multipart"]
)
def test_a_large_body_is_left_out_loudly(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """Each way to read a body that did not travel raises, and says what to do."""
    headers = captured_at(place, stage, kind=kind, length=length)
    # get_data() has counted what came without a length; a parsed form has not.
    read = {"large text": ("data",), "large json": ("data", "json")}.get(kind, ())
    if kind == "large multipart" and stage == "data":
        pytest.skip("request.data parses a form, which travels then")
    counted = length == "known" or stage in read
    size = f"{len(BODIES[kind][1])} bytes" if counted else "of unknown size"
    touches: list[t.Callable[[], t.Any]] = [
        lambda: request.data,
        lambda: request.get_data(),
        lambda: request.get_json(force=True, silent=True),
        lambda: request.stream.read(),
        lambda: request.stream.read(1),
        lambda: request.stream.readline(),
        lambda: list(request.stream),
    ]
    if kind in ("large urlencoded", "large multipart"):
        touches += [lambda: request.form["a"], lambda: request.values["a"]]
    for touch in touches:
        with (
            restore_context(headers, make_app()),
            pytest.raises(LeftOut, match=NO_ROOM.format("request body", size)),
        ):
            touch()


def test_a_body_that_the_view_took_from_the_stream_is_left_out_loudly(
    place: Place,
) -> None:
    """What a view has read from the stream the task is told of, not given in part, also
    where an earlier task had all of it."""
    for earlier in ((), ("stream",)):
        for stage in READ:
            for length in ("known", "unknown"):
                headers = captured_at(
                    place, *earlier, stage, kind="text", length=length
                )
                with (
                    restore_context(headers, make_app()),
                    pytest.raises(LeftOut, match=BEGUN),
                ):
                    request.get_data()


def test_a_request_that_announces_no_body_has_none_for_the_task(place: Place) -> None:
    """It is empty, and not left out, whatever the view has tried to read of it."""
    for stage in STAGES:
        headers = captured_at(place, stage, kind="empty", length="no body")
        for name, use in USES.items():
            seen = in_task(headers, use)
            expected = seen_without_capture(place, "empty", stage, "known")[name]
            assert (stage, name, seen) == (stage, name, expected)


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("large text", "untouched"),
        ("large json", "untouched"),
        ("large multipart", "form"),
    ],
)
def test_a_task_that_captures_again_passes_on_what_was_left_out(
    place: Place, kind: str, stage: str, length: str
) -> None:
    """Captured again in a task, touched or not, the marks are still as loud."""
    headers = captured_at(place, stage, kind=kind, length=length)
    for touch in (str, lambda: request.form, lambda: [request.form, request.files]):
        with restore_context(headers, make_app()):
            touch()
            again = capture_context()
        for name, use in USES.items():
            assert (name, in_task(again, use)) == (name, in_task(headers, use))


def test_a_body_captured_again_in_a_task_is_whole(place: Place) -> None:
    """A task's own capture carries the body that came with it."""
    for kind in SMALL:
        headers = captured_at(place, "untouched", kind=kind)
        for name, use in USES.items():
            with restore_context(headers, make_app()):
                again = capture_context()
                expected = outcome(use)
            assert (kind, name, in_task(again, use)) == (kind, name, expected)


@pytest.mark.parametrize("size", [20_000, 40_000, 47_000, 60_000])
@pytest.mark.parametrize("stage", ["untouched", "get_data", "form"])
def test_a_form_that_fits_as_a_whole_keeps_its_fields(stage: str, size: int) -> None:
    """Also where its bytes, as they stand in the header, are longer than the limit: then
    these are left out, and not empty, in that task and the next."""
    app = flask.Flask("forms")
    app.secret_key = "forms"
    body = multipart(
        "b0undary",
        (FIELD.format("a"), b"1"),
        (FILE.format("photo", "large"), b"\xff" * size),
        (FIELD.format("b"), b"2"),
    )
    with app.test_request_context(
        "/", method="POST", data=body, content_type=FORM_DATA
    ):
        STAGES[stage]()
        headers = capture_context()
    with restore_context(headers, app):
        assert request.form.to_dict() == {"a": "1", "b": "2"}
        photo = request.files["photo"]
        if size < 47_000:
            assert photo.read() == b"\xff" * size
        elif size > 50_000:
            with pytest.raises(LeftOut, match=f"'photo' \\({size} bytes\\)"):
                photo.read()
    with restore_context(headers, app):
        again = capture_context()
        seen = outcome(request.get_data)
    assert in_task(again, lambda: request.get_data(), app) == seen
    if stage != "form" and size < 47_000:
        assert seen == show(body)
    elif stage != "form" and size > 50_000:
        assert seen[0] == "left out"
        assert "only its form did" in seen[1]


# -- requests that go wrong ---------------------------------------------------


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("kind", ["text", "urlencoded", "multipart", "large multipart"])
def test_a_client_that_hangs_up(place: Place, kind: str, length: str) -> None:
    """Where the client hangs up in its body, capturing raises what reading it raises;
    where it does not, the view reads the same, and the task never takes a part for the
    whole."""
    data = wire(*BODIES[kind], length)
    data = data[: -len(BODIES[kind][1]) // 2]
    broken = place.visit(data, lambda: act("untouched", USES["data"]))[0]
    assert broken in ("ClientDisconnected", "OSError")

    def tried(todo: t.Callable[[], t.Any]) -> t.Any:
        try:
            return todo()
        except (HTTPException, OSError) as error:
            return [type(error).__name__]

    for stage in ("untouched", "data", "form"):
        for name in ("data", "get_data", "form", "files", "stream", "json"):
            use = USES[name]
            expected = place.visit(data, lambda: act(stage, use))  # noqa: B023
            seen = place.visit(data, lambda: tried(lambda: act(stage, use, captures=1)))  # noqa: B023
            assert seen in (expected, [broken])
        captured = place.visit(
            data,
            lambda: tried(lambda: [act(stage, str), capture_context()]),  # noqa: B023
        )
        if captured != [broken]:
            seen = in_task(captured[1], USES["get_data"])
            whole = place.visit(data, lambda: act(stage, USES["get_data"]))  # noqa: B023
            assert seen[0] == "left out" or seen == whole, stage
        # Of a large body no more is read than would fit.
        large = kind.startswith("large")
        assert stage != "untouched" or large or captured == [broken]


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize(
    "config",
    [
        {"MAX_CONTENT_LENGTH": 20},
        {"MAX_CONTENT_LENGTH": 5000},
        {"MAX_FORM_MEMORY_SIZE": 3},
        {"MAX_FORM_PARTS": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "kind", ["bytes", "urlencoded", "multipart", "large multipart"]
)
def test_a_body_over_flasks_own_limits(
    place: Place, kind: str, config: dict[str, int], length: str
) -> None:
    """What Flask refuses to the view it still refuses after a capture, with the same
    error, and the task has it no more than the view."""
    place.app.config.update(config)
    data = wire(*BODIES[kind], length)
    # The second one meets what the first has put back.
    captured = place.visit(data, lambda: [capture_context(), capture_context()])
    for name in ("data", "get_data", "form", "files", "values", "stream"):
        use = USES[name]
        expected = place.visit(data, lambda: act("untouched", use))  # noqa: B023
        seen = place.visit(data, lambda: act("untouched", use, captures=2))  # noqa: B023
        assert (name, seen) == (name, expected)
        for headers in captured:
            task = in_task(headers, use, make_app(**config))
            assert task == expected or "left out" in json.dumps(task)
    # A task whose app has other limits gets all or nothing.
    for headers in captured:
        seen = in_task(headers, USES["get_data"])
        assert seen == shown(BODIES[kind][1]) or seen[0] == "left out"


# -- memory -------------------------------------------------------------------

UPLOAD = """
import io, json, pathlib, sys
import flask
from werkzeug.serving import WSGIRequestHandler, make_server
from flask_task_context import capture_context

app = flask.Flask("upload")
app.config["SECRET_KEY"] = "upload"
stage = sys.argv[1]

def peak():
    # Not getrusage's: that begins with the peak of the process that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

@app.post("/")
def upload():
    if stage == "untouched":
        capture_context()
    file = flask.request.files["file"]
    if stage == "parsed":
        capture_context()
    size = 0
    while chunk := file.read(1 << 16):
        size += len(chunk)
    if stage == "read":
        capture_context()
    return [size, flask.request.form["name"], peak()]

WSGIRequestHandler.log = lambda *args: None
server = make_server("127.0.0.1", 0, app)
warm = {"file": (io.BytesIO(b"warm"), "x")}
with app.test_request_context("/", method="POST", data=warm):
    capture_context()
print(server.server_port, flush=True)
server.handle_request()
"""
MEGABYTES = 64
STATUS = Path("/proc/self/status")


def peak_of_upload(stage: str, length: str) -> int:
    """The server's peak memory in KiB after one large upload."""
    with subprocess.Popen(
        [sys.executable, "-c", UPLOAD, stage], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = ("127.0.0.1", int(server.stdout.readline()))
        with socket.create_connection(address, timeout=60) as connection:
            for piece in pieces_of_upload(length):
                connection.sendall(piece)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    size, name, peak = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (size, name) == (MEGABYTES << 20, "large")
    return t.cast("int", peak)


def pieces_of_upload(length: str) -> Iterator[bytes]:
    whole = multipart("b0undary", (FIELD.format("name"), b"large"))
    file = multipart("b0undary", (FILE.format("file", "x"), b""))
    start, end = file[: -len(b"\r\n--b0undary--\r\n")], b"\r\n--b0undary--\r\n"
    start = whole[: -len(b"--b0undary--\r\n")] + start
    size = len(start) + (MEGABYTES << 20) + len(end)
    head = f"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Type: {FORM_DATA}\r\n"
    known = length == "known"
    fields = f"Content-Length: {size}" if known else "Transfer-Encoding: chunked"
    yield f"{head}{fields}\r\n\r\n".encode()
    for piece in (start, *[b"0123456789abcdef" * 2**16] * MEGABYTES, end):
        yield piece if known else b"%x\r\n%b\r\n" % (len(piece), piece)
    if not known:
        yield b"0\r\n\r\n"


@pytest.mark.thorough
@pytest.mark.skipif(not STATUS.exists(), reason="no /proc: no peak of one process")
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_capturing_a_large_upload_takes_no_memory(length: str) -> None:
    """An upload that is captured costs an eighth of it at most over the view's own peak."""
    alone = peak_of_upload("never", length)
    for stage in ("untouched", "parsed", "read"):
        assert peak_of_upload(stage, length) - alone < MEGABYTES * 128, stage
