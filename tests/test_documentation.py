"""Every example of the README and of docs/, run as a reader would run it.

A Python block has a name, in a comment above it. One that does not begin with a file's
name goes on from ``shop.py``, the first app. A diff is run before and after. Commands
that a page shows with what they print are run too.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import typing as t
import uuid
from pathlib import Path

import celery
import pytest
import requests
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
from tests.conftest import stop

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]

#: Pages whose blocks another file runs.
ELSEWHERE = {
    **dict.fromkeys(
        (
            "docs/how-it-travels.md",
            "docs/operations.md",
            "docs/security.md",
            "docs/troubleshooting.md",
            "docs/tutorial.md",
            "docs/whose-request.md",
        ),
        "test_pages.py",
    ),
    "docs/how-to/dash.md": "integrations/test_dash.py",
    "docs/how-to/packages.md": "integrations/recipes.py",
    "docs/how-to/socketio.md": "integrations/test_flask_socketio.py",
}


def blocks_of(page: str) -> list[tuple[str, str, str]]:
    """The name, the language and the source of each."""
    block = r"^(?:<!-- example: (\w+) -->\n)?```(python|diff)\n(.*?)^```$"
    return re.findall(block, page, re.M | re.S)


BLOCKS = [
    block
    for page, text in PAGES.items()
    if page not in ELSEWHERE
    for block in blocks_of(text)
]
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
        shop = "\n\n".join([shop_on("redis"), *more])
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

    def run_commands(self, page: str) -> None:
        """The page's commands, but for what installs or stays: they print what it says."""
        commands = re.findall(
            r"^\$ (?!pip|celery|aiosmtpd)(.*)\n((?:[^$].*\n)*)",
            "".join(blocks("console", page)),
            re.M,
        )
        assert commands
        for command, printed in commands:
            ran = subprocess.run(
                [
                    "bash",
                    "-c",
                    self.with_port(command).replace("curl ", "curl --silent "),
                ],
                cwd=self.path,
                env=self.environ,
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
            )
            assert ran.stdout.strip() == printed.strip(), command

    def with_port(self, command: str) -> str:
        return command.replace("localhost:5000", f"127.0.0.1:{self.port}")


def shop_on(broker: str) -> str:
    """The first app, with the line that the README has for a broker."""
    shop, changes = re.subn(
        "^celery = .*\n", EXAMPLES[broker], EXAMPLES["shop"], flags=re.M
    )
    assert changes == 1
    for url, name in (("redis://localhost", "redis"), ("amqp://localhost", "rabbitmq")):
        if url in shop:
            shop = shop.replace(url, broker_url(name))
    return shop


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.M | re.S)


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


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_that_another_file_runs(page: str) -> None:
    """The other file reads it, and all of its blocks."""
    tests = ROOT / "tests"
    assert '"docs"' in (tests / ELSEWHERE[page]).read_text()
    if page == "docs/how-to/packages.md":
        apps = "".join(
            file.read_text() for file in (tests / "integrations" / "apps").glob("*.py")
        )
        used = re.findall(r'recipe_module\("(\w+)", "packages"', apps)
        sources = [source for _, _, source in blocks_of(PAGES[page])]
        assert len(used) == len(sources)
        assert all(any(word in source for word in used) for source in sources)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """To a heading, as GitHub and MyST name it, or to a file of the repository."""
    for link in links(page):
        path, _, anchor = link.removeprefix("source:").partition("#")
        if re.match("https?:", link) or anchor.startswith("flask_task_context."):
            continue
        folder = ROOT if link.startswith("source:") else (ROOT / page).parent
        target = (folder / path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page]))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


FORM = ["What you need", "The code", "See that it works", "It goes wrong when"]
#: Those that are no recipe.
OTHER_FORM = {"coming-from", "packages", "workers"}


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page.startswith("docs/how-to/") and Path(page).stem not in OTHER_FORM
    ],
)
def test_every_how_to_has_the_form(page: str) -> None:
    """What you need, the code, how to see that it works, what goes wrong when."""
    assert re.findall(r"^## (.*)$", PAGES[page], re.M) == FORM


