"""Agents that trace an application: ddtrace, Elastic APM, New Relic."""

from __future__ import annotations

import gzip
import sys
import time
import typing as t
from importlib.util import find_spec
from pathlib import Path

import flask
import pytest

from tests.conftest import serving
from tests.integrations.conftest import ONE_PROCESS
from tests.integrations.conftest import Open

PROGRAMS = Path(sys.executable).parent
UNDER = {
    "ddtrace": [str(PROGRAMS / "ddtrace-run")],
    "elasticapm": [],
    "newrelic": [str(PROGRAMS / "newrelic-admin"), "run-program"],
}
ENVIRON = {
    "DD_CELERY_DISTRIBUTED_TRACING": "true",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "ELASTIC_APM_API_REQUEST_TIME": "500ms",
    "ELASTIC_APM_CENTRAL_CONFIG": "false",
    "ELASTIC_APM_SERVICE_NAME": "traced",
    "NEW_RELIC_DEVELOPER_MODE": "true",  # It sends nothing.
    "NEW_RELIC_LICENSE_KEY": "none",
    "NEW_RELIC_STARTUP_TIMEOUT": "10",
}
NO_DDTRACE = pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="ddtrace 4.16.0 is not ready for Python 3.15"
)
# newrelic-admin loads it by ``load_module()``, which Python 3.15 does not have.
SITECUSTOMIZE = pytest.mark.xfail(
    sys.version_info >= (3, 15) and find_spec("sitecustomize") is not None,
    reason="New Relic 14.1.0 does not start on Python 3.15 beside a sitecustomize",
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[list[bytes]]:
    """What the server of an agent has taken."""
    taken: list[bytes] = []
    app = flask.Flask("server")

    @app.route("/", defaults={"path": ""})
    @app.route("/<path:path>", methods=["GET", "POST", "PUT"])
    def take(path: str) -> t.Any:
        body = flask.request.get_data()
        zipped = flask.request.headers.get("Content-Encoding") == "gzip"
        taken.append(gzip.decompress(body) if zipped else body)
        return {}

    with serving(app) as port:
        for name in ("DD_TRACE_AGENT_URL", "ELASTIC_APM_SERVER_URL"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        yield taken


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param("ddtrace", marks=NO_DDTRACE),
        "elasticapm",
        pytest.param("newrelic", marks=SITECUSTOMIZE),
    ],
)
def test_one_trace_and_one_request(
    monkeypatch: pytest.MonkeyPatch, taken: list[bytes], open_apart: Open, agent: str
) -> None:
    """The view's trace and its request are in the task, in its retries and in what it
    sends, and the user's own headers stay. What is sent of a failed task shows nothing
    of the visitor's session and form."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    site = open_apart("agents", *ONE_PROCESS, under=UNDER[agent], AGENT=agent)
    anna = {"Host": "anna.example"}
    answer = site.post("/parent?a=1", headers=anna).json()
    url = "http://anna.example/parent?a=1"
    seen = {"trace": answer["trace"], "url": url, "mine": "1"}
    assert answer["task"] == {**seen, "child": {**seen, "mine": None}}
    assert len(answer["trace"]) >= 16
    failed = site.post("/fail", headers=anna, data={"a": "canary-form"}).json()
    assert failed["task"] == "no pears in anna.example"
    deadline = time.monotonic() + 30
    while agent != "newrelic" and b"no pears in anna" not in b"".join(taken):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert b"canary" not in b"".join(taken)
