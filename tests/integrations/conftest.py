"""A module's Flask app behind a real HTTP server, its tasks in a real worker.

The module has ``create_app(**config)``, which gives the Flask app with its views, and
``create_celery(flask_app, **conf)``, which gives the Celery app with its tasks. Views
find their tasks in ``current_app.extensions["celery"].tasks``.
"""

from __future__ import annotations

import contextlib
import types
import typing as t
from pathlib import Path

import pytest
import requests

from flask_task_context import init_app
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.conftest import serving


class Site:
    """One integration at work, and a visitor with a cookie jar."""

    def __init__(self, url: str, worker: Worker, flask_app: t.Any) -> None:
        self.url, self.worker, self.flask_app = url, worker, flask_app
        self.visitor = requests.Session()

    def get(self, path: str, **options: t.Any) -> requests.Response:
        return self.visitor.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options: t.Any) -> requests.Response:
        return self.visitor.post(self.url + path, timeout=60, **options)


Open = t.Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path) -> t.Iterator[Open]:
    """``open_site(module, *worker_options, **flask_config)``: server and worker."""
    with contextlib.ExitStack() as stack:

        def opened(module: types.ModuleType, *options: str, **config: t.Any) -> Site:
            settings = celery_settings("redis", tmp_path)
            flask_app = module.create_app(**config)
            init_app(flask_app)
            celery = module.create_celery(flask_app, **settings)
            flask_app.extensions["celery"] = celery
            worker = Worker(
                settings,
                tmp_path / "worker.log",
                *options,
                module="tests.integrations.worker",
                flask_config=config,
                environ={"INTEGRATION": module.__name__},
            )
            stack.callback(drop_queue, celery)
            stack.callback(worker.stop)
            port = stack.enter_context(serving(flask_app))
            site = Site(f"http://127.0.0.1:{port}", worker, flask_app)
            stack.callback(site.visitor.close)
            return site

        yield opened
