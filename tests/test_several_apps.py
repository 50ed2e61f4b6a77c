"""Several Flask apps, several Celery apps, and one that is found by its name."""

from __future__ import annotations

import typing as t
from pathlib import Path

import flask
import pytest
from celery import Celery

from flask_task_context import BadContext
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from tests import ways
from tests.ways import Cell
from tests.ways import Lab

pytestmark = ways.quiet


def visit(name: str, **config: t.Any) -> dict[str, str]:
    """The headers of a visitor of an app with this name."""
    app = flask.Flask(name)
    app.secret_key = f"key of {name}"
    with app.test_request_context("/", f"http://{name}/"):
        return capture_context()


def test_the_message_chooses_among_the_workers_flask_apps(tmp_path: Path) -> None:
    """Each visitor is served by the app that sent the task; a third app's
    visitor is refused, and a message without one is told what to do."""
    settings = ways.lab_settings("redis", tmp_path)
    lab = Lab(settings, tmp_path)
    lab.worker = ways.start_worker(settings, tmp_path, module="tests.apps_worker")
    try:
        for kind in ways.LABELS:
            task = lab.tasks[f"{kind}.where"]
            for name in ("one", "two", "one"):
                result = task.apply_async((1,), headers=visit(name))
                assert result.get(timeout=30, interval=0.02) == f"http://{name}/"
            with pytest.raises(Exception, match="for a Flask app named 'three'") as e:
                task.apply_async((1,), headers=visit("three")).get(timeout=30)
            assert type(e.value).__name__ == BadContext.__name__
            with pytest.raises(RuntimeError, match="Several Flask apps were given"):
                task.delay(1).get(timeout=30)
    finally:
        ways.close(lab)


@pytest.mark.parametrize("source", ["FLASK_APP", "string", "factory"])
def test_concurrent_first_tasks_load_the_app_once(source: str, tmp_path: Path) -> None:
    """Four tasks at once in a fresh worker make one Flask app, not four. A Celery app
    that the factory makes does not become the current one of a task, which retries."""
    settings = ways.lab_settings("redis", tmp_path)
    lab = Lab(settings, tmp_path)
    loads = tmp_path / "loads"
    environ = {"APP_SOURCE": source, "LOADS": str(loads)}
    if source == "FLASK_APP":
        environ["FLASK_APP"] = "tests.found_worker:create_app"
    lab.worker = ways.start_worker(
        settings,
        tmp_path,
        "--pool=threads",
        "-c4",
        module="tests.found_worker",
        environ=environ,
    )
    try:
        cell = Cell(lab, "below")
        assert not loads.exists()
        sent = [
            cell.visit(
                lambda: delay_with_context(
                    lab.celery.signature("found.nap", (0.1,), app=lab.celery)
                )
            )
            for _ in range(4)
        ]
        for result in sent:
            assert result.get(timeout=30, interval=0.02) == f"found {cell.url}"
        assert loads.read_text() == "loaded\n"
    finally:
        ways.close(lab)


def test_two_celery_apps_in_one_process_do_not_mix() -> None:
    """Each app's task of the same name runs in its own Flask app's request."""
    flask_apps = {name: flask.Flask(name) for name in ("one", "two")}
    celery_apps = {}
    for name, flask_app in flask_apps.items():
        flask_app.secret_key = f"key of {name}"
        celery_apps[name] = Celery(name, set_as_current=False)
        celery_apps[name].conf.update(broker_url="memory://")

        def where() -> str:
            return f"{flask.current_app.name} {flask.request.url}"

        decorate = with_request_context(app=flask_app)
        celery_apps[name].task(decorate(where), name="below", shared=False)
        decorate(celery_apps[name].task(where, name="above", shared=False))
    for name, celery_app in celery_apps.items():
        for kind in ways.LABELS:
            seen = celery_app.tasks[kind].apply(headers=visit(name)).get()
            assert seen == f"{name} http://{name}/"
