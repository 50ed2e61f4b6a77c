"""The mails. All of this runs in the worker."""

from __future__ import annotations

import secrets
import smtplib
import time
from email.message import EmailMessage

from celery import Task
from celery import shared_task
from flask import current_app
from flask import render_template
from flask import request
from flask import url_for

from flask_task_context import with_request_context

LANGUAGES = ["en", "de", "fr"]


@shared_task(ignore_result=False)
@with_request_context
def send_invitation(email: str) -> str:
    return mail_invitation(email)


@shared_task(ignore_result=False)
def send_invitation_without(email: str) -> str:
    """The same without the library: an app context, as in Flask's documentation."""
    from .worker import flask_app

    with flask_app.app_context():
        return mail_invitation(email)


@shared_task(bind=True, ignore_result=False)
@with_request_context
def send_invitations(self: Task, emails: list[str]) -> str:
    """A longer job that reports how far it is."""
    for done, email in enumerate(emails):
        self.update_state(state="PROGRESS", meta={"done": done, "total": len(emails)})
        mail_invitation(email)
        time.sleep(1)
    return f"{len(emails)} invitations"


def mail_invitation(email: str) -> str:
    """Write to *email* in the visitor's language, with a link to the visitor's host."""
    link = url_for("invitations.join", code=secrets.token_hex(4), _external=True)
    language = request.accept_languages.best_match(LANGUAGES, default="en")
    written = render_template(f"mail/{language}.txt", link=link)
    subject, _, text = written.partition("\n\n")

    message = EmailMessage()
    message["From"] = "party@example.com"
    message["To"] = email
    message["Subject"] = subject
    message.set_content(text)
    message["Content-Language"] = language
    with smtplib.SMTP(
        current_app.config["MAIL_SERVER"], current_app.config["MAIL_PORT"], timeout=10
    ) as server:
        server.send_message(message)
    return f"invitation to {email}"
