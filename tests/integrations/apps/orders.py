"""What the apps with APIFlask and with flask-smorest have in common."""

from __future__ import annotations

import typing as t

import flask
import marshmallow
from celery import Celery
from marshmallow import fields
from webargs.flaskparser import parser

from flask_task_context import delay_with_context
from flask_task_context import with_request_context


class Order(marshmallow.Schema):
    fruit = fields.String(required=True)
    pieces = fields.Integer(required=True)


class Options(marshmallow.Schema):
    gift = fields.Boolean(load_default=False)
    tags = fields.List(fields.String())

    class Meta:
        unknown = marshmallow.EXCLUDE


def see() -> dict[str, t.Any]:
    """The request as the framework's own schemas read it, and links."""
    return {
        "order": parser.parse(Order, location="json"),
        "options": parser.parse(Options, location="query"),
        "raw": flask.request.get_data(as_text=True),
        "blueprint": flask.request.blueprint,
        "link": flask.url_for("orders.show", number=3, _external=True),
        "sibling": flask.url_for(".show", number=3),
    }


def answer(order: t.Any, options: t.Any) -> dict[str, t.Any]:
    """What the view was given, what it can read, and what the task can."""
    task = flask.current_app.extensions["celery"].tasks["see"]
    result = delay_with_context(task).get(timeout=30)
    return {
        "given": {"order": order, "options": options},
        "view": see(),
        "task": result,
    }


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    celery = Celery("orders", set_as_current=False)
    celery.conf.update(conf)
    celery.task(with_request_context(see), name="see", shared=False)
    return celery
