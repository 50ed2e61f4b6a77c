"""The pages: ask for invitations, see how far they are, read them."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any

from celery.result import AsyncResult
from flask import Blueprint
from flask import abort
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

bp = Blueprint("invitations", __name__)


@bp.get("/")
def index() -> ResponseReturnValue:
    return render_template("index.html", mails=sent_mails())


@bp.post("/invite")
def invite() -> ResponseReturnValue:
    session["name"] = request.form["name"]  # the mail is signed with it
    result = delay_with_context(tasks.send_invitation, request.form["email"])
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.post("/invite/without")
def invite_without() -> ResponseReturnValue:
    session["name"] = request.form["name"]
    result = tasks.send_invitation_without.delay(request.form["email"])
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.post("/invite/many")
def invite_many() -> ResponseReturnValue:
    emails = request.form["emails"].split()
    if not emails:
        abort(400, "Enter one address or more.")
    result = delay_with_context(tasks.send_invitations, emails)
    return redirect(url_for(".status", task_id=result.id), 303)


@bp.get("/tasks/<task_id>")
def status(task_id: str) -> ResponseReturnValue:
    return render_template("status.html", task=progress(task_id), mails=sent_mails())


@bp.get("/tasks/<task_id>.json")
def status_json(task_id: str) -> ResponseReturnValue:
    return progress(task_id)


@bp.get("/join/<code>")
def join(code: str) -> ResponseReturnValue:
    return render_template("join.html", code=code)


def progress(task_id: str) -> dict[str, Any]:
    result = AsyncResult(task_id, app=current_app.extensions["celery"])
    state, info = result.state, result.info
    if state == "FAILURE":
        return {"state": state, "error": f"{type(info).__name__}: {info}"}
    if state == "SUCCESS":
        return {"state": state, "result": info}
    return {"state": state, "progress": info if state == "PROGRESS" else None}


def sent_mails() -> list[EmailMessage]:
    """What arrived at the demo's mail server, newest first."""
    folder = current_app.config["MAIL_FOLDER"]
    return read_mails(Path(folder)) if folder else []
