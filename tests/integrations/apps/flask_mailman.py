"""An app with Flask-Mailman."""

from __future__ import annotations

import typing as t

import flask
import flask_mailman
from celery import Celery

from tests.integrations.apps import mail


def create_app(**config: t.Any) -> flask.Flask:
    app = mail.create_app(**config)
    flask_mailman.Mail(app)
    return app


def send(subject: str, text: str, receiver: str) -> None:
    flask_mailman.EmailMessage(subject, text, to=[receiver]).send()


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return mail.create_celery(send, **conf)
