"""The posts: read them all or one, write, change and delete one's own."""

from __future__ import annotations

import sqlite3
from typing import cast

from flask import Blueprint
from flask import abort
from flask import flash
from flask import g
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue

from flask_task_context import delay_with_context

from . import tasks
from .auth import login_required
from .db import get_db

bp = Blueprint("blog", __name__)


@bp.get("/")
def index() -> ResponseReturnValue:
    posts = get_db().execute(
        "SELECT post.*, username FROM post JOIN user ON author_id = user.id"
        " ORDER BY post.id DESC"
    )
    return render_template("blog/index.html", posts=posts.fetchall())


@bp.get("/<int:post_id>")
def show(post_id: int) -> ResponseReturnValue:
    return render_template("blog/show.html", post=get_post(post_id))


@bp.route("/create", methods=["GET", "POST"])
@login_required
def create() -> ResponseReturnValue:
    if request.method == "POST":
        if request.form["title"]:
            db = get_db()
            added = db.execute(
                "INSERT INTO post (author_id, title, body) VALUES (?, ?, ?)",
                (g.user["id"], request.form["title"], request.form["body"]),
            )
            db.commit()  # before the task is sent: the worker has to find the post
            delay_with_context(tasks.mail_author, added.lastrowid)
            flash("Your post is online. A mail is on its way to you.")
            return redirect(url_for("blog.index"))
        flash("Give the post a title.")
    return render_template("blog/create.html")


@bp.route("/<int:post_id>/update", methods=["GET", "POST"])
@login_required
def update(post_id: int) -> ResponseReturnValue:
    post = get_own_post(post_id)
    if request.method == "POST":
        if request.form["title"]:
            db = get_db()
            db.execute(
                "UPDATE post SET title = ?, body = ? WHERE id = ?",
                (request.form["title"], request.form["body"], post_id),
            )
            db.commit()
            delay_with_context(tasks.mail_author, post_id)
            flash("Your post is changed. A mail is on its way to you.")
            return redirect(url_for("blog.index"))
        flash("Give the post a title.")
    return render_template("blog/update.html", post=post)


@bp.post("/<int:post_id>/delete")
@login_required
def delete(post_id: int) -> ResponseReturnValue:
    get_own_post(post_id)
    db = get_db()
    db.execute("DELETE FROM post WHERE id = ?", (post_id,))
    db.commit()
    flash("Your post is deleted.")
    return redirect(url_for("blog.index"))


@bp.get("/mails")
@login_required
def mails() -> ResponseReturnValue:
    """What the worker has written to this author."""
    found = get_db().execute(
        "SELECT * FROM mail WHERE recipient_id = ? ORDER BY id DESC", (g.user["id"],)
    )
    return render_template("blog/mails.html", mails=found.fetchall())


def get_post(post_id: int) -> sqlite3.Row:
    post = (
        get_db()
        .execute(
            "SELECT post.*, username FROM post JOIN user ON author_id = user.id"
            " WHERE post.id = ?",
            (post_id,),
        )
        .fetchone()
    )
    if post is None:
        abort(404, f"There is no post {post_id}.")
    return cast("sqlite3.Row", post)


def get_own_post(post_id: int) -> sqlite3.Row:
    post = get_post(post_id)
    if post["author_id"] != g.user["id"]:
        abort(403, "Only its author may change a post.")
    return post
