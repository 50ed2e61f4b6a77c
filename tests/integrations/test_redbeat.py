"""RedBeat: the request of a scheduled task."""

from __future__ import annotations

import json
import time
import typing as t
import uuid
from pathlib import Path

import pytest
from redis import Redis

from tests.conftest import broker_url
from tests.integrations.apps import redbeat
from tests.integrations.conftest import Open


@pytest.fixture
def prefix() -> t.Iterator[str]:
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield prefix
    with Redis.from_url(broker_url("redis")) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


def test_scheduled_tasks(prefix: str, open_site: Open, tmp_path: Path) -> None:
    """A scheduled task has the request that its schedule's headers carry: of a
    visitor who added it, or of the module; without one it has an app context."""
    path = tmp_path / "notes"
    config = {"PATH": str(path), "REDIS": broker_url("redis"), "PREFIX": prefix}
    scheduler = ("-B", "--scheduler=redbeat.RedBeatScheduler")
    site = open_site(redbeat, *scheduler, **config)
    site.get("/schedule/anna", headers={"Host": "anna.example"})
    expected = {
        "with": "https://shop.example/",
        "without": "redbeat",
        "anna": "http://anna.example/schedule/anna",
    }
    deadline = time.monotonic() + 30
    while len(seen := notes(path)) < len(expected):
        assert time.monotonic() < deadline, site.worker.log.read_text()
        time.sleep(0.05)
    assert seen == expected


def notes(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(json.loads(line) for line in lines)
