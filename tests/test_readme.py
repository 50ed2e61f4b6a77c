"""Every example of the README and of pages of docs/, run as a reader would run it.

A Python block has a name, in a comment above it. One that does not begin with a file's
name goes on from ``shop.py``, the first example. A diff is run before and after.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import typing as t
import uuid
from email.message import EmailMessage
from pathlib import Path

import celery
import pytest
import requests
from aiosmtpd.controller import Controller
from flask import Flask
from flask import session

import flask_task_context
from flask_task_context import CaptureError
from flask_task_context import capture_context
from flask_task_context import init_app
from tests.conftest import CELERYEXT_REQUESTS
from tests.conftest import ROOT
from tests.conftest import broker_url
from tests.conftest import check_log

README = (ROOT / "README.md").read_text()
COMING_FROM = (ROOT / "docs" / "coming-from.md").read_text()
BASE_CLASSES = (ROOT / "docs" / "base-classes.md").read_text()
TESTING = (ROOT / "docs" / "testing.md").read_text()


def blocks_of(page: str) -> list[tuple[str, str, str]]:
    """The name, the language and the source of each."""
    block = r"^(?:<!-- example: (\w+) -->\n)?```(python|diff)\n(.*?)^```$"
    return re.findall(block, page, re.M | re.S)


BLOCKS = blocks_of(README + COMING_FROM + BASE_CLASSES + TESTING)
EXAMPLES = {name: source for name, _, source in BLOCKS}
TESTED: list[str] = []

GERMAN = {"Host": "anna.example", "Accept-Language": "de"}

Test = t.TypeVar("Test", bound=t.Callable[..., None])


def runs(*names: str) -> t.Callable[[Test], Test]:
    """Marks the test that runs these examples."""
    assert all(name in EXAMPLES for name in names), names
    TESTED.extend(names)
    return lambda test: test


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return t.cast("int", server.getsockname()[1])


class Folder:
    """A reader's folder, and the processes that run in it."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self.path, self.stack = path, stack
        self.redis = broker_url("redis")
        self.queue = f"readme-{uuid.uuid4().hex[:12]}"
        self.port = free_port()
        programs = Path(sys.executable).parent
        self.environ = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "FLASK_RUN_PORT": str(self.port),
        }

    def write(self, name: str, source: str) -> None:
        (self.path / name).write_text(source)

    def write_shop(self, *more: str) -> None:
        """``shop.py``, and what goes on from it, with a queue of its own."""
        shop = "\n\n".join([EXAMPLES["shop"], *more])
        assert '"redis://localhost"' in shop
        shop = shop.replace('"redis://localhost"', repr(self.redis))
        self.write("shop.py", f"{shop}\n\n{self.settings()}")

    def settings(self) -> str:
        settings = {
            "broker_url": self.redis,
            "result_backend": self.redis,
            "result_expires": 600,
            "task_default_queue": self.queue,
        }
        return f"celery.conf.update({settings})\n"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def start(self, command: str, ready: str, name: str = "") -> None:
        """Runs the command in the background, until it says that it is ready."""
        arguments = shlex.split(command)
        name = name or arguments[0]
        with self.log(name).open("wb") as output:
            process = subprocess.Popen(
                arguments,
                cwd=self.path,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.callback(lambda: check_log(self.log(name).read_text()))
        self.stack.callback(stop, process)
        self.wait_for(ready, name)

    def wait_for(self, text: str, name: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.log(name).read_text():
            assert time.monotonic() < deadline, self.log(name).read_text()
            time.sleep(0.05)

    def start_worker(self, module: str = "shop") -> None:
        self.start(f"celery -A {module}.celery worker --pool=solo -l INFO", " ready.")

    def start_server(self, app: str = "shop") -> None:
        self.start(f"flask --app {app} run", "Running on")

    def request(
        self, method: str, path: str, status: int = 200, **options: t.Any
    ) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        response = requests.request(method, url, timeout=30, **options)
        assert response.status_code == status, response.text
        return response.text


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.fixture
def folder(tmp_path: Path) -> t.Iterator[Folder]:
    with contextlib.ExitStack() as stack:
        yield Folder(tmp_path, stack)


@pytest.fixture
def recipe(folder: Folder) -> t.Callable[..., Folder]:
    """Runs the shop with these examples in a worker and a server."""

    def run(*names: str) -> Folder:
        folder.write_shop(*(EXAMPLES[name] for name in names))
        folder.start_worker()
        folder.start_server()
        return folder

    return run


Recipe = t.Callable[..., Folder]


def test_every_block_is_run() -> None:
    """Each has a name of its own and one test, and no test runs one that is gone."""
    assert sorted(TESTED) == sorted(name for name, _, _ in BLOCKS)


def test_every_link_leads_somewhere() -> None:
    """To a heading of the README, as GitHub names it, or to what is beside it."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("https://"):
            assert link[1:] in anchors if link[0] == "#" else (ROOT / link).exists()


# -- the first screen ------------------------------------------------------------------


def console(program: str) -> list[str]:
    """The lines of the console session in which this program is called."""
    sessions: list[str] = re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S)
    (session,) = [one for one in sessions if f"$ {program}" in one]
    return session.splitlines()


@runs("shop")
def test_the_first_example(folder: Folder) -> None:
    """The commands are run as they stand, and print what the README says."""
    folder.write_shop()
    _, worker, server, request, answer = console("curl")
    folder.start(worker.removeprefix("$ ").removesuffix(" &"), "[queues]")
    folder.start(server.removeprefix("$ ").removesuffix(" &"), "Running on")
    assert "localhost:5000" in request
    request = request.replace("localhost:5000", f"127.0.0.1:{folder.port}")
    command = ["curl", "--silent", *shlex.split(request)[2:]]
    assert subprocess.check_output(command, text=True) == answer


# -- recipes ---------------------------------------------------------------------------


class Mailbox:
    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: t.Any, session: t.Any, envelope: t.Any
    ) -> str:
        self.messages.append(envelope)
        return "250 OK"


@runs("mail")
def test_mail(folder: Folder) -> None:
    """The mail's link is on the visitor's host."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    folder.stack.callback(controller.stop)
    assert "MAIL_PORT=1025" in EXAMPLES["mail"]
    port = f"MAIL_PORT={controller.port}"
    folder.write_shop(EXAMPLES["mail"].replace("MAIL_PORT=1025", port))
    folder.start_worker()
    folder.start_server()
    form = {"address": "ben@example.com"}
    folder.request("POST", "/welcome", 202, data=form, headers=GERMAN)
    deadline = time.monotonic() + 60
    while not mailbox.messages and time.monotonic() < deadline:
        time.sleep(0.05)
    (message,) = mailbox.messages
    assert message.rcpt_tos == ["ben@example.com"]  # type: ignore[attr-defined]
    assert b"http://anna.example/join/ben" in message.content  # type: ignore[attr-defined]


@runs("user")
def test_the_current_user(recipe: Recipe) -> None:
    """The task's ``current_user`` is who logged in."""
    assert recipe("user").request("POST", "/report/anna") == "report for anna"


@runs("tutorial")
def test_a_user_that_a_before_request_function_loads(recipe: Recipe) -> None:
    """``g.user`` is there."""
    assert recipe("tutorial").request("POST", "/letter/anna") == "letter from anna"


@runs("locale")
def test_the_locale(recipe: Recipe) -> None:
    """The date is in the visitor's language."""
    running = recipe("locale")
    assert running.request("POST", "/date", headers=GERMAN) == "24 Dezember"
    english = {"Accept-Language": "en"}
    assert running.request("POST", "/date", headers=english) == "24 December"


@runs("canvas")
def test_a_canvas(recipe: Recipe) -> None:
    """Header and body of the chord are in the request."""
    form = {"name": ["ben", "cem"]}
    answer = recipe("canvas").request("POST", "/list", data=form, headers=GERMAN)
    assert re.sub("/join/(ben|cem)", "", answer) == (
        "2 links for anna.example: http://anna.example http://anna.example"
    )


@runs("retries")
def test_retries(recipe: Recipe) -> None:
    """The second try is in the request, and a refused context is not tried again."""
    running = recipe("retries")
    answer = running.request("POST", "/partner/ben", headers=GERMAN)
    assert answer == "try 2: http://anna.example/join/ben"
    forge = "from shop import *; call_partner.apply_async(('a',), headers={'flask_task_context': 'x'}).get(timeout=20)"
    refused = subprocess.run(
        [sys.executable, "-c", forge],
        cwd=running.path,
        capture_output=True,
        text=True,
    )
    assert "BadContext: The context is not one that flask-task-context" in (
        refused.stderr
    )
    assert running.log("celery").read_text().count("Retry in") == 1


@runs("beat")
def test_beat(folder: Folder) -> None:
    """The task of a schedule runs in the request that it was given."""
    assert '"schedule": 3600' in EXAMPLES["beat"]
    folder.write_shop(EXAMPLES["beat"].replace("3600", "1"))
    folder.start_worker()
    folder.start("celery -A shop.celery beat -l INFO", "Sending due task", "beat")
    folder.wait_for("succeeded in", "celery")
    result = "'https://shop.example/join/ben in en'"
    assert result in folder.log("celery").read_text()


@runs("several")
def test_several_apps(recipe: Recipe) -> None:
    """One worker serves both, each task in the app that sent it."""
    running = recipe("several")
    assert running.request("GET", "/where") == "shop at /where"
    running.port = free_port()
    running.environ["FLASK_RUN_PORT"] = str(running.port)
    running.start_server("shop:admin")
    assert running.request("GET", "/where") == "admin at /where"


@runs("auto")
def test_calls_that_stay_as_they_are(recipe: Recipe) -> None:
    """Plain ``.delay()`` carries the request."""
    answer = recipe("auto").request("POST", "/plain/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben in de"


@runs("thread")
def test_a_thread(recipe: Recipe) -> None:
    """It has the view's request."""
    answer = recipe("thread").request("GET", "/thread", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


def run_pytest(folder: Folder, *files: str) -> str:
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, *files], cwd=folder.path, capture_output=True, text=True
    )
    return result.stdout


@runs("testing", "conftest", "for_real")
def test_a_readers_own_tests(folder: Folder) -> None:
    """pytest runs them, with warnings as errors."""
    folder.write_shop()
    folder.write("conftest.py", EXAMPLES["conftest"])
    for name in ("testing", "for_real"):
        folder.write(f"test_{name}.py", EXAMPLES[name])
    assert " 4 passed in " in run_pytest(folder)


MISTAKES = """
from flask import g
from shop import *


@celery.task
def undecorated():
    return url_for("join", name="a")


@celery.task
@with_request_context
def decorated():
    return url_for("join", name="a")


@celery.task
@with_request_context
def reads_password():
    return request.form["password"]


@celery.task
@with_request_context
def reads_g():
    return g.user


def visit():
    return app.test_request_context("/", method="POST", data={"password": "x"})


def test_undecorated(finish):
    with visit():
        delay_with_context(undecorated)
    finish()


def test_delay(finish):
    with visit():
        decorated.delay()
    finish()


def test_password(finish):
    with visit():
        delay_with_context(reads_password)
    finish()


def test_g(finish):
    with visit():
        g.user = "anna"
        delay_with_context(reads_g)
    finish()
"""
EAGER = """
import pytest


@pytest.fixture
def finish():
    from shop import celery

    celery.conf.update(task_always_eager=True, task_eager_propagates=True)
    return list
"""


def test_a_test_fails_where_the_worker_would(folder: Folder) -> None:
    """Four mistakes pass eagerly, and fail with the fixture as its page says."""
    folder.write_shop()
    folder.write("test_mistakes.py", MISTAKES)
    folder.write("conftest.py", EAGER)
    assert " 4 passed in " in run_pytest(folder)
    fixture = EXAMPLES["conftest"].replace("def finish_tasks(", "def finish(")
    folder.write("conftest.py", fixture)
    printed = run_pytest(folder)
    assert " 4 failed in " in printed
    for text in re.findall("`(RuntimeError: .*)`", TESTING):
        assert text in printed
    for text in ("BadRequestKeyError", "field 'password'", "AttributeError: user"):
        assert text in printed


# -- signals ---------------------------------------------------------------------------

TRACED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())


def trace_id():
    return f"{trace.get_current_span().get_span_context().trace_id:x}"


@celery.task
@with_request_context
def traced():
    return trace_id()


@app.get("/trace")
def ask_trace():
    with trace.get_tracer("shop").start_as_current_span("view"):
        return [trace_id(), delay_with_context(traced).get(timeout=10)]
"""


@runs("trace")
def test_a_trace(folder: Folder) -> None:
    """The task goes on with the view's trace."""
    folder.write_shop(EXAMPLES["trace"], TRACED)
    folder.start_worker()
    folder.start_server()
    view, task = requests.get(
        f"http://127.0.0.1:{folder.port}/trace", timeout=30
    ).json()
    assert view == task
    assert view != "0"


LOGGED = """
@celery.task
@with_request_context
def logged():
    return get_contextvars()


@app.get("/log")
def ask_log():
    bind_contextvars(visit="42")
    return delay_with_context(logged).get(timeout=10)
"""


@runs("log")
def test_log_variables(folder: Folder) -> None:
    """The task has the view's."""
    folder.write_shop(EXAMPLES["log"], LOGGED)
    folder.start_worker()
    folder.start_server()
    assert folder.request("GET", "/log") == '{"visit":"42"}\n'


# -- configuration and deployment ------------------------------------------------------


@runs("sentry")
def test_sentry(folder: Folder) -> None:
    """The shop works as before. (tests/integrations has what Sentry gets of it.)"""
    folder.write_shop(EXAMPLES["sentry"])
    folder.start_worker()
    folder.start_server()
    answer = folder.request("POST", "/invite/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben in de"


@runs("exclude")
def test_the_default_of_the_exclusion() -> None:
    """The list is the one in the code."""
    names: dict[str, t.Any] = {}
    exec(f"default = {EXAMPLES['exclude']}", names)
    assert tuple(names["default"]) == flask_task_context._EXCLUDE


def test_the_errors_of_the_configuration() -> None:
    """They are printed as the README says, and its table has each setting."""
    printed = [
        printed_by(init_app, TASK_CONTEXT_ENCRYPTION=True),
        printed_by(init_app, TASK_CONTEXT_BODY="false"),
        printed_by(capture_a_color),
    ]
    blocks = re.findall(r"^```text\n(.*?)^```$", README, re.M | re.S)
    assert set(printed) <= {" ".join(block.split()) for block in blocks}
    table = re.findall(r"^\| `(TASK_CONTEXT_\w+)` \|", README, re.M)
    settings = [key for key in flask_task_context._DEFAULTS if key.startswith("TASK_")]
    assert sorted(table) == sorted(settings)


class Color(enum.Enum):
    RED = "red"


def capture_a_color(app: Flask) -> None:
    with app.test_request_context("/"):
        session["color"] = Color.RED
        capture_context()


def printed_by(call: t.Callable[[Flask], None], **config: t.Any) -> str:
    app = Flask("shop")
    app.config.update(SECRET_KEY="key", **config)
    with pytest.raises((ValueError, TypeError, CaptureError)) as raised:
        call(app)
    return f"{type(raised.value).__name__}: {raised.value}"


def unit_files() -> dict[str, str]:
    files = re.findall(
        r"^```ini\n# /etc/(?:\S*/)?(\S+)\n(.*?)^```$", README, re.M | re.S
    )
    return dict(files)


@runs("store", "store_worker")
def test_an_app_factory_as_services(folder: Folder) -> None:
    """The services' command lines run, with the settings of the environment file."""
    for name in ("store", "store_worker"):
        folder.write(f"{name}.py", EXAMPLES[name])
    units = unit_files()
    settings = dict(
        line.split("=", 1) for line in shlex.split(units["store.env"], comments=True)
    )
    assert list(settings) == ["FLASK_SECRET_KEY", "FLASK_CELERY"]
    queue = f', "task_default_queue": "{folder.queue}"}}'
    settings["FLASK_CELERY"] = (
        settings["FLASK_CELERY"]
        .replace("redis://localhost:6379/0", folder.redis)
        .replace("}", queue)
    )
    folder.environ |= settings
    worker = command_of(units["store-worker.service"])
    folder.start(worker, " ready.")
    server = command_of(units["store.service"])
    assert "127.0.0.1:8000" in server
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{folder.port}")
    folder.start(server, "Listening at")
    answer = folder.request("POST", "/link/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


@pytest.mark.parametrize("way", ["decorator", "environment"])
def test_a_worker_that_makes_no_flask_app(way: str, folder: Folder) -> None:
    """The factory is named in the task, or in the environment."""
    source = EXAMPLES["store"]
    if way == "decorator":
        named = '@with_request_context(app="store:create_app")'
        assert named in README
        source = source.replace("@with_request_context", named)
    else:
        assert "`FLASK_APP=store:create_app`" in README
        folder.environ["FLASK_APP"] = "store:create_app"
    folder.write("store.py", source)
    folder.write(
        "bare_worker.py",
        f"from celery import Celery\nimport store\n\ncelery = Celery()\n{folder.settings()}",
    )
    folder.environ["FLASK_SECRET_KEY"] = "key"
    folder.environ["FLASK_CELERY"] = (
        f'{{"broker_url": "{folder.redis}", "result_backend": "{folder.redis}",'
        f' "task_default_queue": "{folder.queue}"}}'
    )
    folder.start_worker("bare_worker")
    folder.start_server("store:create_app")
    answer = folder.request("POST", "/link/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


def command_of(unit: str) -> str:
    (command,) = re.findall(r"^ExecStart=/srv/store/venv/bin/(.+)$", unit, re.M)
    return t.cast("str", command)


# -- base classes ----------------------------------------------------------------------


@runs("base")
def test_a_base_class(recipe: Recipe) -> None:
    """The base and the body have one ``g``, in the visitor's request."""
    answer = recipe("base").request("POST", "/order/book", headers=GERMAN)
    assert answer in BASE_CLASSES


@runs("handlers")
def test_handlers(folder: Folder) -> None:
    """A handler has the request, also after a hard time limit."""
    folder.write_shop("import time", EXAMPLES["handlers"])
    folder.start("celery -A shop.celery worker -c 1 -l INFO", " ready.")
    folder.start_server()
    folder.request("POST", "/import/0", headers=GERMAN)
    folder.wait_for("tell anna.example: ValueError('not a spreadsheet')", "celery")
    if celery.VERSION >= (5, 7):
        folder.request("POST", "/import/60", headers=GERMAN)
        folder.wait_for("tell anna.example: TimeLimitExceeded(2", "celery")


# -- coming from -----------------------------------------------------------------------

BEFORE_ALL = """
from concurrent.futures import ThreadPoolExecutor

from celery import Celery, Task, shared_task
from flask import Flask, copy_current_request_context, request, url_for
from flask_task_context import delay_with_context, init_app, with_request_context

app = Flask("shop")
app.config["SECRET_KEY"] = "key"
app.config["CELERY"] = {}
app.config["CELERY_BROKER_URL"] = "memory://"
app.config["CELERY_RESULT_BACKEND"] = "cache+memory://"


def celery_init_app(app):
    class FlaskTask(Task):
        def __call__(self, *args, **kwargs):
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


@app.get("/join/<name>")
def join(name):
    return f"Hello, {name}!"


"""


def side(name: str, sign: str) -> str:
    """One side of a diff: the lines before it, or after it."""
    lines = EXAMPLES[name].splitlines()
    assert {line[0] for line in lines} == {"-", "+", " "}
    return "\n".join(line[1:] for line in lines if line[0] in (sign, " ")) + "\n"


@runs("article", "celery_init_app", "helper", "celeryext", "copy", "explicit")
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("article", "TypeError: join_link() got an unexpected keyword argument"),
        ("celery_init_app", "RuntimeError: Unable to build URLs outside an active"),
        ("helper", "RuntimeError: Unable to build URLs outside an active request"),
        pytest.param("celeryext", None, marks=CELERYEXT_REQUESTS),
        ("copy", None),
        ("explicit", None),
    ],
)
def test_coming_from(name: str, error: str | None, folder: Folder) -> None:
    """Before, the error or the wrong host; after, the visitor's host."""
    folder.stack.enter_context(running_side(folder, name, "-"))
    if error:
        folder.request("POST", "/link/ben", 500, headers=GERMAN)
        assert error in folder.log("flask").read_text()
    else:
        host = "localhost" if name == "celeryext" else "anna.example"
        answer = folder.request("POST", "/link/ben", headers=GERMAN)
        assert answer == f"http://{host}/join/ben"
    folder.stack.close()
    folder.stack.enter_context(running_side(folder, name, "+"))
    answer = folder.request("POST", "/link/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


@contextlib.contextmanager
def running_side(folder: Folder, name: str, sign: str) -> t.Iterator[None]:
    source = BEFORE_ALL + side(name, sign)
    if "celery = " in source:
        source += f"\n\n{folder.settings()}"
    folder.write("shop.py", source)
    if "celery = " in source:
        folder.start_worker()
    folder.start_server()
    yield
