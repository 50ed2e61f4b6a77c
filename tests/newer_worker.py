"""The module that ``celery -A`` names. It has no task of its own."""

import os

import flask_task_context
from tests.newer_tasks import app as app
from tests.newer_tasks import create_app

if os.environ.get("INIT") == "worker":
    flask_task_context.init_app(create_app())
