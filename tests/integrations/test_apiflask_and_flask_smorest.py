"""Validated JSON and query, and a blueprint's links, of APIFlask and flask-smorest."""

from __future__ import annotations

import pytest

from tests.integrations.conftest import Open


@pytest.mark.parametrize("package", ["apiflask", "flask_smorest"])
def test_the_task_can_validate_what_the_view_was_given(
    open_apart: Open, package: str
) -> None:
    """The framework's schemas give the task the same values as the view, and links
    to the blueprint's endpoints are on the visitor's host."""
    site = open_apart(package)
    answer = site.post(
        "/orders/?gift=yes&tags=red&tags=sweet",
        json={"fruit": "Bïrne", "pieces": "2"},
        headers={"Host": "anna.example"},
    )
    given = {
        "order": {"fruit": "Bïrne", "pieces": 2},
        "options": {"gift": True, "tags": ["red", "sweet"]},
    }
    seen = {
        **given,
        "raw": '{"fruit": "B\\u00efrne", "pieces": "2"}',
        "blueprint": "orders",
        "link": "http://anna.example/orders/3",
        "sibling": "/orders/3",
    }
    assert answer.json() == {"given": given, "view": seen, "task": seen}
