"""Flask-Dance: the visitor's OAuth token, in a task."""

from __future__ import annotations

import typing as t

import pytest

from tests.conftest import serving
from tests.integrations.apps import flask_dance
from tests.integrations.conftest import Open


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[str]:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with serving(flask_dance.create_provider()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("encrypt", "seen"), [(False, None), (True, "anna")])
def test_a_call_to_the_provider(
    open_site: Open, provider: str, encrypt: bool, seen: str | None
) -> None:
    """After the dance, ``github.get`` in a task is the visitor's, with
    ``before_request=True`` and where the token has travelled: encrypted. Without the
    token, the provider does not know who asks."""
    config = {"TASK_CONTEXT_SESSION": ["github_oauth_token"], "PROVIDER": provider}
    site = open_site(flask_dance, TASK_CONTEXT_ENCRYPT=encrypt, **config)
    assert site.get("/github").json() == {
        "view": "anna",
        "task": "AttributeError: flask_dance_github",
        "task after hooks": seen,
    }
