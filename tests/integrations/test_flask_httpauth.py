"""``auth.current_user()`` of Flask-HTTPAuth, and its credentials."""

from __future__ import annotations

import re

from requests.auth import _basic_auth_str

from tests.integrations.apps import flask_httpauth
from tests.integrations.conftest import Open

ANNA = ("anna", "pears")


def test_current_user_without_credentials(open_site: Open) -> None:
    """With the user in ``TASK_CONTEXT_G``, the task knows them, and the message holds
    no credentials; what asks for these again is refused."""
    site = open_site(flask_httpauth, TASK_CONTEXT_G=["flask_httpauth_user"])
    answer = site.get("/", auth=ANNA).json()
    assert _basic_auth_str(*ANNA).split()[1] not in answer.pop("header")
    assert re.match("EncodeError: .*type Response is not JSON", answer.pop("again"))
    assert answer == {"view": ["anna", True], "task": ["anna", False]}


def test_credentials_in_an_encrypted_message(open_site: Open) -> None:
    """The task that is decorated by ``login_required`` verifies them again; without
    it, and without ``TASK_CONTEXT_G``, there is no user."""
    site = open_site(flask_httpauth, TASK_CONTEXT_ENCRYPT=True)
    answer = site.get("/", auth=ANNA).json()
    assert answer["again"] == "anna"
    assert answer["task"] == [None, True]
