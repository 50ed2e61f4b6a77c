from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from pathlib import Path

import flask
import flask.globals
import kombu
import pytest
import sqlalchemy
from celery import Celery
from kombu.exceptions import OperationalError
from waitress import wasyncore
from waitress.server import create_server

import flask_task_context
from tests import shop

ROOT = Path(__file__).parent.parent
BROKERS = {
    "redis": os.environ.get("CELERY_TEST_REDIS_URL", "redis://localhost:6379/0"),
    "rabbitmq": os.environ.get(
        "CELERY_TEST_AMQP_URL", "amqp://guest:guest@localhost//"
    ),
}
POSTGRESQL = os.environ.get("CELERY_TEST_POSTGRESQL_URL", "postgresql+psycopg://")

#: How Flask says so; since 3.2 otherwise where there is an app context.
NO_REQUEST = "(Working outside of request context|There is no request in this context)"
#: It calls ``preprocess_request()``, which takes the context since Flask 3.2.
CELERYEXT_REQUESTS = pytest.mark.xfail(
    flask_task_context._MERGED,
    reason="Flask-CeleryExt 0.5.1 is not ready for Flask 3.2",
)


# -- make test, and make test-all ----------------------------------------------------

#: What ``make test`` leaves to ``make test-all``, beside tests that are marked so.
THOROUGH = {
    "integrations",
    "test_demo_page.py",
    "test_examples.py",
    "test_pages.py",
    "test_documentation.py",
    "test_types.py",
}
#: Begun first, since one process runs all of a file.
LONGEST = (
    "test_rules.py",
    "test_pages.py",
    "test_documentation.py",
    "test_newer_celery.py",
    "test_examples.py",
    "test_meetings.py",
    "test_body.py",
    "test_interrupts.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the tests of make test-all")


def runs_all(config: pytest.Config) -> bool:
    """Asked for, or named on the command line."""
    named = {(ROOT / argument).resolve() for argument in config.args}
    return bool(config.getoption("--all")) or not named <= {ROOT, ROOT / "tests"}


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    def thorough(item: pytest.Item) -> bool:
        marked = item.get_closest_marker("thorough") is not None
        return marked or not THOROUGH.isdisjoint(item.path.relative_to(ROOT).parts)

    items.sort(key=place)
    if not runs_all(config):
        left = [item for item in items if thorough(item)]
        LEFT_OUT.append(len(left))
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not thorough(item)]


LEFT_OUT: list[int] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # One of pytest-xdist's processes.
        session.config.workeroutput["left_out"] = LEFT_OUT


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: t.Any) -> None:
    LEFT_OUT[:] = getattr(node, "workeroutput", {}).get("left_out", LEFT_OUT)


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    for count in LEFT_OUT:
        terminalreporter.write_line(f"{count} more tests run with make test-all.")


# -- brokers, workers, shops ---------------------------------------------------------


def missing(reason: str) -> t.NoReturn:
    """What a test needs is not on this machine: skips, or fails under REQUIRE_BROKERS."""
    if os.environ.get("REQUIRE_BROKERS"):
        pytest.fail(reason)
    pytest.skip(reason)


def broker_url(name: str) -> str:
    """The broker's URL, where there is one."""
    try:
        with kombu.Connection(BROKERS[name], connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1)
    except OperationalError as error:
        missing(f"no {name} at its standard port or CELERY_TEST_*_URL: {error}")
    return BROKERS[name]


@contextlib.contextmanager
def postgresql_url() -> t.Iterator[str]:
    """The URL of a new schema on PostgreSQL, where there is one."""
    engine = sqlalchemy.create_engine(POSTGRESQL, poolclass=sqlalchemy.NullPool)
    schema = f"test_{uuid.uuid4().hex[:12]}"
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.schema.CreateSchema(schema))
    except sqlalchemy.exc.DBAPIError as error:
        missing(f"no PostgreSQL to make a schema in: {error.orig}")
    url = engine.url.update_query_dict({"options": f"-csearch_path={schema}"})
    yield url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.schema.DropSchema(schema, cascade=True))


def celery_settings(broker: str, folder: Path) -> dict[str, t.Any]:
    """Settings for a Celery app of the test's own: its queue, its results."""
    queue = f"test-{uuid.uuid4().hex[:12]}"
    (folder / "results").mkdir(parents=True, exist_ok=True)
    settings: dict[str, t.Any] = {
        "task_default_queue": queue,
        "broker_connection_retry_on_startup": True,
        "result_backend": f"file://{folder / 'results'}",
        "worker_prefetch_multiplier": 1,
    }
    if broker != "embedded":
        return {**settings, "broker_url": broker_url(broker)}
    return {**settings, "broker_url": f"sqla+sqlite:///{folder / 'queue.db'}"}


