"""Nothing is assigned on the user's Celery app, its config or its ``Task`` class."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CODE = """
import json, sys
from celery import Celery, Task, signals
from celery.app.task import Task as BaseTask

def picture(app):
    return {
        "app": sorted((k, repr(v)[:60]) for k, v in vars(app).items() if k not in volatile),
        "app class": sorted((k, repr(v)) for k, v in vars(type(app)).items()),
        "Task": sorted((k, repr(v)) for k, v in vars(app.Task).items()),
        "BaseTask": sorted((k, repr(v)) for k, v in vars(BaseTask).items()),
        "conf": sorted((k, repr(v)) for k, v in app.conf.items() if k != "deprecated_settings"),
        "tasks": sorted(app.tasks),
    }

app = Celery("plain", broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = True

@app.task(name="users.own")
def own():
    return 1

with_library = sys.argv[1] == "with"
# What Celery itself fills in when it is used, with or without the library.
volatile = {"_pool", "_local", "_backend_cache", "clock", "_pending", "_amqp"}
if with_library:
    import flask
    from flask_task_context import delay_with_context, init_app, with_request_context

    flask_app = flask.Flask("users")
    flask_app.secret_key = "key"
    init_app(flask_app)
    own = with_request_context(own)

    @app.task(name="users.second")
    @with_request_context
    def second():
        return flask.request.path

    with flask_app.test_request_context("/x"):
        assert delay_with_context(own).get() == 1
        assert delay_with_context(second).get() == "/x"
else:

    @app.task(name="users.second")
    def second():
        return 1

    assert own.delay().get() == 1
    assert second.delay().get() == 1
print(json.dumps(picture(app)))
"""


def picture(how: str, folder: Path) -> dict[str, list[object]]:
    script = folder / "users_app.py"
    script.write_text(CODE)
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, str(script), how],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(root), "PYTHONHASHSEED": "0"},
        timeout=60,
    )
    lines = result.stdout.splitlines()
    pictured: dict[str, list[object]] = json.loads(lines[-1])
    return pictured


def stable(value: object) -> object:
    """Without the addresses in ``repr``, which differ from process to process."""
    import re

    return re.sub(r"0x[0-9a-f]+", "0x", json.dumps(value))


def test_a_plain_celery_app_is_the_same_with_and_without_the_library(
    tmp_path: Path,
) -> None:
    """App, class, ``Task``, config and task names are those of the user's code alone."""
    without, with_library = picture("without", tmp_path), picture("with", tmp_path)
    assert "users.own" in with_library["tasks"]
    for part in without:
        assert stable(with_library[part]) == stable(without[part]), part
