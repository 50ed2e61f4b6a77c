"""``db.session`` of Flask-SQLAlchemy.

On a SQLite file always, and on PostgreSQL where one answers: at its standard socket,
with the user's own database, or at ``CELERY_TEST_POSTGRESQL_URL``. On PostgreSQL each
test has a schema of its own.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from tests.conftest import postgresql_url
from tests.integrations.apps import flask_sqlalchemy
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'notes.db'}"


@pytest.fixture
def postgresql() -> t.Iterator[str]:
    with postgresql_url() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, open_site: Open) -> t.Iterator[Site]:
    url = request.getfixturevalue(request.param)
    site = open_site(flask_sqlalchemy, SQLALCHEMY_DATABASE_URI=url)
    yield site
    with site.flask_app.app_context():
        flask_sqlalchemy.db.engine.dispose()


def process_of(site: Site) -> int:
    """The worker's process, in which no earlier task has left a thing."""
    left = site.get("/left-open").json()
    assert (left["sessions"], left["connections"]) == (0, 0)
    return t.cast("int", left["process"])


@pytest.mark.parametrize("path", ["notes", "without-context"])
def test_the_session_is_removed_after_each_task(site: Site, path: str) -> None:
    """What a task has committed stays, what it has not is rolled back, and its
    session and connection are given back when it ends."""
    process = process_of(site)
    assert site.post(f"/{path}/tea/commit").json() == {"task": None}
    assert process_of(site) == process
    assert site.get("/notes").json() == {"view": ["tea"], "task": ["tea"]}
    assert site.post(f"/{path}/milk/return").json() == {"task": None}
    assert process_of(site) == process
    assert site.get("/notes").json() == {"view": ["tea"], "task": ["tea"]}


@pytest.mark.parametrize("path", ["notes", "without-context"])
def test_a_failed_task_is_rolled_back(site: Site, path: str) -> None:
    """What a failed task had flushed or added is not committed, and does not leak
    into the next task of the same process, which commits its own."""
    process = process_of(site)
    failed = site.post(f"/{path}/tea/raise").json()
    assert failed == {"task": "ValueError: tea is refused"}
    assert process_of(site) == process
    assert site.get("/notes").json() == {"view": [], "task": []}
    assert site.post(f"/{path}/milk/commit").json() == {"task": None}
    assert process_of(site) == process
    assert site.get("/notes").json() == {"view": ["milk"], "task": ["milk"]}


@pytest.mark.parametrize("way", ["direct", "apply", "delay"])
def test_a_task_in_place_shares_the_views_session(site: Site, way: str) -> None:
    """Called directly or eagerly in a view, a task works in the view's session and
    transaction: nothing is detached, rolled back or committed by it."""
    site.flask_app.extensions["celery"].conf.task_always_eager = way == "delay"
    assert site.post(f"/in-place/{way}").json() == {
        "same session": True,
        "in the session": True,
        "text": "tea, changed",
        "committed": False,
    }
