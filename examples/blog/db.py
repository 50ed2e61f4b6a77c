"""One SQLite connection for each request, and for each task."""

from __future__ import annotations

import sqlite3
from typing import cast

import click
from flask import Flask
from flask import current_app
from flask import g


def get_db() -> sqlite3.Connection:
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["DATABASE"])
        g.db.row_factory = sqlite3.Row
    return cast("sqlite3.Connection", g.db)


def close_db(error: BaseException | None = None) -> None:
    connection = g.pop("db", None)
    if connection is not None:
        connection.close()


def init_db() -> None:
    with current_app.open_resource("schema.sql", "r") as script:
        get_db().executescript(script.read())


@click.command("init-db")
def init_db_command() -> None:
    """Make new, empty tables. What the old ones held is gone."""
    init_db()
    click.echo("The database is new and empty.")


def init_app(app: Flask) -> None:
    app.teardown_appcontext(close_db)
    app.cli.add_command(init_db_command)
