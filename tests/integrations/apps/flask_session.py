"""An app with Flask-Session, whose sessions are in Redis."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask_session import Session
from redis import Redis

from flask_task_context import apply_async_with_context
from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import task_named


def cart() -> t.Any:
    return flask.session.get("cart")


def empty_cart() -> t.Any:
    flask.session["cart"] = []
    flask.session["emptied"] = True
    return dict(flask.session)


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("session")
    redis = Redis.from_url(config["SESSION_REDIS_URL"])
    app.config.update(config, SESSION_TYPE="redis", SESSION_REDIS=redis)
    app.config.update(SECRET_KEY="session")
    Session(app)

    @app.post("/cart/<item>")
    def add(item: str) -> t.Any:
        flask.session["cart"] = [*flask.session.get("cart", ()), item]
        return both(cart)

    @app.get("/")
    def show() -> t.Any:
        return both(cart)

    @app.post("/empty")
    def empty_later() -> str:
        result = apply_async_with_context(task_named("empty_cart"), countdown=1)
        return t.cast("str", result.id)

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(cart, empty_cart, conf=conf)
