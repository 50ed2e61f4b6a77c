"""Beside other ways to give tasks a Flask app: ``celery_init_app`` of Flask's
documentation, and Flask-CeleryExt."""

from __future__ import annotations

import typing as t

import pytest

from tests.conftest import CELERYEXT_REQUESTS
from tests.integrations.conftest import ONE_PROCESS
from tests.integrations.conftest import Open


@pytest.mark.parametrize(
    ("module", "config", "blank"),
    [
        ("celery_init_app", {}, None),
        ("flask_celeryext", {"BASE": "AppContextTask"}, None),
        pytest.param(
            "flask_celeryext",
            {"BASE": "RequestContextTask"},
            "http://localhost/",
            marks=CELERYEXT_REQUESTS,
        ),
    ],
    ids=["celery_init_app", "AppContextTask", "RequestContextTask"],
)
def test_each_task_has_what_its_project_gave_it(
    open_apart: Open,
    module: str,
    config: dict[str, str],
    blank: str | None,
) -> None:
    """A task that is not decorated stays as it is, also where the message carries a
    request. A decorated one has the request, in either order and after a retry, and
    without a request what the project gives."""
    site = open_apart(module, *ONE_PROCESS, **config)

    def ask(path: str) -> t.Any:
        answer = site.get(path, headers={"Host": "anna.example"})
        total, seen = answer.json()
        assert total == 3
        return seen

    before = {"app": "project", "url": blank}
    assert ask("/plain/theirs") == before
    assert ask("/ours/theirs") == before
    for task in ("below", "above", "retried"):
        assert ask(f"/plain/{task}") == before
        ours = {**before, "url": f"http://anna.example/ours/{task}"}
        assert ask(f"/ours/{task}") == ours
    assert ask("/plain/theirs") == before
