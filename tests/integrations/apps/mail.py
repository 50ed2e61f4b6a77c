"""What the apps with Flask-Mailman and with Flask-Mail have in common."""

from __future__ import annotations

import typing as t

import flask
from celery import Celery

from flask_task_context import delay_with_context
from flask_task_context import with_request_context

SUBJECTS = {"en": "Your invitation", "de": "Ihre Einladung für morgen"}
BODY = (
    "{{ url_for('join', name=name, _external=True) }}?from={{ request.form['from'] }}"
)


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("mail")
    app.config.update(
        config,
        SECRET_KEY="mail",
        MAIL_SERVER="127.0.0.1",
        MAIL_DEFAULT_SENDER="shop@shop.example",
    )

    @app.post("/invite/<name>")
    def invite(name: str) -> t.Any:
        task = app.extensions["celery"].tasks["send_invitation"]
        delay_with_context(task, name).get(timeout=30)
        return "sent"

    @app.get("/join/<name>")
    def join(name: str) -> str:
        return f"Hello, {name}!"

    return app


def create_celery(send: t.Callable[[str, str, str], None], **conf: t.Any) -> Celery:
    """:param send: sends a mail with this subject, text and receiver."""

    def send_invitation(name: str) -> None:
        language = flask.request.accept_languages.best_match(SUBJECTS)
        text = flask.render_template_string(BODY, name=name)
        send(SUBJECTS[language or "en"], text, f"{name}@shop.example")

    celery = Celery("mail", set_as_current=False)
    celery.conf.update(conf)
    task = with_request_context(send_invitation)
    celery.task(task, name="send_invitation", shared=False)
    return celery
