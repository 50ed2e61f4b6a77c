"""An app with a schedule in RedBeat: one task without a request, one with."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import flask
from celery import Celery
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry

from flask_task_context import capture_context
from tests.integrations.apps import celery_with


def note(path: str, name: str) -> None:
    seen = flask.request.url if flask.request else flask.current_app.name
    with Path(path).open("a") as file:
        file.write(json.dumps([name, seen]) + "\n")


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("redbeat")
    app.config.update(config, SECRET_KEY="redbeat")

    @app.get("/schedule/<name>")
    def add(name: str) -> t.Any:
        celery = app.extensions["celery"]
        entry = RedBeatSchedulerEntry(
            name,
            "note",
            schedule(0.3, app=celery),
            args=[config["PATH"], name],
            options={"headers": capture_context()},
            app=celery,
        )
        return [entry.save().key]

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    config = flask_app.config
    celery = celery_with(note, conf=conf)
    celery.conf.update(
        redbeat_redis_url=config["REDIS"],
        redbeat_key_prefix=config["PREFIX"],
        beat_max_loop_interval=0.2,
    )
    with flask_app.test_request_context(base_url="https://shop.example"):
        headers = capture_context()
    celery.conf.beat_schedule = {
        name: {
            "task": "note",
            "schedule": 0.3,
            "args": [config["PATH"], name],
            "options": {"headers": headers} if name == "with" else {},
        }
        for name in ("with", "without")
    }
    return celery
