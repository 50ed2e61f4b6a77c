"""An app with APIFlask."""

from __future__ import annotations

import typing as t

import apiflask

from tests.integrations.apps import orders
from tests.integrations.apps.orders import create_celery

__all__ = ["create_app", "create_celery"]


def create_app(**config: t.Any) -> apiflask.APIFlask:
    app = apiflask.APIFlask("orders")
    app.config.update(config, SECRET_KEY="orders")
    blueprint = apiflask.APIBlueprint("orders", __name__, url_prefix="/orders")

    @blueprint.post("/")
    @blueprint.input(orders.Order)
    @blueprint.input(orders.Options, location="query")
    def place(json_data: t.Any, query_data: t.Any) -> t.Any:
        return orders.answer(json_data, query_data)

    @blueprint.get("/<int:number>")
    def show(number: int) -> str:
        return f"order {number}"

    app.register_blueprint(blueprint)
    return app
