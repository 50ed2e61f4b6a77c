"""The README's recipe for OpenTelemetry, as an application would have it."""

from opentelemetry import context
from opentelemetry import propagate

from flask_task_context import context_captured
from flask_task_context import context_restored


@context_captured.connect
def send_trace(app, entries):
    entries["trace"] = carrier = {}
    propagate.inject(carrier)


@context_restored.connect
def continue_trace(app, entries):
    context.attach(propagate.extract(entries.get("trace", {})))
