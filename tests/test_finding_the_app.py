"""Which Flask app a task runs in: the decorator's, the active one, init_app's, FLASK_APP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import flask
import pytest

from flask_task_context import BadContext
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import restore_context
from flask_task_context import with_request_context

ROOT = Path(__file__).parent.parent


def app_named(name: str, **config: t.Any) -> flask.Flask:
    app = flask.Flask(name)
    app.config.update({"SECRET_KEY": "key", **config})
    return app


def headers_of(app: flask.Flask) -> dict[str, str]:
    with app.test_request_context("/"):
        return capture_context()


@with_request_context
def name() -> str:
    return flask.current_app.name


def test_the_decorators_app_comes_first() -> None:
    """``app=`` wins over the active, the registered and the message's app."""
    first, active, registered = map(app_named, ("first", "active", "registered"))
    init_app(registered)
    task = with_request_context(app=first)(lambda: flask.current_app.name)
    with active.app_context():
        assert task() == "first"
        with restore_context(headers_of(registered), first):
            assert flask.current_app.name == "first"
        assert name() == "active"
    assert name() == "registered"


def test_one_registered_app_serves_every_message() -> None:
    """Web and worker apps may differ in name, as long as they share a key."""
    web, worker = app_named("web"), app_named("worker")
    init_app(worker)
    with restore_context(headers_of(web)):
        assert flask.current_app.name == "worker"


def test_init_app_with_current_app() -> None:
    """An extension that is handed the proxy registers the app behind it."""
    app = app_named("behind")
    with app.app_context():
        init_app(flask.current_app)
    assert name() == "behind"


def test_an_app_has_one_name_at_a_time() -> None:
    """The last one that ``init_app`` was given, or its own."""
    app = app_named("factory")
    init_app(app, name="north")
    assert headers_of(app)["flask_task_context"].startswith("1:signed:north:")
    app.config["TASK_CONTEXT_G"] = ["tenant"]
    assert headers_of(app)["flask_task_context"].startswith("1:signed:north:")
    init_app(app)
    assert headers_of(app)["flask_task_context"].startswith("1:signed:factory:")
    # It is the only one still.
    assert name() == "factory"


def test_init_app_before_the_config_is_loaded() -> None:
    """What is set later counts, and a wrong setting is an error when it is used."""
    app = flask.Flask("late")
    init_app(app)
    app.config.update(SECRET_KEY="key", TASK_CONTEXT_G=["tenant"])
    with app.test_request_context("/"):
        flask.g.tenant = "north"
        headers = capture_context()
    assert headers["flask_task_context"].startswith("1:signed:late:")
    with restore_context(headers):
        assert flask.g.tenant == "north"
    app.config["TASK_CONTEXT_G"] = "tenant"
    with pytest.raises(TypeError, match="TASK_CONTEXT_G is 'tenant': make it a list"):
        headers_of(app)


def test_with_several_apps_the_message_chooses() -> None:
    """The name in the message picks the app; the newest app of a name wins."""
    one, two, newer = (
        app_named("one"),
        app_named("two: with, signs é"),
        app_named("one"),
    )
    init_app(one)
    init_app(two)
    init_app(newer)
    with restore_context(headers_of(one)):
        assert flask.current_app == newer
    with restore_context(headers_of(two)):
        assert flask.current_app == two
    other = headers_of(app_named("three"))
    with pytest.raises(
        BadContext, match="a Flask app named 'three', and 'init_app' was"
    ):
        restore_context(other).__enter__()
    with pytest.raises(RuntimeError, match=r"'one', 'two: with, signs é'.* names none"):
        restore_context({}).__enter__()


def test_a_factory_is_called_once_under_concurrent_first_tasks() -> None:
    """Sixteen threads that start together get one app."""
    made: list[flask.Flask] = []
    together = threading.Barrier(16, timeout=60)

    def create_app() -> flask.Flask:
        made.append(app_named("made"))
        return made[-1]

    task = with_request_context(app=create_app)(
        lambda: flask.current_app._get_current_object()  # type: ignore[attr-defined]
    )
    seen: list[flask.Flask] = []

    def first() -> None:
        together.wait()
        seen.append(task())

    threads = [threading.Thread(target=first) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert seen == made * 16


def test_an_import_string() -> None:
    """``"module:factory"`` is Flask's own notation, read by Flask."""
    task = with_request_context(app="tests.shop:create_app")(
        lambda: flask.current_app.name
    )
    assert task() == "shop"


def discover(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from tests.test_finding_the_app import name; print(name())"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_flask_app_names_the_app(tmp_path: Path) -> None:
    """The FLASK_APP that ``flask run`` uses serves the worker too."""
    assert discover(tmp_path, FLASK_APP="tests.shop:create_app").stdout == "shop\n"


def test_flasks_own_discovery(tmp_path: Path) -> None:
    """``app.py`` or ``wsgi.py`` in the working directory are found as Flask finds them."""
    code = "import flask\napp = flask.Flask('found')\n"
    (tmp_path / "app.py").write_text(code)
    assert discover(tmp_path).stdout == "found\n"


def test_the_decorators_app_may_be_current_app() -> None:
    """As in a factory that defines its tasks: the app behind the proxy is meant."""
    with app_named("behind").app_context():
        task = with_request_context(app=flask.current_app)(
            lambda: flask.current_app.name
        )
    assert task() == "behind"
