"""From a real request, over a real broker, into a worker's own process."""

from __future__ import annotations

import json
import typing as t

import pytest
from flask import g
from flask import session
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_task_context import delay_with_context
from tests import shop
from tests.conftest import Shop
from tests.conftest import fetch
from tests.conftest import serving

VISITORS = {
    "anna": (
        [("Host", "anna.example:8080"), ("Accept-Language", "de,en;q=0.5")],
        "http://anna.example:8080/item/7",
        "de",
    ),
    "ben": (
        [
            ("Host", "inside:1"),
            ("Accept-Language", "fr"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "ben.example"),
            ("X-Forwarded-Prefix", "/shop"),
        ],
        "https://ben.example/shop/item/7",
        "fr",
    ),
}


@pytest.mark.parametrize("kind", ["shop", "above"])
@pytest.mark.parametrize("visitor", VISITORS)
def test_the_task_sees_what_the_view_saw(
    working_shop: Shop, visitor: str, kind: str
) -> None:
    """URL, link, language, form, session and g are equal in view and worker."""
    headers, link, language = VISITORS[visitor]
    app = working_shop.flask

    def view() -> t.Any:
        session["cart"] = {"pear": 2}
        g.tenant = ["a", 1]
        seen = shop.see()
        task = working_shop.tasks[f"{kind}.see"]
        return [seen, delay_with_context(task).get(timeout=30)]

    app.extensions["view"] = view
    with serving(ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)) as port:
        form = ("Content-Type", "application/x-www-form-urlencoded")
        status, body = fetch(
            port, "POST", "/item/3?q=1&q=%C3%A9", b"to=x&to=y", [*headers, form]
        )
    assert status == 200, body
    in_view, in_worker = json.loads(body)
    assert in_worker == in_view
    assert in_worker["link"] == link
    assert in_worker["language"] == language
    assert in_worker["form"] == {"to": ["x", "y"]}
    assert in_worker["args"] == {"q": ["1", "é"]}
    assert in_worker["session"] == {"cart": {"pear": 2}}


def test_a_message_without_a_request_runs_in_an_app_context(working_shop: Shop) -> None:
    """Plain ``delay`` outside a request gives the worker's task an app context."""
    assert working_shop.tasks["shop.where"].delay().get(timeout=30) == "app context"
    assert working_shop.tasks["above.where"].delay().get(timeout=30) == "app context"
    assert working_shop.tasks["plain.where"].delay().get(timeout=30) == "no context"
