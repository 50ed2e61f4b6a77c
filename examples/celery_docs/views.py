"""A page that starts tasks, and what it asks for their results."""

from __future__ import annotations

from celery.result import AsyncResult
from flask import Blueprint
from flask import current_app
from flask import render_template
from flask import request
from flask.typing import ResponseReturnValue

from flask_task_context import delay_with_context

from . import tasks

bp = Blueprint("tasks", __name__)


@bp.get("/")
def index() -> ResponseReturnValue:
    return render_template("index.html")


@bp.post("/add")
def add() -> ResponseReturnValue:
    a = request.form.get("a", 0, type=int)
    b = request.form.get("b", 0, type=int)
    result = tasks.add.delay(a, b)
    return {"result_id": result.id}


@bp.post("/process")
def process() -> ResponseReturnValue:
    total = request.form.get("total", 0, type=int)
    result = delay_with_context(tasks.process, total)
    return {"result_id": result.id}


@bp.get("/result/<task_id>")
def result(task_id: str) -> ResponseReturnValue:
    found = AsyncResult(task_id, app=current_app.extensions["celery"])
    ready = found.ready()
    successful = found.successful() if ready else None
    if ready and not successful:
        value = f"{type(found.result).__name__}: {found.result}"
    else:
        value = found.result
    return {"ready": ready, "successful": successful, "value": value}
