"""An app with Flask-Mail."""

from __future__ import annotations

import typing as t

import flask
import flask_mail
from celery import Celery

from tests.integrations.apps import mail


def create_app(**config: t.Any) -> flask.Flask:
    app = mail.create_app(**config)
    flask_mail.Mail(app)
    return app


def send(subject: str, text: str, receiver: str) -> None:
    message = flask_mail.Message(subject, body=text, recipients=[receiver])
    flask.current_app.extensions["mail"].send(message)


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return mail.create_celery(send, **conf)
