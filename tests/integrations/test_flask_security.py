"""Users, roles and permissions of Flask-Security."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from tests.integrations.conftest import Open
from tests.integrations.conftest import Site

flask_security = pytest.importorskip(
    "tests.integrations.apps.flask_security",
    reason="Flask-Security needs Python 3.11",
)

ANNA = [flask_security.EMAIL, True, True]
JSON = {"Accept": "application/json"}


@pytest.fixture
def open_secured(open_site: Open, tmp_path: Path) -> t.Iterator[Open]:
    sites = []

    def opened(**config: t.Any) -> Site:
        url = f"sqlite:///{tmp_path / 'users.db'}"
        sites.append(open_site(flask_security, SQLALCHEMY_DATABASE_URI=url, **config))
        return sites[-1]

    yield opened
    for site in sites:
        with site.flask_app.app_context():
            flask_security.db.engine.dispose()


def log_in(site: Site, path: str = "/login") -> t.Any:
    """Through the package's own login view; gives the user that it answers."""
    csrf = site.get("/login", headers=JSON).json()["response"]["csrf_token"]
    account = {"email": flask_security.EMAIL, "password": flask_security.PASSWORD}
    answer = site.post(path, json={**account, "csrf_token": csrf}, headers=JSON)
    assert answer.status_code == 200, answer.text
    return answer.json()["response"]["user"]


@pytest.mark.parametrize("encrypt", [False, True])
def test_the_user_and_their_roles(open_secured: Open, encrypt: bool) -> None:
    """``current_user`` and what it may do are the same in the view and in the task."""
    site = open_secured(TASK_CONTEXT_ENCRYPT=encrypt)
    assert site.get("/who").json() == {"view": None, "task": None}
    log_in(site)
    assert site.get("/who").json() == {"view": ANNA, "task": ANNA}


@pytest.mark.parametrize(("encrypt", "seen"), [(False, None), (True, ANNA)])
def test_a_user_known_by_a_token(
    open_secured: Open, encrypt: bool, seen: object
) -> None:
    """An authentication token is a credential: it travels encrypted alone."""
    site = open_secured(TASK_CONTEXT_ENCRYPT=encrypt)
    token = log_in(site, "/login?include_auth_token")["authentication_token"]
    site.visitor.cookies.clear()
    visit = site.get("/token", headers={**JSON, "Authentication-Token": token})
    assert visit.json() == {"view": ANNA, "task": seen}


def test_permissions_of_the_identity(open_secured: Open) -> None:
    """``Permission`` and ``roles_required`` need the identity that a before-request
    function of the package loads: ``before_request=True``."""
    site = open_secured()
    missing = "AttributeError: identity"
    denied = site.get("/may-edit").json()
    assert denied.pop("edit").startswith("Forbidden: 403 Forbidden: You don't have")
    assert denied == {"view": False, "task": missing, "task after hooks": False}
    log_in(site)
    allowed = {"view": True, "task": missing, "task after hooks": True}
    assert site.get("/may-edit").json() == {**allowed, "edit": "edited"}
