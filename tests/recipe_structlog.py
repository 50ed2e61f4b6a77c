"""The README's recipe for structlog, as an application would have it."""

from structlog.contextvars import bind_contextvars
from structlog.contextvars import get_contextvars

from flask_task_context import context_captured
from flask_task_context import context_restored


@context_captured.connect
def send_log_variables(app, entries):
    entries["log"] = get_contextvars()


@context_restored.connect
def bind_log_variables(app, entries):
    bind_contextvars(**entries.get("log", {}))
