"""``current_user`` of Flask-Login."""

from __future__ import annotations

import pytest

from tests.integrations.apps import flask_login
from tests.integrations.conftest import Open

AGENT = {"User-Agent": "visitor/1.0"}


@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_current_user_is_the_visitor(open_site: Open, protection: str) -> None:
    """The user of the view is the user of the task, with either session protection."""
    site = open_site(flask_login, SESSION_PROTECTION=protection)
    anonymous = [None, True]
    assert site.get("/", headers=AGENT).json() == {"view": anonymous, "task": anonymous}
    anna = {"view": ["anna", False], "task": ["anna", False]}
    assert site.post("/login/anna", headers=AGENT).json() == anna
    assert site.get("/", headers=AGENT).json() == anna


def test_another_client_with_a_stolen_cookie(open_site: Open) -> None:
    """Under "strong" protection the task refuses whom the view refuses."""
    site = open_site(flask_login, SESSION_PROTECTION="strong")
    site.post("/login/anna", headers=AGENT)
    stolen = site.get("/", headers={"User-Agent": "another/1.0"}).json()
    assert stolen == {"view": [None, True], "task": [None, True]}