class Raised(logging.Handler):
    """What Celery logs, and swallows, of handlers of its signals that raise."""

    lines: t.ClassVar[list[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


logging.getLogger("celery.utils.dispatch.signal").addHandler(Raised())


def check_log(text: str) -> None:
    """The same of a worker, of which its log alone knows."""
    assert "Signal handler" not in text, text


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


class Worker:
    """``celery worker`` in a process of its own."""

    running: t.ClassVar[list[Worker]] = []

    def __init__(
        self,
        settings: dict[str, t.Any],
        log: Path,
        *options: str,
        module: str = "tests.shop_worker",
        flask_config: dict[str, t.Any] | None = None,
        environ: dict[str, str] | None = None,
        under: t.Sequence[str] = (),
    ) -> None:
        self.log, self.checked = log, 0
        command = [*under, sys.executable, "-m", "celery", "-A", module, "worker"]
        if not any(option.startswith("--pool") for option in options):
            options = ("--pool=solo", *options)
        if not any(option.startswith("--loglevel") for option in options):
            options = ("--loglevel=INFO", *options)
        quiet = (
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            f"--hostname=test-{uuid.uuid4().hex[:12]}@localhost",
        )
        config = {"flask": flask_config or {}, "celery": settings}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *quiet, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
                env={
                    **os.environ,
                    "SHOP_SETTINGS": json.dumps(config),
                    **(environ or {}),
                },
            )
        self.wait_for(" ready.")
        self.running.append(self)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {text!r} in:\n{self.log.read_text()}")
            time.sleep(0.05)

    def check(self) -> None:
        """What is new in its log."""
        with self.log.open("rb") as log:
            log.seek(self.checked)
            new = log.read().rpartition(b"\n")[0]
        self.checked += len(new)
        check_log(new.decode(errors="replace"))

    def stop(self) -> None:
        stop(self.process)
        if self in self.running:
            self.running.remove(self)
        self.check()

    def kill(self) -> None:
        """A warm shutdown would take seconds; nothing is left to be finished."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.stop()


class Shop:
    """A shop with its Celery app and, on a real broker, its worker."""

    def __init__(self, settings: dict[str, t.Any], **config: t.Any) -> None:
        self.settings = settings
        self.flask = shop.create_app(**config)
        self.celery = shop.create_celery(**settings)
        self.tasks = self.celery.tasks

    def task(
        self, function: t.Callable[..., t.Any], name: str, **options: t.Any
    ) -> t.Any:
        """A task of this shop's Celery app alone."""
        function.__name__ = "body"  # Celery makes source code of it
        return self.celery.task(function, name=name, shared=False, **options)

    def visit(
        self, view: t.Callable[[], t.Any], path: str = "/item/3", **request: t.Any
    ) -> t.Any:
        """Run ``view`` inside a request and give what it returned."""
        seen: list[t.Any] = []

        def run() -> str:
            seen.append(view())
            return "ok"

        self.flask.extensions["view"] = run
        response = self.flask.test_client().open(path, **{"method": "POST", **request})
        assert response.status_code == 200, response.text
        return seen[0]

    def capture(self, path: str = "/item/3", **request: t.Any) -> dict[str, str]:
        return t.cast(
            "dict[str, str]",
            self.visit(flask_task_context.capture_context, path, **request),
        )


@pytest.fixture
def plain_shop() -> Shop:
    """A shop without a broker, for tasks that run in this process."""
    # What another test has sent waits in this process too, in another queue.
    return Shop(
        {
            "broker_url": "memory://",
            "result_backend": "cache+memory://",
            "task_default_queue": uuid.uuid4().hex,
        }
    )


@pytest.fixture(scope="session", params=["embedded", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


@pytest.fixture(scope="session")
def working_shop(
    broker: str, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Shop]:
    """A shop whose tasks run in a worker process, on each broker in turn."""
    folder = tmp_path_factory.mktemp(broker)
    settings = celery_settings(broker, folder)
    worker = Worker(settings, folder / "worker.log")
    working = Shop(settings)
    working.worker = worker  # type: ignore[attr-defined]
    yield working
    worker.kill()
    drop_queue(working.celery)


def drop_queue(app: Celery) -> None:
    if app.conf.broker_url.startswith(("redis", "amqp")):
        with app.connection_for_write() as connection:
            queue = app.amqp.queues[app.conf.task_default_queue]
            with contextlib.suppress(connection.channel_errors):
                queue(connection.default_channel).delete()
    app.close()


@contextlib.contextmanager
def serving(app: t.Any) -> t.Iterator[int]:
    """The app on a real HTTP server; gives the port."""
    sockets: dict[int, t.Any] = {}
    server = create_server(
        app,
        map=sockets,
        host="127.0.0.1",
        port=0,
        threads=2,
        clear_untrusted_proxy_headers=False,
    )
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            wasyncore.loop(timeout=0.05, map=sockets, count=1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        # Closed from here, the loop would trip over its own sockets.
        ended.set()
        thread.join(10)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(sockets)


def fetch(
    port: int, method: str, path: str, body: bytes | None = None, headers: t.Any = ()
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(
        method,
        path,
        skip_host=any(k == "Host" for k, _ in headers),
        skip_accept_encoding=True,
    )
    for key, value in headers:
        connection.putheader(key, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.fixture(autouse=True)
def nothing_left() -> t.Iterator[None]:
    """No test leaves a context pushed, an app registered, or a setting behind, and no
    handler of a signal raises, here or in a worker."""
    Raised.lines.clear()
    flask_task_context._apps.clear()
    flask_task_context._loaded.clear()
    flask_task_context._warned.clear()
    flask_task_context._before.set((None, None))
    yield
    flask_task_context._apps.clear()
    flask_task_context._loaded.clear()
    assert not flask.has_app_context()
    assert Raised.lines == []
    for worker in Worker.running:
        worker.check()
