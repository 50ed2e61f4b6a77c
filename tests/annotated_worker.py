"""A worker whose tasks are annotated with a name that is imported for type checkers
alone. Python evaluates no annotation before it is read since 3.14; before, this module
cannot be imported."""

import json
import os
import typing as t

import flask

from flask_task_context import init_app
from flask_task_context import with_request_context
from tests import shop

if t.TYPE_CHECKING:
    from decimal import Decimal

settings = json.loads(os.environ["SHOP_SETTINGS"])
init_app(shop.create_app(**settings["flask"]))
app = shop.create_celery(**settings["celery"])


@app.task(name="annotated.below")
@with_request_context
def below(price: Decimal) -> list[Decimal | str]:
    return [price, flask.request.url]


@with_request_context
@app.task(name="annotated.above")
def above(price: Decimal) -> list[Decimal | str]:
    return [price, flask.request.url]
