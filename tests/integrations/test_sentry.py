"""sentry-sdk: one trace from the view to the task, and what its events hold."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import typing as t

import brotli
import pytest

from tests.integrations.conftest import ONE_PROCESS
from tests.integrations.conftest import Open

# Flask-Compress brings Brotli, and sentry-sdk then takes it.
UNPACK = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}


class Envelopes:
    """What the envelope endpoint of a Sentry server has taken."""

    def __init__(self) -> None:
        self.taken: list[dict[str, t.Any]] = []
        self.arrived = threading.Condition()

    def take(self, envelope: bytes) -> None:
        lines = envelope.split(b"\n")
        with self.arrived:
            self.taken += [json.loads(line) for line in lines[2::2] if line]
            self.arrived.notify_all()

    def wait_for(
        self, fits: t.Callable[[dict[str, t.Any]], bool], count: int = 1
    ) -> t.Any:
        def found() -> list[dict[str, t.Any]]:
            return [item for item in self.taken if fits(item)]

        with self.arrived:
            assert self.arrived.wait_for(lambda: len(found()) >= count, 30), self.taken
            return found()


@pytest.fixture
def envelopes() -> t.Iterator[tuple[Envelopes, str]]:
    """The endpoint, and the DSN that leads to it."""
    envelopes = Envelopes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            envelopes.take(UNPACK[self.headers["Content-Encoding"]](body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: t.Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield envelopes, f"http://key@127.0.0.1:{server.server_port}/1"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_one_trace_and_one_request(
    open_apart: Open, envelopes: tuple[Envelopes, str], first: bool
) -> None:
    """Whichever is imported first, the view's trace and its request are in the task,
    in its retries and in what it sends, and the user's own headers stay."""
    taken, dsn = envelopes
    site = open_apart("sentry", *ONE_PROCESS, DSN=dsn, FIRST=first)
    answer = site.post("/parent?a=1", headers={"Host": "anna.example"}).json()
    url = "http://anna.example/parent?a=1"
    seen = {"trace": answer["trace"], "url": url, "mine": "1"}
    child = {**seen, "mine": None}
    assert answer["task"] == {**seen, "child": child}
    names = ["ask", "parent", "retried", "retried", "retried"]
    transactions = taken.wait_for(lambda item: item.get("type") == "transaction", 5)
    assert sorted(item["transaction"] for item in transactions) == names
    traces = {item["contexts"]["trace"]["trace_id"] for item in transactions}
    assert traces == {answer["trace"]}


def test_an_error_event_shows_nothing_of_the_context(
    open_apart: Open, envelopes: tuple[Envelopes, str]
) -> None:
    """The event of a failed task has the trace, and in the variables of its frames
    neither headers, nor session, nor form of the visitor, nor what an app keeps of them
    in context variables, which Python 3.14 and later would write out."""
    taken, dsn = envelopes
    site = open_apart("sentry", *ONE_PROCESS, DSN=dsn, FIRST=False)
    answer = site.post(
        "/fail", data={"a": "canary-form"}, headers={"X-Canary": "canary-header"}
    ).json()
    assert answer["task"] == f"no pears in {site.url.removeprefix('http://')}"
    [event] = taken.wait_for(lambda item: "exception" in item)
    assert event["contexts"]["trace"]["trace_id"] == answer["trace"]
    [error] = event["exception"]["values"]
    frames = error["stacktrace"]["frames"]
    ours = [frame["function"] for frame in frames][-4:]
    assert ours == ["run", "_work", "_run_body", "fail"]
    carried = frames[-3]["vars"]["carried"]
    assert carried.startswith("<flask_task_context._Carried object")
    assert "canary" not in json.dumps(event)
    assert event["tags"]["url"] == f"{site.url}/fail"
