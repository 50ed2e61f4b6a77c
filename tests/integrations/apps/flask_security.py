"""An app with Flask-Security, and its models of Flask-SQLAlchemy."""

from __future__ import annotations

import typing as t

import flask
import flask_security
from celery import Celery
from flask_principal import Permission
from flask_principal import RoleNeed
from flask_security import Security
from flask_security import SQLAlchemyUserDatastore
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy

from tests.integrations.apps import all_three
from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task

EMAIL, PASSWORD = "anna@example.com", "a long password of anna"

db = SQLAlchemy()
fsqla_v3.FsModels.set_db_info(db)


class Role(db.Model, fsqla_v3.FsRoleMixin):  # type: ignore[name-defined,misc]
    pass


class User(db.Model, fsqla_v3.FsUserMixin):  # type: ignore[name-defined,misc]
    pass


def who() -> t.Any:
    user = flask_security.current_user
    if not user.is_authenticated:
        return None
    return [user.email, user.has_role("editor"), user.has_permission("note-write")]


def may_edit() -> bool:
    return bool(Permission(RoleNeed("editor")).can())


@flask_security.roles_required("editor")
def edit() -> str:
    return "edited"


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("security")
    app.config.update(
        config,
        SECRET_KEY="security",
        SECURITY_PASSWORD_HASH="pbkdf2_sha512",
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
    )
    db.init_app(app)
    datastore = SQLAlchemyUserDatastore(db, User, Role)
    Security(app, datastore)
    with app.app_context():
        db.create_all()
        if not datastore.find_user(email=EMAIL):
            editor = datastore.create_role(name="editor", permissions={"note-write"})
            password = flask_security.hash_password(PASSWORD)
            datastore.create_user(email=EMAIL, password=password, roles=[editor])
            db.session.commit()

    @app.get("/who")
    def ask() -> t.Any:
        return both(who)

    @app.get("/token")
    @flask_security.auth_required("token")
    def ask_with_token() -> t.Any:
        return both(who)

    @app.get("/may-edit")
    def ask_for_permission() -> t.Any:
        return {**all_three(may_edit), "edit": in_task("edit_after_hooks")}

    return app


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(who, may_edit, edit, conf=conf)
