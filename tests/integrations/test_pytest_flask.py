"""pytest-flask: what tasks see in a test of a user's, run by pytest itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

CONFTEST = """
import pytest
from celery import Celery
from flask import Flask, request

from flask_task_context import delay_with_context, init_app, with_request_context

celery = Celery("shop", set_as_current=False, task_always_eager=True)


@celery.task
@with_request_context
def look():
    return request.url


@pytest.fixture
def app():
    app = Flask("shop")
    app.config["SECRET_KEY"] = "key"
    init_app(app)

    @app.post("/send")
    def send():
        return delay_with_context(look).get()

    return app
"""
TESTS = """
import pytest
from flask import has_request_context

from conftest import look
from flask_task_context import capture_context, delay_with_context, restore_context

VISIT = {"base_url": "https://anna.example"}


def test_the_plugins_own_request(app):
    assert look() == delay_with_context(look).get() == "http://localhost/"


def test_a_view(client):
    assert client.post("/send", **VISIT).text == "https://anna.example/send"
    assert look() == "https://anna.example/send"


@pytest.mark.usefixtures("client_class")
class TestClass:
    def test_a_view(self):
        assert self.client.post("/send", **VISIT).text == "https://anna.example/send"


def test_a_request_of_the_tests(app):
    with app.test_request_context(**VISIT):
        assert look() == delay_with_context(look).get() == "https://anna.example/"
        headers = capture_context()
    assert look.apply(headers=headers).get() == "http://localhost/"
    with restore_context(headers):
        assert look() == "https://anna.example/"


def test_nothing_is_left():
    assert not has_request_context()
"""


def test_the_request_that_it_pushes(tmp_path: Path) -> None:
    """In a test's body, tasks are in the request that pytest-flask pushes, and in a
    view in the view's, which ``client`` keeps open. A message's request counts less, but
    by ``restore_context``."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shop.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-p", "no:ddtrace"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "plugins: " in result.stdout
    assert " 5 passed in " in result.stdout, result.stdout
