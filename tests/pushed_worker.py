"""A worker that pushes a context when it is imported, and never pops it."""

import contextvars
import os
import typing as t

from celery.signals import task_prerun

from flask_task_context import capture_context
from flask_task_context import restore_context
from flask_task_context import with_request_context
from tests import ways_tasks

app = ways_tasks.start_worker_process()
serving = ways_tasks.SERVING[-1]
if os.environ["PUSHED"] == "app":
    serving.app_context().push()
elif os.environ["PUSHED"] == "request":
    serving.test_request_context("/", "http://pushed/").push()
else:
    with serving.test_request_context("/", "http://pushed/"):
        restored = restore_context(capture_context(), serving)
    restored.__enter__()
bound = contextvars.ContextVar("bound", default="nothing")


@task_prerun.connect
def bind(task_id: str, **signal: t.Any) -> None:
    bound.set(task_id)


@app.task(name="bound")
@with_request_context
def read_bound() -> str:
    return bound.get()