def test_the_readme_is_short() -> None:
    """No more than 150 lines, and each page of the site is reached from its index."""
    assert len(README.splitlines()) <= 150
    listed = re.findall(r"^[\w/-]+$", "\n".join(toctrees()), re.M)
    pages = [page for page in PAGES if page.startswith("docs/")]
    assert sorted(pages) == sorted(
        ["docs/index.md", *(f"docs/{page}.md" for page in listed)]
    )


def toctrees() -> list[str]:
    text = PAGES["docs/index.md"]
    return re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S)


def project() -> tuple[t.Any, dict[str, str]]:
    """Its metadata, and its addresses there."""
    metadata: t.Any = importlib.metadata.metadata("flask-task-context")
    return metadata, dict(url.split(", ") for url in metadata.get_all("Project-URL"))


def test_the_package_index_has_addresses() -> None:
    """No link of its page is one of the repository, and all are of one place."""
    metadata, urls = project()
    assert set(urls) == {"Documentation", "Source", "Changelog", "Issues"}
    page = metadata["Description"] or metadata.get_payload()
    addresses = re.findall(r"\]\(([^)\s]+)\)", page)
    assert f"{urls['Documentation']}how-to/mail.html" in addresses
    assert f"{urls['Source']}raw/main/docs/how-it-travels.svg" in addresses
    assert all(re.match("https?:", address) for address in addresses)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_the_addresses_stand_in_one_place() -> None:
    """All others are made of those in ``setup.cfg``."""
    _, urls = project()
    known = subprocess.run(
        ["git", "grep", "-l", urls["Documentation"]],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert known.stdout.split() == ["setup.cfg"]


# -- the first app ---------------------------------------------------------------------


@runs("shop")
def test_the_first_app(folder: Folder) -> None:
    """Its two terminals are pasted as they stand, and print what the README says."""
    folder.write("shop.py", EXAMPLES["shop"])
    worker, visitor, *_ = blocks("bash", "README.md")
    pip, celery = worker.splitlines()
    assert pip.startswith("pip install flask-task-context ")
    folder.start(celery, " ready.")
    (answer,) = (text for text in blocks("text", "README.md") if " in de" in text)
    assert "localhost:5000" in visitor
    assert "`kill %1` stops the server" in README
    terminal = subprocess.run(
        ["bash", "-c", f"set -m\n{folder.with_port(visitor)}\nkill %1\nwait"],
        cwd=folder.path,
        env=folder.environ,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert answer.strip() in terminal.stdout


@runs("redis", "rabbitmq")
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_the_line_for_another_broker(broker: str, folder: Folder) -> None:
    """It takes the place of the first app's."""
    queue = f'celery.conf.task_default_queue = "{folder.queue}"\n'
    folder.write("shop.py", shop_on(broker) + queue)
    folder.start_worker()
    folder.start_server()
    answer = folder.request("POST", "/invite/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben in de"


# -- recipes ---------------------------------------------------------------------------


#: The how-to pages that say what is printed, and their examples.
RECIPES = {
    "auto": ["auto"],
    "canvas": ["canvas"],
    "current-user": ["user", "tutorial"],
    "locale": ["locale"],
    "opentelemetry": ["trace", "traced"],
    "sentry": ["sentry"],
    "threads": ["thread"],
}


@runs(*itertools.chain(*RECIPES.values()))
@pytest.mark.parametrize("page", RECIPES)
def test_a_recipe(page: str, recipe: Recipe) -> None:
    """Its commands print what the page says."""
    recipe(*RECIPES[page]).run_commands(f"docs/how-to/{page}.md")


def logged_lines(page: str) -> list[str]:
    """What a page says that the worker's log has."""
    return "".join(blocks("text", page)).splitlines()


@runs("mail")
def test_mail(folder: Folder) -> None:
    """The mail's link is on the visitor's host."""
    page = "docs/how-to/mail.md"
    port = str(free_port())
    (server,) = [one for one in blocks("console", page) if "$ aiosmtpd" in one]
    assert "1025" in server
    folder.start(server.removeprefix("$ ").replace("1025", port), "", "aiosmtpd")
    folder.write_shop(EXAMPLES["mail"].replace("1025", port))
    folder.start_worker()
    folder.start_server()
    folder.run_commands(page)
    (link,) = blocks("text", page)
    folder.wait_for(link, "aiosmtpd")


@runs("retries")
def test_retries(recipe: Recipe) -> None:
    """The second try is in the request. A refused context is not tried again."""
    running = recipe("retries")
    page = "docs/how-to/retries.md"
    running.run_commands(page)
    for line in logged_lines(page):
        running.wait_for(line, "celery")
    log = running.log("celery").read_text()
    assert log.count("Retry in") == 1
    assert log.count("raised unexpected: BadContext") == 1


@runs("formatter", "log", "logged")
def test_log_lines(recipe: Recipe) -> None:
    """The worker's lines have the visitor's URL, and the view's variables."""
    page = "docs/how-to/logs.md"
    running = recipe("formatter", "log", "logged")
    running.run_commands(page)
    for line in logged_lines(page):
        running.wait_for(f"\n{line}\n", "celery")
    running.wait_for("\n- - Task shop.pack[", "celery")


@runs("small", "stored")
def test_uploads(recipe: Recipe) -> None:
    """A small file travels, a stored one is found, and a large one says so."""
    page = "docs/how-to/uploads.md"
    running = recipe("small", "stored")
    running.run_commands(page)
    for line in logged_lines(page):
        running.wait_for(line, "celery")


@runs("beat", "command")
def test_beat(folder: Folder) -> None:
    """The task of a schedule, and that of a command, run in the request that they were
    given."""
    page = "docs/how-to/beat.md"
    assert '"schedule": 3600' in EXAMPLES["beat"]
    scheduled = EXAMPLES["beat"].replace("3600", "1")
    folder.write_shop(scheduled, EXAMPLES["command"])
    folder.start_worker()
    folder.start("celery -A shop.celery beat -l INFO", "Sending due task", "beat")
    for line in logged_lines(page):
        folder.wait_for(line, "celery")
    folder.run_commands(page)


@runs("several", "tenants")
def test_several_apps(recipe: Recipe) -> None:
    """One worker serves all, each task in the app that sent it."""
    page = "docs/how-to/several-apps.md"
    running = recipe("several", "tenants")
    text = "".join(blocks("console", page))
    servers = re.findall(r"^\$ flask --app (\S+) run --port (\d+) &$", text, re.M)
    ports = {number: free_port() for _, number in servers}
    for name, number in servers:
        running.environ["FLASK_RUN_PORT"] = str(ports[number])
        running.start_server(name)
    asked = re.findall(r"^\$ curl localhost:(\d+)(\S*)\n(.*)\n", text, re.M)
    assert len(asked) == len(servers)
    for number, path, answer in asked:
        running.port = ports[number]
        assert running.request("GET", path) == answer


def run_pytest(folder: Folder, *files: str) -> str:
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, *files], cwd=folder.path, capture_output=True, text=True
    )
    return result.stdout


@runs("testing", "conftest", "for_real")
@pytest.mark.parametrize("names", [("testing", "for_real"), ("for_real", "testing")])
def test_a_readers_own_tests(names: tuple[str, str], folder: Folder) -> None:
    """pytest runs them, with warnings as errors, in any order."""
    folder.write_shop()
    folder.write("conftest.py", EXAMPLES["conftest"])
    for name in names:
        folder.write(f"test_{name}.py", EXAMPLES[name])
    files = [f"test_{name}.py" for name in names]
    assert " 4 passed in " in run_pytest(folder, *files)
    # One that is eager by mistake does not pass for a worker's.
    eager = "from shop import celery\n\ncelery.conf.task_always_eager = True\n\n\n"
    folder.write("test_eager.py", eager + EXAMPLES["for_real"])
    printed = run_pytest(folder, "test_eager.py")
    assert "AssertionError: nothing was sent to the broker" in printed


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
    for text in re.findall("`(RuntimeError: .*)`", PAGES["docs/how-to/testing.md"]):
        assert text in printed
    for text in ("BadRequestKeyError", "field 'password'", "AttributeError: user"):
        assert text in printed


# -- configuration ------------------------------------------------------


@runs("exclude")
def test_the_default_of_the_exclusion() -> None:
    """The list is the one in the code."""
    names: dict[str, t.Any] = {}
    exec(f"default = {EXAMPLES['exclude']}", names)
    assert tuple(names["default"]) == flask_task_context._EXCLUDE


def test_the_errors_of_the_configuration() -> None:
    """They are printed as the pages say."""
    printed = [
        printed_by(init_app, TASK_CONTEXT_ENCRYPTION=True),
        printed_by(init_app, TASK_CONTEXT_BODY="false"),
        printed_by(capture_a_color),
    ]
    text = blocks("text", "docs/reference/errors.md")
    text += blocks("text", "docs/reference/values.md")
    assert set(printed) <= {" ".join(block.split()) for block in text}


SETTINGS = [key for key in flask_task_context._DEFAULTS if key.startswith("TASK_")]


@runs(*(f"setting_{key.removeprefix('TASK_CONTEXT_').lower()}" for key in SETTINGS))
@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting(key: str) -> None:
    """It has an entry with its default, and an example that is not the default."""
    page = PAGES["docs/reference/settings.md"]
    (entry,) = re.findall(rf"^## `{key}`\n(.*?)(?=^## )", page, re.M | re.S)
    default = flask_task_context._DEFAULTS[key]
    if key != "TASK_CONTEXT_EXCLUDE":
        (written,) = re.findall("^Default: `(.*?)`", entry, re.M)
        assert ast.literal_eval(written) == default
    app = Flask("shop")
    app.config["SECRET_KEY"] = "key"
    exec(EXAMPLES[f"setting_{key.removeprefix('TASK_CONTEXT_').lower()}"], {"app": app})
    assert app.config[key] != default
    init_app(app)
    with app.test_request_context("/"):
        assert capture_context()


def test_the_format_of_a_header() -> None:
    """A header has the fields that the page names, in its order, and the signature."""
    page = PAGES["docs/reference/header.md"]
    (form,) = blocks("text", "docs/reference/header.md")
    fields = form.strip().split(":")
    assert re.findall(r"^\* `([a-z ]+)`: ", page, re.M)[: len(fields)] == fields
    app = Flask("a:shop")
    app.config["SECRET_KEY"] = "key"
    init_app(app)
    with app.test_request_context("/"):
        (header,) = capture_context().values()
    version, kind, name, key_id, length, payload = header.split(":", 5)
    assert (version, kind, name) == ("1", "signed", "a%3Ashop")
    assert len(key_id) == 6
    text, signature = payload[: int(length)], payload[int(length) :]
    assert re.fullmatch(r"\.[\w-]{43}", signature)
    assert set(json.loads(text)) <= set(re.findall("`([a-z]+)`", page))


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


# -- base classes ----------------------------------------------------------------------


@runs("base", "handlers")
def test_base_classes(folder: Folder) -> None:
    """The base and the body have one ``g``, in the visitor's request, and a handler has
    it too, also after a hard time limit."""
    page = "docs/how-to/base-classes.md"
    folder.write_shop(EXAMPLES["base"], EXAMPLES["handlers"])
    folder.start("celery -A shop.celery worker -c 1 -l INFO", " ready.")
    folder.start_server()
    folder.run_commands(page)
    error, limit = logged_lines(page)
    folder.wait_for(error, "celery")
    if celery.VERSION >= (5, 7):
        folder.wait_for(limit, "celery")


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
