"""Server-side sessions of Flask-Session, in Redis."""

from __future__ import annotations

import typing as t
import uuid

import pytest
from redis import Redis

from tests.conftest import broker_url
from tests.integrations.apps import flask_session
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site


class Store:
    """The sessions that one site has in Redis."""

    def __init__(self) -> None:
        self.url = broker_url("redis")
        self.redis = Redis.from_url(self.url)
        self.prefix = f"test-{uuid.uuid4().hex[:12]}:"

    def read(self) -> dict[bytes, t.Any]:
        return {
            key: self.redis.get(key) for key in self.redis.scan_iter(f"{self.prefix}*")
        }


@pytest.fixture
def store() -> t.Iterator[Store]:
    store = Store()
    yield store
    for key in store.read():
        store.redis.delete(key)
    store.redis.close()


def open_with(store: Store, open_site: Open, **config: t.Any) -> Site:
    return open_site(
        flask_session,
        SESSION_REDIS_URL=store.url,
        SESSION_KEY_PREFIX=store.prefix,
        **config,
    )


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_the_sessions_values_are_in_the_task(
    open_site: Open, store: Store, serializer: str
) -> None:
    """What the store held, and what the view has set before it sent the task."""
    site = open_with(store, open_site, SESSION_SERIALIZATION_FORMAT=serializer)
    assert site.get("/").json() == {"view": None, "task": None}
    tea = {"view": ["tea"], "task": ["tea"]}
    assert site.post("/cart/tea").json() == tea
    assert site.get("/").json() == tea
    both = ["tea", "milk"]
    assert site.post("/cart/milk").json() == {"view": both, "task": both}


def test_the_store_is_not_written_by_a_task(open_site: Open, store: Store) -> None:
    """A task that changes its session changes a copy: the stored session stays as
    the view has left it, and the worker's log says so."""
    site = open_with(store, open_site)
    site.post("/cart/tea")
    task_id = site.post("/empty").text
    stored = store.read()
    celery = site.flask_app.extensions["celery"]
    seen = celery.AsyncResult(task_id).get(timeout=30)
    assert (seen["cart"], seen["emptied"]) == ([], True)
    assert len(stored) == 1
    assert store.read() == stored
    assert site.get("/").json() == {"view": ["tea"], "task": ["tea"]}
    site.worker.wait_for("The task 'empty_cart' changed its session. It is a copy")


def test_no_session_is_made_by_a_task(open_site: Open, store: Store) -> None:
    """A visitor without a session has none in the store after the task either."""
    site = open_with(store, open_site)
    task_id = site.post("/empty").text
    seen = site.flask_app.extensions["celery"].AsyncResult(task_id).get(timeout=30)
    assert seen["emptied"]
    assert store.read() == {}
