"""Code that tells the web process from the worker."""

from __future__ import annotations

from tests.integrations.apps import web_or_worker
from tests.integrations.conftest import Open

WEB, WORKER, WORKER_ALONE = [True, False], [True, True], [False, True]


def test_where_this_is(open_site: Open) -> None:
    """``has_request_context()`` is true in both; the function of docs/how-to/packages.md
    tells them apart, in hooks and in tasks that are called too."""
    assert open_site(web_or_worker).get("/").json() == {
        "view": WEB,
        "view's hook": WEB,
        "called in the view": WEB,
        "eager in the view": WEB,
        "sent by the view": WORKER,
        "called in a task": WORKER,
        "task's hook": WORKER,
        "sent without a request": WORKER_ALONE,
    }
