"""An app with sentry-sdk, set up as docs/how-to/sentry.md says."""

from __future__ import annotations

import os
import types
import typing as t

import flask
import sentry_sdk
from celery import Celery

from tests.integrations.apps import traced
from tests.integrations.recipes import recipe_module

RECIPE: list[types.ModuleType] = []  # blinker holds its receiver weakly


def start() -> None:
    RECIPE.append(recipe_module("sentry_sdk", "sentry"))


os.environ["SENTRY_DSN"] = traced.CONFIG["DSN"]
if traced.CONFIG["FIRST"]:
    sentry_sdk.init(traces_sample_rate=1.0)


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
