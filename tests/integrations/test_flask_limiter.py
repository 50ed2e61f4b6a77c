"""What tasks use up of the limits of Flask-Limiter."""

from __future__ import annotations

import typing as t
import uuid

import pytest
from redis import Redis

from tests.conftest import broker_url
from tests.integrations.apps import flask_limiter
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site
from tests.integrations.conftest import refusal

DONE = ["done", "done"]
REFUSED = refusal("429 Too Many Requests: 5 per 1 hour")


@pytest.fixture
def memory() -> dict[str, str]:
    return {"RATELIMIT_STORAGE_URI": "memory://"}


@pytest.fixture
def redis() -> t.Iterator[dict[str, str]]:
    url, prefix = broker_url("redis"), f"test-{uuid.uuid4().hex[:12]}"
    yield {"RATELIMIT_STORAGE_URI": url, "RATELIMIT_KEY_PREFIX": prefix}
    with Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{prefix}*"):
            client.delete(key)


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> t.Any:
    return request.getfixturevalue(request.param)


def open_limited(open_site: Open, storage: dict[str, str], **config: t.Any) -> Site:
    return open_site(flask_limiter, RATELIMIT_DEFAULT="5 per hour", **storage, **config)


def visits(site: Site, path: str, times: int) -> list[t.Any]:
    """What the two tasks of each visit gave, and how many visits then remained."""
    responses = [site.get(path) for _ in range(times)]
    return [
        (response.json(), int(response.headers["X-RateLimit-Remaining"]))
        if response.ok
        else response.status_code
        for response in responses
    ]


@pytest.mark.parametrize("kind", ["default", "decorated"])
def test_tasks_use_up_nothing(
    open_site: Open, storage: dict[str, str], kind: str
) -> None:
    """Each visit counts once, however many tasks it sends."""
    site = open_limited(open_site, storage)
    counted = [(DONE, 4), (DONE, 3), (DONE, 2), (DONE, 1), (DONE, 0), 429]
    assert visits(site, f"/{kind}/work", 6) == counted


def test_tasks_that_run_before_request_functions(
    open_site: Open, redis: dict[str, str]
) -> None:
    """With ``before_request=True`` and a shared storage, a task counts as one more
    visit, and is refused over the limit."""
    site = open_limited(open_site, redis)
    counted = [(DONE, 2), (["done", REFUSED], 0), 429]
    assert visits(site, "/default/work_after_hooks", 3) == counted


def test_the_workers_own_memory(open_site: Open, memory: dict[str, str]) -> None:
    """With ``before_request=True`` and a storage in memory, the worker counts apart
    from the site."""
    site = open_limited(open_site, memory)
    counted = [(DONE, 4), (DONE, 3), (["done", REFUSED], 2)]
    assert visits(site, "/default/work_after_hooks", 3) == counted


def test_a_limit_on_the_view(open_site: Open, storage: dict[str, str]) -> None:
    """``@limiter.limit`` counts where the view is called, so never in a task."""
    site = open_limited(open_site, storage)
    counted = [(DONE, 4), (DONE, 3), (DONE, 2), (DONE, 1), (DONE, 0), 429]
    assert visits(site, "/decorated/work_after_hooks", 6) == counted


def test_a_filter_that_lets_tasks_pass(open_site: Open, redis: dict[str, str]) -> None:
    """A request filter that asks for Celery's current task makes tasks free."""
    site = open_limited(open_site, redis, TASKS_ARE_FREE=True)
    counted = [(DONE, 4), (DONE, 3), (DONE, 2)]
    assert visits(site, "/default/work_after_hooks", 3) == counted
