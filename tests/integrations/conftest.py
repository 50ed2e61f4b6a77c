"""A module's Flask app behind a real HTTP server, its tasks in a real worker.

The module has ``create_app(**config)``, which gives the Flask app with its views, and
``create_celery(flask_app, **conf)``, which gives the Celery app with its tasks. Views
find their tasks in ``current_app.extensions["celery"].tasks``.

Messages go through Redis where there is one, and else through files, so that a machine
without any server tries the integrations too.
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
        return self._send("GET", path, **options)

    def post(self, path: str, **options: t.Any) -> requests.Response:
        return self._send("POST", path, **options)

    def _send(self, method: str, path: str, **options: t.Any) -> requests.Response:
        url = self.url + path
        answer = self.visitor.request(method, url, timeout=60, **options)
        logs = [log.read_text() for log in self.worker.log.parent.glob("*.log")]
        assert answer.status_code < 500, "\n".join([answer.text, *logs])
        return answer


Open = t.Callable[..., Site]

# With two, Celery can store that a task is to be tried again after its success.
ONE_PROCESS = ("--pool=prefork", "--concurrency=1")


def refusal(answer: str) -> str:
    """What a task ends with whose request a before-request function has aborted."""
    return (
        "RequestRefused: A before-request function aborted the task's request with"
        f" {answer!r}: let it pass, or leave out 'before_request=True' of the task."
    )


def settings_in(folder: Path) -> dict[str, t.Any]:
    try:
        return celery_settings("redis", folder)
    except pytest.skip.Exception:
        queue = folder / "queue"
        queue.mkdir(exist_ok=True)
        options: dict[str, t.Any] = dict.fromkeys(
            ("data_folder_in", "data_folder_out", "control_folder"), str(queue)
        )
        # Kombu's SQLAlchemy transport, the other tests' own broker, asks but once a
        # second, and takes no such option.
        options["polling_interval"] = 0.1
        settings = celery_settings("embedded", folder)
        settings.update(broker_url="filesystem://", broker_transport_options=options)
        return settings


class _Opener:
    """Starts the worker and the server of an integration."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder

    def open_site(
        self, module: types.ModuleType, *options: str, **config: t.Any
    ) -> Site:
        settings, worker = self._start_worker(module.__name__, options, config)
        flask_app = module.create_app(**config)
        init_app(flask_app)
        celery = module.create_celery(flask_app, **settings)
        self.stack.callback(celery.close)
        flask_app.extensions["celery"] = celery
        return self._site(serving(flask_app), worker, flask_app)

    def open_apart(
        self,
        name: str,
        *options: str,
        server: str = "waitress",
        under: t.Sequence[str] = (),
        **config: t.Any,
    ) -> Site:
        module = f"tests.integrations.apps.{name}"
        settings, worker = self._start_worker(module, options, config, under)
        environ = {
            "INTEGRATION": module,
            "SHOP_SETTINGS": json.dumps({"flask": config, "celery": settings}),
        }
        application = "tests.integrations.worker:flask_app"
        log = self.folder / "server.log"
        served = serving_apart(server, application, log, environ, under)
        return self._site(served, worker, None)

    def _start_worker(
        self,
        module: str,
        options: tuple[str, ...],
        config: dict[str, t.Any],
        under: t.Sequence[str] = (),
    ) -> tuple[dict[str, t.Any], Worker]:
        settings = settings_in(self.folder)
        worker = Worker(
            settings,
            self.folder / "worker.log",
            *options,
            module="tests.integrations.worker",
            flask_config=config,
            environ={"INTEGRATION": module},
            under=under,
        )
        celery = Celery("tests", set_as_current=False)
        celery.conf.update(settings)
        self.stack.callback(drop_queue, celery)
        self.stack.callback(worker.stop)
        return settings, worker

    def _site(
        self, server: t.ContextManager[int], worker: Worker, flask_app: t.Any
    ) -> Site:
        port = self.stack.enter_context(server)
        site = Site(f"http://127.0.0.1:{port}", worker, flask_app)
        self.stack.callback(site.visitor.close)
        return site


@pytest.fixture
def opener(tmp_path: Path) -> t.Iterator[_Opener]:
    with contextlib.ExitStack() as stack:
        yield _Opener(stack, tmp_path)


@pytest.fixture
def open_site(opener: _Opener) -> Open:
    """``open_site(module, *worker_options, **flask_config)``: server and worker."""
    return opener.open_site


@pytest.fixture
def open_apart(opener: _Opener) -> Open:
    """The same by the module's name, with the server in a process of its own, for
    what changes Flask or Celery where it is imported, or starts both, as a command
    ``under`` which they run."""
    return opener.open_apart
