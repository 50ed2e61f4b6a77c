"""The pages: ask for invitations, see how far they are, read them."""

from __future__ import annotations

import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from celery.result import AsyncResult
from flask import Blueprint
from flask import current_app
from flask import redirect
from flask import render_template
from flask import request
from flask import session
from flask import url_for
from flask.typing import ResponseReturnValue

from flask_task_context import delay_with_context

from ..maildir import read_mails
from . import tasks
from .texts import language
from .texts import texts

ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+", re.ASCII)

bp = Blueprint("invitations", __name__)


class Mistake(Exception):
    """What the visitor has to mend in a field of a form."""

    def __init__(self, form: str, field: str, message: str) -> None:
        super().__init__(message)
        self.form = form
        self.field = field


@bp.context_processor
def page_language() -> dict[str, Any]:
    return {"language": language(), "texts": texts()}


@bp.get("/")
def index() -> ResponseReturnValue:
    return form_page()


@bp.errorhandler(Mistake)
def mistaken(mistake: Mistake) -> ResponseReturnValue:
    return form_page(mistake), 400


@bp.post("/invite")
def invite() -> ResponseReturnValue:
    remember_visitor("one")
    email = address("one", "email", request.form["email"])
    result = delay_with_context(tasks.send_invitation, email)
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.post("/invite/without")
def invite_without() -> ResponseReturnValue:
    remember_visitor("one")
    email = address("one", "email", request.form["email"])
    result = tasks.send_invitation_without.delay(email)
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.post("/invite/many")
def invite_many() -> ResponseReturnValue:
    remember_visitor("many")
    lines = [line for line in request.form["emails"].splitlines() if line.strip()]
    emails = [address("many", "emails", line) for line in lines or [""]]
    result = delay_with_context(tasks.send_invitations, emails)
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.get("/tasks/<task_id>")
def status(task_id: str) -> ResponseReturnValue:
    task = task_status(task_id)
    return render_template(
        "status.html", task_id=task_id, task=task, mails=sent_mails(task_id)
    )


@bp.get("/tasks/<task_id>.json")
def status_json(task_id: str) -> ResponseReturnValue:
    return task_status(task_id)


@bp.get("/tasks/<task_id>/mails")
def status_mails(task_id: str) -> ResponseReturnValue:
    """A part of the page, which its script loads again after each mail."""
    return render_template("mails.html", mails=sent_mails(task_id))


@bp.get("/join/<code>")
def join(code: str) -> ResponseReturnValue:
    return render_template("join.html", code=code)


def form_page(mistake: Mistake | None = None) -> str:
    mails = sent_mails()[:10]
    return render_template("index.html", mails=mails, mistake=mistake)


def remember_visitor(form: str) -> None:
    """The session's name signs the mails."""
    name = " ".join(request.form["name"].split())[:80]
    if not name:
        raise Mistake(form, "name", texts()["missing"])
    session["name"] = name


def address(form: str, field: str, text: str) -> str:
    text = text.strip()
    if not text:
        raise Mistake(form, field, texts()["missing"])
    if not ADDRESS.fullmatch(text):
        raise Mistake(form, field, texts()["no_address"].format(text))
    return text


def task_status(task_id: str) -> dict[str, Any]:
    """Where the task is, for programs, and a message for the visitor."""
    result = AsyncResult(task_id, app=current_app.extensions["celery"])
    # In one reading, so that state and progress belong together.
    stored = result.backend.get_task_meta(task_id)
    state, progress = stored["status"], stored["result"]
    if state == "FAILURE":
        error = f"{type(progress).__name__}: {progress}"
        # The error that the task without the library is there to show.
        meant = error.startswith("RuntimeError: Unable to build URLs outside")
        message = f"{texts()['failed_without' if meant else 'failed']} {error}"
        return {"state": state, "finished": True, "error": error, "message": message}
    if state == "SUCCESS":
        message = texts()["finished"].format(**progress)
    elif state == "PROGRESS":
        message = texts()["sending"].format(**progress)
    else:
        progress, message = None, texts()["waiting"]
    finished = state == "SUCCESS"
    return {
        "state": state,
        "finished": finished,
        "progress": progress,
        "message": message,
    }


def sent_mails(task_id: str | None = None) -> list[EmailMessage]:
    """What the demo's mail server got, from all tasks or from one, newest first."""
    folder = current_app.config["MAIL_FOLDER"]
    mails = read_mails(Path(folder)) if folder else []
    return [mail for mail in mails if task_id in (None, mail["X-Task"])]
