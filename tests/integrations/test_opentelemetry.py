"""OpenTelemetry: one trace from the view to the task."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest

from tests.integrations.conftest import ONE_PROCESS
from tests.integrations.conftest import Open
from tests.integrations.conftest import Site


class Spans:
    """What the exporters of both processes have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tree(self, count: int) -> list[str]:
        """Each span's name with those above it, when there are so many."""
        deadline = time.monotonic() + 30
        while len(lines := self.path.read_text().splitlines()) < count:
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)
        spans = [json.loads(line) for line in lines]
        by_id = {span["context"]["span_id"]: span for span in spans}

        def above(span: t.Any) -> str:
            parent = by_id.get(span["parent_id"])
            return f"{above(parent)} > {span['name']}" if parent else span["name"]

        return sorted(map(above, spans))


VISITOR = {"Host": "anna.example", "baggage": "visitor=anna"}


def visit(site: Site) -> None:
    """A task, and one that it sends, which is sent anew twice."""
    answer = site.post("/parent?a=1", headers=VISITOR).json()
    assert answer["trace"].endswith(" anna")
    url = "http://anna.example/parent?a=1"
    seen = {"trace": answer["trace"], "url": url, "mine": "1"}
    child = {**seen, "mine": None}
    assert answer["task"] == {**seen, "child": child}


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_tasks_span_is_below_the_one_that_sent_it(
    open_apart: Open, tmp_path: Path, first: bool
) -> None:
    """With the instrumentations of Flask and Celery, whichever is imported first, the
    view's trace, its baggage and its request are in the task, in its retries and in
    what it sends, and each span is where it belongs."""
    spans = Spans(tmp_path / "spans")
    path = str(spans.path)
    site = open_apart(
        "opentelemetry", *ONE_PROCESS, SPANS=path, TOOLS=["celery"], FIRST=first
    )
    visit(site)
    view = "POST /<name>"
    parent = f"{view} > apply_async/parent > run/parent"
    retried = " > apply_async/retried > run/retried"
    assert spans.tree(12) == sorted(
        [
            view,
            f"{view} > look",
            f"{view} > apply_async/parent",
            parent,
            f"{parent} > look",
            *(f"{parent}{retried * n} > apply_async/retried" for n in range(3)),
            *(f"{parent}{retried * n}" for n in (1, 2, 3)),
            f"{parent}{retried * 3} > look",
        ]
    )


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_the_recipe_continues_the_trace(
    open_apart: Open, tmp_path: Path, pool: str
) -> None:
    """Without an instrumentation of Celery, the documentation's recipe puts the spans of the
    task below the view's. A task without a request has nothing of the one before."""
    spans = Spans(tmp_path / "spans")
    path = str(spans.path)
    options = f"--pool={pool}", "--concurrency=1"
    site = open_apart(
        "opentelemetry", *options, SPANS=path, TOOLS=["recipe"], FIRST=False
    )
    visit(site)
    alone = site.get("/alone", headers=VISITOR).json()
    assert alone["trace"].endswith(" anna")
    assert alone["task"].endswith(" None")
    view = "POST /<name>"
    looks = [f"{view} > look"] * 3
    assert spans.tree(7) == ["GET /alone", "GET /alone > look", view, *looks, "look"]
