"""The mails. All of this runs in the worker."""

from __future__ import annotations

import secrets
import smtplib
import time
from email.message import EmailMessage

from celery import Task
from celery import current_task
from celery import shared_task
from flask import current_app
from flask import render_template
from flask import request
from flask import session
from flask import url_for

from flask_task_context import with_request_context

from .texts import language


@shared_task(ignore_result=False)
@with_request_context
def send_invitation(email: str) -> dict[str, int]:
    mail_invitation(email)
    return {"done": 1, "total": 1}


@shared_task(ignore_result=False)
def send_invitation_without(email: str) -> dict[str, int]:
    """The same without the library: an app context, as in Flask's documentation."""
    from .worker import flask_app

    with flask_app.app_context():
        mail_invitation(email)
        return {"done": 1, "total": 1}


@shared_task(bind=True, ignore_result=False)
@with_request_context
def send_invitations(self: Task, emails: list[str]) -> dict[str, int]:
    """A longer job that reports how far it is."""
    total = len(emails)
    for done, email in enumerate(emails, start=1):
        mail_invitation(email)
        self.update_state(state="PROGRESS", meta={"done": done, "total": total})
        time.sleep(1)  # else there would be nothing to watch
    return {"done": total, "total": total}


def mail_invitation(email: str) -> None:
    """Write to *email* in the visitor's language, with a link to the visitor's host."""
    link = url_for("invitations.join", code=secrets.token_hex(4), _external=True)
    written = render_template(f"mail/{language()}.txt", link=link)
    subject, _, text = written.partition("\n\n")

    message = EmailMessage()
    message["From"] = "party@example.com"
    message["To"] = email
    message["Subject"] = subject
    message.set_content(text)
    # What the task has seen; the page shows it beside the mail.
    message["Content-Language"] = language()
    message["X-Host"] = request.host
    message["X-Visitor"] = session["name"]
    message["X-Task"] = current_task.request.id
    with smtplib.SMTP(
        current_app.config["MAIL_SERVER"], current_app.config["MAIL_PORT"], timeout=10
    ) as server:
        server.send_message(message)
