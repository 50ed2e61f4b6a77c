"""The identity in a JSON web token, of Flask-JWT-Extended."""

from __future__ import annotations

import pytest

from tests.integrations.apps import flask_jwt_extended
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site

ANNA = ["anna", "editor", "user anna"]


def bearer(site: Site, **query: object) -> dict[str, str]:
    token = site.post("/login/anna", params=query).json()["token"]
    return {"Authorization": f"Bearer {token}"}


def test_a_token_in_the_authorization_header(open_site: Open) -> None:
    """In an encrypted message the token is verified again, and gives identity,
    claims and user."""
    site = open_site(flask_jwt_extended, TASK_CONTEXT_ENCRYPT=True)
    visit = site.get("/identity", headers=bearer(site))
    assert visit.json() == {"view": ANNA, "task": ANNA}
    assert site.get("/identity").status_code == 401


def test_a_token_in_a_cookie(open_site: Open) -> None:
    """Encrypted, the cookie is there, and for a POST the CSRF header that goes
    with it."""
    site = open_site(flask_jwt_extended, TASK_CONTEXT_ENCRYPT=True)
    site.post("/login/anna?cookie")
    assert site.get("/identity").json() == {"view": ANNA, "task": ANNA}
    csrf = {"X-CSRF-TOKEN": site.visitor.cookies["csrf_access_token"]}
    assert site.post("/identity", headers=csrf).json() == {"view": ANNA, "task": ANNA}


@pytest.mark.parametrize(
    ("locations", "missing"),
    [
        (["headers"], "Missing Authorization Header"),
        (
            ["headers", "cookies"],
            'Missing JWT in headers or cookies (Missing Authorization Header; Missing cookie "access_token_cookie")',
        ),
    ],
)
def test_a_readable_message_holds_no_token(
    open_site: Open, locations: list[str], missing: str
) -> None:
    """Without encryption the package says in the task that it found none, and the
    worker goes on."""
    site = open_site(flask_jwt_extended, JWT_TOKEN_LOCATION=locations)
    header = bearer(site)
    for _ in range(2):
        visit = site.get("/identity", headers=header)
        assert visit.json() == {
            "view": ANNA,
            "task": f"NoAuthorizationError: {missing}",
        }


def test_a_token_in_the_query_is_readable(open_site: Open) -> None:
    """The URL always travels whole, so a token in it is verified everywhere."""
    site = open_site(flask_jwt_extended)
    token = bearer(site)["Authorization"].removeprefix("Bearer ")
    visit = site.get("/identity", params={"jwt": token})
    assert visit.json() == {"view": ANNA, "task": ANNA}


def test_a_task_verifies_for_itself(open_site: Open) -> None:
    """That the view has verified the token does not count in the task."""
    site = open_site(flask_jwt_extended, TASK_CONTEXT_ENCRYPT=True)
    visit = site.get("/unverified", headers=bearer(site))
    assert visit.json() == {
        "task": "RuntimeError: You must call `@jwt_required()` or"
        " `verify_jwt_in_request()` before using this method"
    }


def test_a_token_that_expires_before_the_task_runs(open_site: Open) -> None:
    """A late task is refused by the package, as a late request would be."""
    site = open_site(flask_jwt_extended, TASK_CONTEXT_ENCRYPT=True)
    visit = site.get("/late", headers=bearer(site, seconds=1)).json()
    assert visit == {"task": "ExpiredSignatureError: Signature has expired"}


def test_an_identity_in_g_needs_no_token(open_site: Open) -> None:
    """A view may send the verified identity in ``g``, in a readable message too."""
    site = open_site(flask_jwt_extended)
    assert site.get("/in-g", headers=bearer(site)).json() == {"task": "anna"}
