"""The table of docs/reference/ways.md, cell by cell, with a worker in a process of its own."""

from __future__ import annotations

from pathlib import Path

import celery
import pytest

from tests import ways
from tests.ways import Cell
from tests.ways import Lab
from tests.ways import Way

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "ways.md"
pytestmark = ways.quiet


@pytest.fixture(params=["redis", "rabbitmq"], scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """Where the tasks are sent from; the worker is shared by the test files."""
    return ways.shared_lab(request.param)


@pytest.mark.parametrize("kind", ways.LABELS)
@pytest.mark.parametrize("way", ways.WAYS, ids=lambda way: way.name)
def test_the_cell_says_what_the_task_sees(way: Way, kind: str, lab: Lab) -> None:
    """Every task of a row runs, and in the context that the cell states."""
    if way.since > celery.VERSION:
        pytest.skip(f"this way is new in Celery {way.since}")
    cell = Cell(lab, kind)
    result = cell.visit(lambda: way.send(cell)) if way.inside else way.send(cell)
    seen = cell.seen(result, way.count)
    assert seen == [way.expected(kind)] * (way.count if way.once else len(seen) or 1)


def test_the_documentation_holds_the_table() -> None:
    """What is documented is what is tested."""
    assert ways.table() in DOCUMENT.read_text()
