"""An app whose code asks where it runs, as docs/how-to/packages.md says."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery

from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task
from tests.integrations.apps import task_named
from tests.integrations.recipes import recipe_module

recipe = recipe_module("in_worker", "packages")


def look() -> t.Any:
    return [flask.has_request_context(), recipe.in_worker()]


def call() -> t.Any:
    return task_named("look")()


def hook() -> t.Any:
    return flask.g.hook


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("web_or_worker")
    app.config.update(config, SECRET_KEY="web_or_worker")

    @app.before_request
    def before() -> None:
        flask.g.hook = look()

    @app.get("/")
    def ask() -> t.Any:
        return {
            "view": look(),
            "view's hook": hook(),
            "called in the view": call(),
            "eager in the view": task_named("look").apply().get(),
            "sent by the view": in_task("look"),
            "called in a task": in_task("call"),
            "task's hook": in_task("hook_after_hooks"),
            "sent without a request": task_named("look").delay().get(timeout=30),
        }

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(look, call, hook, conf=conf)
