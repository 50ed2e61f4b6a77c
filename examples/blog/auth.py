"""Who is there: register, log in, log out, and ``g.user``."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable

from flask import Blueprint
from flask import flash
from flask import g
from flask import redirect
from flask import render_template
from flask import request
from flask import session
from flask import url_for
from flask.typing import ResponseReturnValue
from werkzeug.security import check_password_hash
from werkzeug.security import generate_password_hash

from .db import get_db

View = Callable[..., ResponseReturnValue]

bp = Blueprint("auth", __name__, url_prefix="/auth")


@bp.before_app_request
def load_logged_in_user() -> None:
    """Runs before each view, and in the worker before the task."""
    g.user = (
        get_db()
        .execute("SELECT * FROM user WHERE id = ?", (session.get("user_id"),))
        .fetchone()
    )


def login_required(view: View) -> View:
    """Send visitors who are not logged in to the login page."""

    @functools.wraps(view)
    def wrapped_view(**kwargs: object) -> ResponseReturnValue:
        if g.user is None:
            return redirect(url_for("auth.login"))
        return view(**kwargs)

    return wrapped_view


@bp.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    if request.method == "POST":
        error = add_user(request.form["username"], request.form["password"])
        if error is None:
            flash("You are registered. Log in now.")
            return redirect(url_for("auth.login"))
        flash(error)
    return render_template("auth/register.html")


def add_user(username: str, password: str) -> str | None:
    """Return what is wrong, if anything is."""
    if not username or not password:
        return "Give a username and a password."
    db = get_db()
    try:
        db.execute(
            "INSERT INTO user (username, password) VALUES (?, ?)",
            (username, generate_password_hash(password)),
        )
        db.commit()
    except sqlite3.IntegrityError:
        return f"The username {username!r} is taken."
    return None


@bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "POST":
        user = (
            get_db()
            .execute(
                "SELECT * FROM user WHERE username = ?", (request.form["username"],)
            )
            .fetchone()
        )
        if user and check_password_hash(user["password"], request.form["password"]):
            session.clear()
            session["user_id"] = user["id"]
            return redirect(url_for("blog.index"))
        flash("The username or the password is wrong.")
    return render_template("auth/login.html")


@bp.get("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return redirect(url_for("blog.index"))
