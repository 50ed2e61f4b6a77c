"""CSRF tokens and forms of Flask-WTF."""

from __future__ import annotations

import re

import pytest
import requests

from tests.integrations.apps import flask_wtf
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site
from tests.integrations.conftest import refusal

VALID = [True, "anna", {}]
TOKEN_MISSING = [False, "anna", {"csrf_token": ["The CSRF token is missing."]}]
REFUSED = refusal("400 Bad Request: The CSRF token is missing.")


def tokens(page: requests.Response) -> list[str]:
    """The token of the form's field, and that of the page's ``<meta>``."""
    patterns = (r'name="csrf_token"[^>]* value="([^"]+)"', r'content="([^"]+)"')
    found = [re.search(pattern, page.text) for pattern in patterns]
    return [match[1] for match in found if match]


def save(site: Site, token: str) -> requests.Response:
    return site.post("/save", data={"name": "anna", "csrf_token": token})


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_token_made_in_the_task_is_the_visitors(
    open_site: Open, encrypt: bool
) -> None:
    """A form that a task has rendered can be sent back to the site, once the view
    has put the visitor's token into the session."""
    site = open_site(flask_wtf, TASK_CONTEXT_ENCRYPT=encrypt)
    of_form, of_meta = tokens(site.get("/form"))
    assert of_form == of_meta
    assert save(site, of_form).json()["view"] == VALID
    again, _ = tokens(site.get("/form-without-token"))
    assert save(site, again).json()["view"] == VALID


def test_a_token_for_a_visitor_who_had_none(open_site: Open) -> None:
    """A token that the task was the first to make is of no use to the visitor, whose
    session the task cannot write: Flask-WTF refuses it."""
    site = open_site(flask_wtf)
    of_form, _ = tokens(site.get("/form-without-token"))
    refused = save(site, of_form)
    assert refused.status_code == 400
    assert "The CSRF session token is missing." in refused.text


def test_a_token_of_another_visitor(open_site: Open) -> None:
    """A token that was rendered for one visitor is refused from another."""
    site = open_site(flask_wtf)
    of_form, _ = tokens(site.get("/form"))
    site.visitor.cookies.clear()
    site.get("/form")
    refused = save(site, of_form)
    assert refused.status_code == 400
    assert "The CSRF tokens do not match." in refused.text


@pytest.mark.parametrize(
    ("encrypt", "task", "hooked"),
    [(False, TOKEN_MISSING, REFUSED), (True, VALID, VALID)],
)
def test_a_form_that_the_task_validates(
    open_site: Open, encrypt: bool, task: object, hooked: object
) -> None:
    """Its token is a credential: it travels in an encrypted message alone. In a
    readable one ``CSRFProtect``, a before-request function, refuses a POST."""
    site = open_site(flask_wtf, TASK_CONTEXT_ENCRYPT=encrypt)
    of_form, _ = tokens(site.get("/form"))
    seen = {"view": VALID, "task": task, "task after hooks": hooked}
    assert save(site, of_form).json() == seen
