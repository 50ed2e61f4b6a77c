"""A worker that pushes a context when it is imported, and never pops it."""

import contextvars
import os
import typing as t

from celery.signals import task_prerun

from flask_task_context import with_request_context
from tests import ways_tasks

app = ways_tasks.start_worker_process()
if os.environ["PUSHED"] == "app":
    ways_tasks.SERVING[-1].app_context().push()
else:
    ways_tasks.SERVING[-1].test_request_context("/", "http://pushed/").push()
bound = contextvars.ContextVar("bound", default="nothing")


@task_prerun.connect
def bind(task_id: str, **signal: t.Any) -> None:
    bound.set(task_id)


@app.task(name="bound")
@with_request_context
def read_bound() -> str:
    return bound.get()
