"""An app with Flask-JWT-Extended."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import flask
import flask_jwt_extended as jwt
from celery import Celery

from flask_task_context import apply_async_with_context
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task
from tests.integrations.apps import outcome
from tests.integrations.apps import task_named


def identity() -> t.Any:
    return [jwt.get_jwt_identity(), jwt.get_jwt()["role"], jwt.get_current_user()]


def verified_identity() -> t.Any:
    jwt.verify_jwt_in_request()
    return identity()


def identity_in_g() -> t.Any:
    return flask.g.identity


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("jwt")
    app.config.update(
        SECRET_KEY="the key that the tests of Flask-JWT-Extended sign with",
        JWT_TOKEN_LOCATION=["headers", "cookies", "query_string"],
        TASK_CONTEXT_G=["identity"],
    )
    app.config.update(config)
    manager = jwt.JWTManager(app)

    @manager.user_lookup_loader
    def load_user(header: dict[str, t.Any], claims: dict[str, t.Any]) -> str:
        return f"user {claims['sub']}"

    @app.post("/login/<name>")
    def login(name: str) -> t.Any:
        seconds = flask.request.args.get("seconds", 60, int)
        token = jwt.create_access_token(
            name,
            additional_claims={"role": "editor"},
            expires_delta=timedelta(seconds=seconds),
        )
        response = flask.jsonify(token=token)
        if "cookie" in flask.request.args:
            jwt.set_access_cookies(response, token)
        return response

    @app.route("/identity", methods=["GET", "POST"])
    @jwt.jwt_required()
    def show() -> t.Any:
        return {"view": identity(), "task": in_task("verified_identity")}

    @app.get("/unverified")
    @jwt.jwt_required()
    def show_unverified() -> t.Any:
        return {"task": in_task("identity")}

    @app.get("/late")
    @jwt.jwt_required()
    def show_late() -> t.Any:
        task = task_named("verified_identity")
        return {"task": outcome(apply_async_with_context(task, countdown=2))}

    @app.get("/in-g")
    @jwt.jwt_required()
    def show_in_g() -> t.Any:
        flask.g.identity = jwt.get_jwt_identity()
        return {"task": in_task("identity_in_g")}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(identity, verified_identity, identity_in_g, conf=conf)
