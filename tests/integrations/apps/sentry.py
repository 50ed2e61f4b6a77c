"""An app with sentry-sdk, its Flask and Celery integrations on."""

from __future__ import annotations

import typing as t

import flask
import sentry_sdk
from celery import Celery
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.flask import FlaskIntegration

from tests.integrations.apps import traced


def start() -> None:
    sentry_sdk.init(
        dsn=traced.CONFIG["DSN"],
        traces_sample_rate=1.0,
        integrations=[FlaskIntegration(), CeleryIntegration()],
    )


if traced.CONFIG["FIRST"]:
    start()


def trace() -> str:
    span = sentry_sdk.get_current_span()
    return span.trace_id if span else "none"


def create_app(**config: t.Any) -> flask.Flask:
    app = traced.create_app(trace)
    if not config["FIRST"]:
        start()
    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return traced.create_celery(flask_app, trace, conf)
