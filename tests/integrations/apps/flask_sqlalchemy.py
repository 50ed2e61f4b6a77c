"""An app with Flask-SQLAlchemy: notes that tasks write."""

from __future__ import annotations

import os
import typing as t

import flask
from celery import Celery
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from tests.integrations.apps import both
from tests.integrations.apps import celery_with
from tests.integrations.apps import in_task
from tests.integrations.apps import outcome
from tests.integrations.apps import task_named


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Note(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def notes() -> t.Any:
    return list(db.session.scalars(db.select(Note.text).order_by(Note.id)))


def left_open() -> t.Any:
    """What earlier tasks of this process have left: sessions, and connections that
    are in use; and the process."""
    sessions = len(db.session.registry.registry)
    return {
        "sessions": sessions,
        "connections": db.engine.pool.checkedout(),
        "process": os.getpid(),
    }


def add_note(text: str, ending: str) -> None:
    db.session.add(Note(text=text))
    if ending == "commit":
        db.session.commit()
    db.session.flush()
    db.session.add(Note(text=f"{text}, pending"))
    if ending == "raise":
        raise ValueError(f"{text} is refused")


def change_note(note_id: int) -> str:
    note = db.session.get_one(Note, note_id)
    note.text = f"{note.text}, changed"
    return note.text


def create_app(**config: t.Any) -> flask.Flask:
    app = flask.Flask("sqlalchemy")
    app.config.update(config, SECRET_KEY="sqlalchemy")
    db.init_app(app)
    with app.app_context():
        db.create_all()

    @app.get("/notes")
    def show() -> t.Any:
        return both(notes)

    @app.get("/left-open")
    def show_left_open() -> t.Any:
        return in_task("left_open")

    @app.post("/notes/<text>/<ending>")
    def add(text: str, ending: str) -> t.Any:
        return {"task": in_task("add_note", text, ending)}

    @app.post("/without-context/<text>/<ending>")
    def add_without_context(text: str, ending: str) -> t.Any:
        return {"task": outcome(task_named("add_note").delay(text, ending))}

    @app.post("/in-place/<way>")
    def change_in_place(way: str) -> t.Any:
        """The view's objects and transaction, around a task that runs in it."""
        task = task_named("change_note")
        call = {"direct": task, "apply": lambda *args: task.apply(args).get()}
        call["delay"] = lambda *args: in_task("change_note", *args)
        note, pending = Note(text="tea"), Note(text="milk")
        db.session.add(note)
        db.session.flush()
        session = db.session()
        db.session.add(pending)
        call[way](note.id)
        db.session.flush()
        db.session.expire(note)  # a detached one could not be loaded again
        return {
            "same session": db.session() is session,
            "in the session": note in db.session and pending in db.session,
            "text": note.text,
            "committed": are_seen_elsewhere(),
        }

    return app


def are_seen_elsewhere() -> bool:
    with db.engine.connect() as connection:
        return bool(connection.scalars(db.select(Note.text)).all())


def create_celery(flask_app: flask.Flask, **conf: t.Any) -> Celery:
    return celery_with(notes, left_open, add_note, change_note, conf=conf)
