"""Every pool gives each task its own visitor, and keeps nothing of it."""

from __future__ import annotations

import contextlib
import itertools
import time
import typing as t
from pathlib import Path

import pytest

from flask_task_context import delay_with_context
from tests import ways
from tests.ways import Cell
from tests.ways import Lab

pytestmark = ways.quiet


@contextlib.contextmanager
def working(broker: str, folder: Path, *options: str, **more: t.Any) -> t.Iterator[Lab]:
    conf = more.pop("conf", {})
    settings = ways.lab_settings(broker, folder, **conf)
    lab = Lab(settings, folder)
    lab.worker = ways.start_worker(settings, folder, *options, **more)
    try:
        yield lab
    finally:
        ways.close(lab)


def naps(lab: Lab, count: int, seconds: float) -> list[tuple[Cell, list[t.Any]]]:
    """As many visitors at once, and what their tasks saw before and after a nap."""
    kinds = list(ways.LABELS)
    cells = [Cell(lab, kinds[number % 2]) for number in range(count)]
    sent = [
        cell.visit(lambda cell=cell: delay_with_context(cell.task("nap"), seconds))
        for cell in cells
    ]
    return [
        (cell, result.get(timeout=30, interval=0.02))
        for cell, result in zip(cells, sent, strict=True)
    ]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "solo"])
def test_tasks_at_the_same_time_see_their_own_visitors(
    pool: str, tmp_path: Path
) -> None:
    """No request leaks into a task beside it, nor into the one that follows."""
    workers = {"prefork": "2", "solo": "1"}.get(pool, "4")
    with working("redis", tmp_path, f"--pool={pool}", f"-c{workers}") as lab:
        for cell, (_, before, after) in naps(lab, 8, 0.05):
            assert [before, after] == [cell.url, cell.url]
        for kind in ways.LABELS:
            results = [lab.tasks[f"{kind}.nap"].delay(0.02) for _ in range(4)]
            for result in results:
                seen = result.get(timeout=30, interval=0.02)[1:]
                assert seen == ["app context", "app context"]


def test_a_process_that_serves_one_task_is_like_any_other(tmp_path: Path) -> None:
    """With ``worker_max_tasks_per_child`` each visitor has a process of its own."""
    options = ("--pool=prefork", "-c1", "--max-tasks-per-child=1")
    with working("redis", tmp_path, *options) as lab:
        seen = naps(lab, 2, 0)
    assert [s[1:] for _, s in seen] == [[cell.url, cell.url] for cell, _ in seen]
    assert len({s[0] for _, s in seen}) == 2


@pytest.mark.parametrize(
    ("pool", "pushed"),
    [
        *itertools.product(["prefork", "solo", "threads"], ["app", "request"]),
        ("prefork", "restored request"),
    ],
)
def test_what_the_worker_pushed_at_import_is_covered(
    pool: str, pushed: str, tmp_path: Path
) -> None:
    """A context that was left pushed does not stand in the visitor's place, and
    is not reached by the visitor's ``g``. Other context variables arrive."""
    more = {"module": "tests.pushed_worker", "environ": {"PUSHED": pushed}}
    with working("redis", tmp_path, f"--pool={pool}", "-c1", **more) as lab:
        for cell, (_, before, after) in naps(lab, 4, 0):
            assert [before, after] == [cell.url, cell.url]
        for kind in ways.LABELS:
            seen = lab.tasks[f"{kind}.nap"].delay(0).get(timeout=30, interval=0.02)
            assert seen[1] == "app context"
        bound = lab.celery.send_task("bound")
        assert bound.get(timeout=30, interval=0.02) == bound.id


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_another_worker_takes_over_with_the_context(
    broker: str, tmp_path: Path
) -> None:
    """When a worker is killed as a whole, the next one has task and request."""
    timeout = {"broker_transport_options": {"visibility_timeout": 1}}
    conf = timeout if broker == "redis" else {}
    with working(broker, tmp_path, conf=conf) as lab:
        cell = Cell(lab, "below")
        path = str(cell.notes)
        cell.visit(lambda: delay_with_context(cell.task("stall_once"), path))
        assert cell.noted(1) == [cell.url]
        lab.worker.kill()
        time.sleep(1.1 if conf else 0)
        lab.worker = ways.start_worker(lab.settings, tmp_path)
        assert cell.noted(2) == [cell.url] * 2
