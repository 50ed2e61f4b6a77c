"""An app with Flask-Dance, and the provider that its users come from."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery
from flask_dance.contrib.github import github
from flask_dance.contrib.github import make_github_blueprint

from tests.integrations.apps import all_three
from tests.integrations.apps import celery_with


def create_provider() -> flask.Flask:
    """GitHub, as far as the dance knows it: all are anna."""
    provider = flask.Flask("provider")

    @provider.get("/authorize")
    def authorize() -> t.Any:
        query = flask.request.args
        back = f"{query['redirect_uri']}?code=1&state={query['state']}"
        return flask.redirect(back)

    @provider.post("/token")
    def token() -> t.Any:
        return {"access_token": "annas-token", "token_type": "bearer"}

    @provider.get("/user")
    def user() -> t.Any:
        known = flask.request.headers.get("Authorization") == "Bearer annas-token"
        return {"login": "anna" if known else None}

    return provider


def user() -> t.Any:
    return github.get("/user").json()["login"]


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("dance")
    app.config.update(
        config,
        SECRET_KEY="dance",
        GITHUB_OAUTH_CLIENT_ID="shop",
        GITHUB_OAUTH_CLIENT_SECRET="the shop's secret",
    )
    blueprint = make_github_blueprint(redirect_to="ask")
    blueprint.base_url = config["PROVIDER"]
    blueprint.authorization_url = f"{config['PROVIDER']}/authorize"
    blueprint.token_url = f"{config['PROVIDER']}/token"
    app.register_blueprint(blueprint)

    @app.get("/")
    def ask() -> t.Any:
        return all_three(user)

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(user, conf=conf)
