"""The mail to the author. All of this runs in the worker."""

from __future__ import annotations

from celery import shared_task
from flask import g
from flask import render_template
from flask import request

from flask_task_context import with_request_context

from .db import get_db


@shared_task
@with_request_context(before_request=True)  # so that auth.py has loaded g.user
def mail_author(post_id: int) -> None:
    """Write to the author who has sent the post; the links are on their host."""
    db = get_db()
    posts = db.execute(
        "SELECT * FROM post WHERE author_id = ? ORDER BY id DESC", (g.user["id"],)
    ).fetchall()
    for post in posts:
        if post["id"] == post_id:
            break
    else:
        return  # deleted before the worker came to it
    what = "changed" if request.endpoint == "blog.update" else "online"
    db.execute(
        "INSERT INTO mail (recipient_id, subject, text) VALUES (?, ?, ?)",
        (
            g.user["id"],
            f"“{post['title']}” is {what}",
            render_template("mail/author.txt", post=post, posts=posts, what=what),
        ),
    )
    db.commit()
