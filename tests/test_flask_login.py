"""``current_user`` of the real Flask-Login, in a worker's own process."""

from __future__ import annotations

import typing as t

import flask
import flask_login
import pytest

from flask_task_context import delay_with_context
from tests import login_worker
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue


@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_current_user_is_the_visitor(tmp_path: t.Any, protection: str) -> None:
    """The user of the view is the user of the task, with either session protection."""
    settings = celery_settings("redis", tmp_path)
    flask_config = {"SESSION_PROTECTION": protection}
    worker = Worker(
        settings,
        tmp_path / "worker.log",
        module="tests.login_worker",
        flask_config=flask_config,
    )
    app, celery = login_worker.create(settings, flask_config)

    @app.get("/")
    def view() -> t.Any:
        flask_login.login_user(login_worker.User("anna"))
        result = delay_with_context(celery.tasks["who"])
        return [flask_login.current_user.id, result.get(timeout=30)]

    agent = {"User-Agent": "visitor/1.0"}
    assert app.test_client().get("/", headers=agent).json == ["anna", ["anna", False]]
    worker.stop()
    drop_queue(celery)
    assert not flask.has_app_context()
