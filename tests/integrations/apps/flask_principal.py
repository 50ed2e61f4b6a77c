"""An app with Flask-Principal, whose identities come from the session."""

from __future__ import annotations

import typing as t

import flask
import flask_principal
from celery import Celery
from flask_principal import Identity
from flask_principal import Permission
from flask_principal import RoleNeed

from tests.integrations.apps import all_three
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

ROLES = {"anna": "editor", "ben": "reader"}
editing = Permission(RoleNeed("editor"))


def may_edit() -> t.Any:
    return [flask.g.identity.id, editing.can()]


def edit() -> str:
    with editing.require():
        return "edited"


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("principal")
    app.config.update(config, SECRET_KEY="principal")
    flask_principal.Principal(app)

    @flask_principal.identity_loaded.connect_via(app)
    def add_role(sender: flask.Flask, identity: Identity) -> None:
        identity.provides.add(RoleNeed(ROLES[identity.id]))

    # The signal holds its receivers weakly.
    app.extensions["add_role"] = add_role

    @app.post("/login/<name>")
    def login(name: str) -> t.Any:
        flask_principal.identity_changed.send(app, identity=Identity(name))
        return ask()

    @app.get("/")
    def ask() -> t.Any:
        return all_three(may_edit)

    @app.post("/edit")
    def edit_in_task() -> t.Any:
        return {"task": in_task("edit_after_hooks")}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(may_edit, edit, conf=conf)
