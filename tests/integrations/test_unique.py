"""celery-singleton and celery-once: tasks of which there is one at a time."""

from __future__ import annotations

import time
import typing as t
import uuid
from pathlib import Path

import pytest
from redis import Redis

from tests.conftest import broker_url
from tests.integrations.apps import unique
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site

ANNA = {"Host": "anna.example"}
BEN = {"Host": "ben.example"}


class Locks:
    def __init__(self, client: Redis) -> None:
        self.client, self.prefix = client, f"test-{uuid.uuid4().hex[:12]}"

    def held(self) -> list[t.Any]:
        return list(self.client.scan_iter(f"*{self.prefix}*"))

    def wait_until_released(self) -> None:
        """A task's result is there before its lock is released."""
        deadline = time.monotonic() + 20
        while self.held():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def locks() -> t.Iterator[Locks]:
    with Redis.from_url(broker_url("redis")) as client:
        locks = Locks(client)
        yield locks
        for key in locks.held():
            client.delete(key)


@pytest.mark.parametrize("name", ["singleton", "once"])
def test_one_at_a_time(
    open_site: Open, tmp_path: Path, locks: Locks, name: str
) -> None:
    """A duplicate is not sent, and the task is in the first visitor's request; its lock
    is released at its end, and where its context is refused."""
    go, config = tmp_path / "go", {"REDIS": broker_url("redis"), "PREFIX": locks.prefix}
    site = open_site(unique, GO=str(go), **config)
    [first] = site.post(f"/with/{name}", headers=ANNA).json()
    [second] = site.post(f"/with/{name}", headers=BEN).json()
    assert second == {"singleton": first, "once": "AlreadyQueued"}[name]
    go.touch()
    assert result_of(site, name, first) == "anna.example"
    locks.wait_until_released()
    [third] = site.post(f"/plain/{name}", headers=BEN).json()
    assert result_of(site, name, third) == "ben.example"
    locks.wait_until_released()
    [forged] = site.post(f"/forged/{name}").json()
    assert result_of(site, name, forged).startswith("BadContext: ")
    locks.wait_until_released()
    assert site.post(f"/with/{name}?unsendable=1").json() == ["CaptureError"]
    assert locks.held() == []
    assert site.post(f"/plain/{name}?unsendable=1").json() == ["CaptureError"]
    assert len(locks.held()) == {"singleton": 0, "once": 1}[name]


def result_of(site: Site, name: str, task_id: str) -> t.Any:
    [result] = site.get(f"/result/{name}/{task_id}").json()
    return result
