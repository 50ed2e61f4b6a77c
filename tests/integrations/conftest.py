"""A module's Flask app behind a real HTTP server, its tasks in a real worker.

The module has ``create_app(**config)``, which gives the Flask app with its views, and
``create_celery(flask_app, **conf)``, which gives the Celery app with its tasks. Views
find their tasks in ``current_app.extensions["celery"].tasks``.
"""

from __future__ import annotations

import contextlib
import json
import types
import typing as t
from pathlib import Path

import pytest
import requests
from celery import Celery

from flask_task_context import init_app
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue
from tests.conftest import serving
from tests.servers import serving_apart


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


class _Opener:
    """Starts an integration's server and worker, and ends them with the test."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, apart: bool) -> None:
        self.stack, self.folder, self.apart = stack, folder, apart

    def __call__(self, module: types.ModuleType, *options: str, **config: t.Any) -> Site:
        settings = celery_settings("redis", self.folder)
        self._drop_afterwards(settings)
        environ = {"INTEGRATION": module.__name__}
        worker = Worker(
            settings,
            self.folder / "worker.log",
            *options,
            module="tests.integrations.worker",
            flask_config=config,
            environ=environ,
        )
        self.stack.callback(worker.stop)
        if self.apart:
            flask_app = None
            environ["SHOP_SETTINGS"] = json.dumps({"flask": config, "celery": settings})
            served = serving_apart(
                "waitress",
                "tests.integrations.worker:flask_app",
                self.folder / "server.log",
                environ,
            )
        else:
            flask_app = module.create_app(**config)
            init_app(flask_app)
            celery = module.create_celery(flask_app, **settings)
            self.stack.callback(celery.close)
            flask_app.extensions["celery"] = celery
            served = serving(flask_app)
        port = self.stack.enter_context(served)
        site = Site(f"http://127.0.0.1:{port}", worker, flask_app)
        self.stack.callback(site.visitor.close)
        return site

    def _drop_afterwards(self, settings: dict[str, t.Any]) -> None:
        celery = Celery("tests", set_as_current=False)
        celery.conf.update(settings)
        self.stack.callback(drop_queue, celery)


@pytest.fixture
def open_site(tmp_path: Path) -> t.Iterator[Open]:
    """``open_site(module, *worker_options, **flask_config)``: server and worker."""
    with contextlib.ExitStack() as stack:
        yield _Opener(stack, tmp_path, apart=False)


@pytest.fixture
def open_apart(tmp_path: Path) -> t.Iterator[Open]:
    """The same, with the server in a process of its own, for what changes Flask or
    Celery themselves."""
    with contextlib.ExitStack() as stack:
        yield _Opener(stack, tmp_path, apart=True)
