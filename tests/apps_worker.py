"""A worker that serves two Flask apps."""

import flask

import flask_task_context
from tests.ways_tasks import start_worker_process

app = start_worker_process()
flask_task_context._apps.clear()
for name in ("one", "two"):
    flask_app = flask.Flask(name)
    flask_app.secret_key = f"key of {name}"
    flask_task_context.init_app(flask_app)
