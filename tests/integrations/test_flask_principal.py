"""Identities and permissions of Flask-Principal."""

from __future__ import annotations

import pytest

from tests.integrations.apps import flask_principal
from tests.integrations.conftest import Open

NO_IDENTITY = "AttributeError: identity"
ANNA, BEN, ANONYMOUS = ["anna", True], ["ben", False], [None, False]


@pytest.mark.parametrize("encrypt", [False, True])
def test_identity_and_permissions_are_the_visitors(
    open_site: Open, encrypt: bool
) -> None:
    """The before-request function of the package loads the identity, so a task with
    ``before_request=True`` has it, and another has none."""
    site = open_site(flask_principal, TASK_CONTEXT_ENCRYPT=encrypt)
    for name, who in [(None, ANONYMOUS), ("anna", ANNA), ("ben", BEN)]:
        seen = {"view": who, "task": NO_IDENTITY, "task after hooks": who}
        if name:
            assert site.post(f"/login/{name}").json() == seen
        assert site.get("/").json() == seen


def test_a_permission_that_the_visitor_has_not(open_site: Open) -> None:
    """``require`` raises in the task what it would raise in the view."""
    site = open_site(flask_principal)
    site.post("/login/anna")
    assert site.post("/edit").json() == {"task": "edited"}
    site.post("/login/ben")
    denied = "PermissionDenied: <Permission needs={Need(method='role', value='editor')} excludes=set()>"
    assert site.post("/edit").json() == {"task": denied}
