"""What prometheus-flask-exporter counts of the tasks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integrations.conftest import Open


@pytest.mark.parametrize(
    ("recipe", "tasks", "counted"),
    [
        (False, ["work"], {"200": 2}),
        (False, ["work_without_hooks", "fail_without_hooks"], {"200": 2, "500": 1}),
        (True, ["work", "fail"], {"200": 2}),
    ],
    ids=["default", "after_request=False", "recipe"],
)
def test_tasks_and_visits(
    open_apart: Open,
    tmp_path: Path,
    recipe: bool,
    tasks: list[str],
    counted: dict[str, int],
) -> None:
    """By default a task counts as one more visit; without after-request functions one
    that fails still does, by a teardown function; with the recipe none does."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    site = open_apart("prometheus", METRICS=str(folder), RECIPE=recipe)
    for task in tasks:
        site.get(f"/{task}")
    text = site.get("/metrics").text
    total = r'^flask_http_request_total\{method="GET",status="(\d+)"\} (\d+)\.0$'
    found = {status: int(count) for status, count in re.findall(total, text, re.M)}
    assert found == counted
