"""structlog: the view's log variables in the task's log lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integrations.conftest import Open


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_the_tasks_lines_have_the_views_variables(
    open_apart: Open, tmp_path: Path, pool: str
) -> None:
    """With the documentation's recipe, a task and the next one of its chain log with the
    variables of their visitor, and a task without a request logs with none."""
    log = tmp_path / "log"
    site = open_apart("structlog", f"--pool={pool}", "--concurrency=1", LOG=str(log))
    expected = []
    for name in ("anna", "ben"):
        site.get("/buy", headers={"X-Visitor": name, "Host": f"{name}.example"})
        bound = {"visitor": name, "items": [1, 2]}
        packed = {**bound, "event": "packed", "url": f"http://{name}.example/buy"}
        bought = {**bound, "event": "bought"}
        expected += [bought, packed, packed, {"event": "packed", "url": None}]
    assert [json.loads(line) for line in log.read_text().splitlines()] == expected
