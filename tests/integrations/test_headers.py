"""Packages that change each response, on the empty one of a task: Flask-Talisman,
Flask-CORS, Flask-Compress and Flask-DebugToolbar."""

from __future__ import annotations

import flask
import pytest

from flask_task_context import _MERGED
from tests.integrations.apps import headers
from tests.integrations.conftest import Open

pytestmark = pytest.mark.xfail(
    _MERGED, reason="Flask-DebugToolbar 0.16.0 is not ready for Flask 3.2"
)


def test_hooks_on_an_empty_response(open_site: Open) -> None:
    """Their hooks do in a task what they do for a visitor; nothing breaks, and the
    result stands."""
    site = open_site(headers)
    visitor = {"Host": "anna.example", "X-Forwarded-Proto": "https"}
    link = "https://anna.example/"
    answer = site.get("/", headers=visitor)
    assert answer.json() == {"view": link, "task": link, "task after hooks": link}
    status, *names = site.get("/hooks", headers=visitor).json()
    assert status == "200 OK"
    assert {
        "Access-Control-Allow-Origin",
        "Content-Encoding",
        "Content-Security-Policy",
        "Strict-Transport-Security",
    } <= set(names) & set(answer.headers)
    log = site.worker.log.read_text()
    assert "Traceback" not in log
    assert log.count("Could not insert debug toolbar.") == 1


def test_a_worker_without_debug(open_site: Open) -> None:
    """Flask-Talisman lets plain HTTP pass where the app is in debug mode, so a worker
    that is not refuses a task that runs before-request functions."""
    site = open_site(headers)
    site.flask_app.debug = True
    found = flask.redirect("/").status  # "302 Found" since Werkzeug 3.2.
    assert site.get("/").json() == {
        "view": f"{site.url}/",
        "task": f"{site.url}/",
        "task after hooks": "RequestRefused: A before-request function answered the"
        f" task's request with {found!r} to '{site.url.replace('http', 'https')}/':"
        " let it pass, or leave out 'before_request=True' of the task.",
    }
