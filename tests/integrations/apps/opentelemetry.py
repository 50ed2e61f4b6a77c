"""An app with OpenTelemetry's instrumentations of Flask and Celery, as ``TOOLS`` in its
config names them, and with the documentation's recipe where that says ``RECIPE``."""

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import flask
from celery import Celery
from opentelemetry import baggage
from opentelemetry import trace as tracing
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.integrations.apps import traced
from tests.integrations.recipes import recipe_module

# One span a line, by whichever process it was made in.
provider = TracerProvider()
spans = Path(traced.CONFIG["SPANS"]).open("a")  # noqa: SIM115 - for the process's life
exporter = ConsoleSpanExporter(
    out=spans, formatter=lambda s: s.to_json(None) + os.linesep
)
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracing.set_tracer_provider(provider)


recipes: list[types.ModuleType] = []  # Their receivers are held weakly.


def start() -> None:
    FlaskInstrumentor().instrument()
    if "celery" in traced.CONFIG["TOOLS"]:
        CeleryInstrumentor().instrument()
    if "recipe" in traced.CONFIG["TOOLS"]:
        recipes.append(recipe_module("propagate.inject", "opentelemetry"))


if traced.CONFIG["FIRST"]:
    start()


def trace() -> str:
    with tracing.get_tracer(__name__).start_as_current_span("look") as span:
        seen = tracing.format_trace_id(span.get_span_context().trace_id)
    return f"{seen} {baggage.get_baggage('visitor')}"


def create_app(**config: t.Any) -> flask.Flask:
    app = traced.create_app(trace)
    if not config["FIRST"]:
        FlaskInstrumentor().instrument_app(app)
        start()
    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return traced.create_celery(flask_app, trace, conf)
