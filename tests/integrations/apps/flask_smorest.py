"""An app with flask-smorest."""

from __future__ import annotations

import typing as t

import flask
import flask_smorest

from tests.integrations.apps import orders
from tests.integrations.apps.orders import create_celery

__all__ = ["create_app", "create_celery"]


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("orders")
    app.config.update(
        config,
        SECRET_KEY="orders",
        API_TITLE="Orders",
        API_VERSION="1",
        OPENAPI_VERSION="3.0.2",
    )
    blueprint = flask_smorest.Blueprint("orders", __name__, url_prefix="/orders")

    @blueprint.post("/")
    @blueprint.arguments(orders.Order)
    @blueprint.arguments(orders.Options, location="query")
    @blueprint.response(200)
    def place(order: t.Any, options: t.Any) -> t.Any:
        return orders.answer(order, options)

    @blueprint.get("/<int:number>")
    def show(number: int) -> str:
        return f"order {number}"

    flask_smorest.Api(app).register_blueprint(blueprint)
    return app
