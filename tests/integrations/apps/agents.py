"""An app under the agent that ``AGENT`` in its config names."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery

from tests.integrations.apps import traced

AGENT = traced.CONFIG["AGENT"]


def trace() -> str:
    if AGENT == "ddtrace":
        from ddtrace.trace import tracer

        context = tracer.current_trace_context()
        return f"{context.trace_id:x}" if context else "none"
    if AGENT == "newrelic":
        import newrelic.agent

        return str(newrelic.agent.current_trace_id())
    import elasticapm

    return str(elasticapm.get_trace_id())


def create_app(**config: t.Any) -> flask.Flask:
    app = traced.create_app(trace)
    if AGENT == "elasticapm":
        from elasticapm.contrib.celery import register_exception_tracking
        from elasticapm.contrib.celery import register_instrumentation
        from elasticapm.contrib.flask import ElasticAPM

        client = ElasticAPM(app).client
        register_exception_tracking(client)
        register_instrumentation(client)
    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = traced.create_celery(flask_app, trace, conf)
    celery.set_default()  # ddtrace looks a task up in the current app.
    return celery
