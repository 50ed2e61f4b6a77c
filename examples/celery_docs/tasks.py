"""One task as Flask's documentation has it, and one that knows the visitor."""

from __future__ import annotations

import time
from typing import Any

from celery import Task
from celery import shared_task
from flask import request
from flask import url_for

from flask_task_context import with_request_context


@shared_task(ignore_result=False)
def add(a: int, b: int) -> int:
    return a + b


@shared_task(bind=True, ignore_result=False)
@with_request_context
def process(self: Task, total: int) -> dict[str, Any]:
    for current in range(total):
        self.update_state(state="PROGRESS", meta={"current": current, "total": total})
        time.sleep(1)
    languages = request.accept_languages
    return {
        "total": total,
        "language": languages.best_match(["en", "de", "fr"], default="en"),
        "link": url_for("tasks.result", task_id=self.request.id, _external=True),
    }
