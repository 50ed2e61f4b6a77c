"""``current_user`` of Flask-Login."""

from __future__ import annotations

import pytest

from tests.integrations.apps import flask_login
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site

AGENT = {"User-Agent": "visitor/1.0"}
ANNA = ["anna", False]
ANONYMOUS = [None, True]


def remembered(open_site: Open, **config: object) -> Site:
    """A site whose visitor has come back with the remember-me cookie alone."""
    site = open_site(flask_login, **config)
    site.post("/login/anna", headers=AGENT, data={"remember": "1"})
    site.visitor.cookies.pop("session")
    assert list(site.visitor.cookies.keys()) == ["remember_token"]
    return site


@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_current_user_is_the_visitor(open_site: Open, protection: str) -> None:
    """The user of the view is the user of the task, with either session protection."""
    site = open_site(flask_login, SESSION_PROTECTION=protection)
    assert site.get("/", headers=AGENT).json() == {"view": ANONYMOUS, "task": ANONYMOUS}
    anna = {"view": ANNA, "task": ANNA}
    assert site.post("/login/anna", headers=AGENT).json() == anna
    assert site.get("/", headers=AGENT).json() == anna


def test_another_client_with_a_stolen_cookie(open_site: Open) -> None:
    """Under "strong" protection the task refuses whom the view refuses."""
    site = open_site(flask_login, SESSION_PROTECTION="strong")
    site.post("/login/anna", headers=AGENT)
    stolen = site.get("/", headers={"User-Agent": "another/1.0"}).json()
    assert stolen == {"view": ANONYMOUS, "task": ANONYMOUS}


@pytest.mark.parametrize("protection", ["basic", "strong"])
@pytest.mark.parametrize(("encrypt", "seen"), [(False, ANONYMOUS), (True, ANNA)])
def test_a_remembered_visitor_whom_the_view_has_not_loaded(
    open_site: Open, encrypt: bool, seen: object, protection: str
) -> None:
    """With the remember-me cookie alone, the task knows the user of an encrypted
    message, and no user of a readable one."""
    site = remembered(
        open_site, TASK_CONTEXT_ENCRYPT=encrypt, SESSION_PROTECTION=protection
    )
    visit = site.get("/sent-first", headers=AGENT)
    assert visit.json() == {"task": seen, "view": ANNA}


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_remembered_visitor_whom_the_view_has_loaded(
    open_site: Open, encrypt: bool
) -> None:
    """The view's ``current_user`` has put the user into the session, so the task
    knows them without the cookie, on this visit and on the next."""
    site = remembered(open_site, TASK_CONTEXT_ENCRYPT=encrypt)
    assert site.get("/", headers=AGENT).json() == {"view": ANNA, "task": ANNA}
    assert site.get("/", headers=AGENT).json() == {"view": ANNA, "task": ANNA}


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_remembered_visitor_under_strong_protection(
    open_site: Open, encrypt: bool
) -> None:
    """Strong protection forgets a session that was made from a remember-me cookie
    when it sees it next: in the task as in the visitor's next request."""
    site = remembered(
        open_site, TASK_CONTEXT_ENCRYPT=encrypt, SESSION_PROTECTION="strong"
    )
    assert site.get("/", headers=AGENT).json() == {"view": ANNA, "task": ANONYMOUS}
    assert site.get("/", headers=AGENT).json()["view"] == ANONYMOUS


@pytest.mark.parametrize(("encrypt", "seen"), [(False, ANONYMOUS), (True, ANNA)])
def test_a_user_known_by_a_header(open_site: Open, encrypt: bool, seen: object) -> None:
    """A request loader that reads a credential finds it in an encrypted message."""
    site = open_site(flask_login, TASK_CONTEXT_ENCRYPT=encrypt)
    visit = site.get("/", headers={"X-Api-Key": "anna"})
    assert visit.json() == {"view": ANNA, "task": seen}
