"""Whose request: every way to get somewhere, by what is pushed, by what is done there."""

from __future__ import annotations

import collections
import json
import time
from pathlib import Path

import pytest

from flask_task_context import capture_context
from flask_task_context import init_app
from tests import rules
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.conftest import runs_all

CELLS = list(rules.cells())
WORKERS = {
    "redis, prefork": ("redis", "--pool=prefork", False),
    "redis, threads": ("redis", "--pool=threads", False),
    "rabbitmq, an app context pushed": ("rabbitmq", "--pool=prefork", True),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("worker", WORKERS)
def test_every_cell_follows_the_rules(
    worker: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """What a task reads, and what its messages carry, is what the rules say: each cell
    in one of the workers, or with ``--all`` in each."""
    share = slice(list(WORKERS).index(worker), None, len(WORKERS))
    cells = CELLS if runs_all(pytestconfig) else CELLS[share]
    broker, pool, pushed = WORKERS[worker]
    notes = tmp_path / "notes"
    settings = celery_settings(broker, tmp_path)
    environ = {"NOTES": str(notes), "PUSHED": "yes" if pushed else "no"}
    running = Worker(
        settings,
        tmp_path / "worker.log",
        pool,
        "-c1",
        module="tests.rules_worker",
        environ=environ,
    )
    app = rules.create_celery(rules.create_app("unused"), **settings)
    try:
        shop = rules.create_app("shop")
        init_app(shop)
        with shop.test_request_context("/", rules.VISITOR):
            headers = capture_context()
        for cell in cells:
            rules.send(app, cell, headers)
        wanted = {cell.id: rules.expected(cell, pushed) for cell in cells}
        seen = collected(notes, sum(map(len, wanted.values())))
        wrong = {
            name: (seen[name], want)
            for name, want in wanted.items()
            if seen[name] != want
        }
        assert not wrong, (
            f"{len(wrong)} of {len(wanted)}, seen and wanted:\n"
            + "\n".join(f"{name}: {both}" for name, both in wrong.items())
        )
    finally:
        running.kill()
        drop_queue(app)


def collected(notes: Path, count: int) -> dict[str, list[str]]:
    """What each cell has noted, when all have, or when nothing more comes."""
    lines: list[str] = []
    end = time.monotonic() + 60
    while len(lines) < count and time.monotonic() < end:
        time.sleep(0.1)
        found = notes.read_text().splitlines() if notes.exists() else []
        if len(found) > len(lines):
            lines, end = found, time.monotonic() + 10
    seen: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    for line in lines:
        cell, text = json.loads(line)
        seen[cell].append(text)
    return seen
