"""What the worker loads: ``celery -A examples.celery_docs.make_celery worker``."""

from __future__ import annotations

from . import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
