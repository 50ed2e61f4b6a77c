"""The pages of docs/ that a reader works through, run as a reader would run them.

A block has a name, in a comment above it: ``example`` for Python and diffs, ``console``
for what is typed, ``text`` for what is printed elsewhere. In what is printed, ``...``
stands for anything.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import subprocess
import time
import typing as t
from base64 import urlsafe_b64decode
from importlib import metadata
from pathlib import Path

import kombu
import pytest
import yaml
from flask import Flask
from flask import request
from flask import session

from flask_task_context import BadContext
from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import restore_context
from tests.conftest import ROOT
from tests.conftest import broker_url
from tests.test_documentation import GERMAN
from tests.test_documentation import Folder
from tests.test_documentation import blocks_of
from tests.test_documentation import free_port
from tests.test_error_messages import MESSAGES

DOCS = ROOT / "docs"
NAMES = [
    "tutorial",
    "troubleshooting",
    "operations",
    "security",
    "how-it-travels",
    "whose-request",
    "glossary",
]
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in NAMES}
BLOCKS = [block for page in PAGES.values() for block in blocks_of(page)]
EXAMPLES = {name: source for name, _, source in BLOCKS}


def named(kind: str, language: str) -> list[tuple[str, str]]:
    block = rf"^(?:<!-- {kind}: (\w+) -->\n)?```{language}\n(.*?)^```$"
    return re.findall(block, "\n".join(PAGES.values()), re.M | re.S)


CONSOLES = named("console", "console")
TEXTS = [text for text in named("text", "text") if text[0]]
TESTED: list[str] = []

Test = t.TypeVar("Test", bound=t.Callable[..., None])


def runs(*names: str) -> t.Callable[[Test], Test]:
    """Marks the test that runs these blocks."""
    TESTED.extend(names)
    return lambda test: test


def commands(name: str) -> list[tuple[str, str]]:
    """Each command of a console session, and what it prints."""
    session = f"\n{dict(CONSOLES)[name]}"
    pairs = (part.partition("\n") for part in session.split("\n$ ")[1:])
    return [(command, printed.strip("\n")) for command, _, printed in pairs]


def text(name: str) -> str:
    return dict(TEXTS)[name].strip("\n")


def pattern(shown: str) -> str:
    return re.escape(shown).replace(r"\.\.\.", "(?s:.*)")


def is_shown(shown: str, printed: str) -> bool:
    return re.search(pattern(shown), printed) is not None


def test_every_block_is_run() -> None:
    """Each has a name of its own and one test, and no test runs one that is gone."""
    blocks = [name for name, *_ in [*BLOCKS, *CONSOLES, *TEXTS]]
    assert sorted(blocks) == sorted(TESTED)


@runs("install", "install_login", "install_services", "install_encryption")
def test_what_is_installed_is_there() -> None:
    """Each ``pip install`` names packages, and extras of them, that the tests have."""
    pattern = r"^(?:\$|RUN) pip install (.*)$"
    lines = re.findall(pattern, "\n".join(PAGES.values()), re.M)
    assert lines
    for package in {part for line in lines for part in shlex.split(line)}:
        if package.startswith("--"):
            continue
        name, _, extra = package.removesuffix("]").partition("[")
        extras = metadata.metadata(name).get_all("Provides-Extra") or []
        assert not extra or extra in extras, package


# -- tutorial --------------------------------------------------------------------------


class Reader(Folder):
    """Types the commands of a page, one terminal for each that goes on."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(path, stack)
        self.ports = {"5000": self.port, "1025": free_port()}

    def with_ports(self, source: str) -> str:
        for port, mine in self.ports.items():
            source = source.replace(port, str(mine))
        return source

    def write(self, name: str, *sources: str) -> None:
        super().write(name, self.with_ports("\n\n".join(sources)))

    def type(self, name: str) -> None:
        """All that is no installation, and prints what the page says."""
        for command, printed in commands(name):
            if not command.startswith("pip "):
                assert re.fullmatch(pattern(printed), self.run(command)), command

    def run(self, command: str) -> str:
        command = self.with_ports(command).replace("curl ", "curl --silent ")
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.path,
            env=self.environ,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip("\n")

    def begin(self, name: str, ready: str = "") -> None:
        """A program that goes on, under its own name."""
        *before, (command, printed) = commands(name)
        script = "; ".join(c for c, _ in before if not c.startswith("pip "))
        command = f"exec {self.with_ports(command)}"
        shown = self.with_ports(printed)
        last = shown.rpartition("\n")[2].rpartition("...")[2]
        line = shlex.join(["sh", "-c", f"{script}\n{command}"])
        self.start(line, ready or last, name)
        assert is_shown(shown, self.log(name).read_text())

    def sees(self, name: str, terminal: str) -> None:
        deadline = time.monotonic() + 20
        while not is_shown(text(name), self.log(terminal).read_text()):
            assert time.monotonic() < deadline, self.log(terminal).read_text()
            time.sleep(0.05)

    def begin_both(self) -> None:
        self.stack.close()
        self.begin("worker")
        self.begin("server")


@pytest.fixture
def reader(tmp_path: Path) -> t.Iterator[Reader]:
    with contextlib.ExitStack() as stack:
        yield Reader(tmp_path, stack)


def changed(source: str, diff: str) -> str:
    """As a diff of the page says."""
    before, after = (
        "".join(
            line[1:] for line in diff.splitlines(keepends=True) if line[0] in f" {sign}"
        )
        for sign in "-+"
    )
    assert source.count(before) == 1
    return source.replace(before, after)


@runs("first_task", "worker", "server", "visit", "first_result")
@runs("first_mistake", "visit_again", "first_error")
@runs("mail_server", "first_mail", "visit_mail", "first_mail_text")
@runs("first_user", "visit_login", "first_report")
@runs("first_tests", "tests")
def test_the_tutorial(reader: Reader) -> None:
    """Each step shows what the page says, the mistake too."""
    shop = EXAMPLES["first_task"]
    reader.write("shop.py", shop)
    reader.begin_both()
    reader.type("visit")
    reader.sees("first_result", "worker")

    reader.write("shop.py", changed(shop, EXAMPLES["first_mistake"]))
    reader.begin_both()
    reader.type("visit_again")
    reader.sees("first_error", "worker")

    reader.write("shop.py", shop, EXAMPLES["first_mail"], EXAMPLES["first_user"])
    reader.begin_both()
    reader.begin("mail_server")
    wait_for_port(reader.ports["1025"])
    reader.type("visit_mail")
    reader.sees("first_mail_text", "mail_server")
    reader.type("visit_login")
    reader.sees("first_report", "worker")

    reader.write("test_shop.py", EXAMPLES["first_tests"])
    reader.type("tests")


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("localhost", port)).close()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@runs("first_deployment", "key", "deployed_worker", "deployed_server")
def test_the_tutorials_deployment(reader: Reader) -> None:
    """With a key from outside, on Redis and gunicorn, the worker says the same."""
    shop = changed(EXAMPLES["first_task"], EXAMPLES["first_deployment"])
    assert shop.count('"redis://localhost"') == 2
    reader.write("shop.py", shop, reader.settings())
    reader.type("key")
    reader.begin("deployed_worker", " ready.")
    reader.begin("deployed_server", "Listening at")
    reader.type("visit")
    reader.sees("first_result", "deployed_worker")


# -- troubleshooting -------------------------------------------------------------------


@runs("look", "looking", "key_id", "print_key_id")
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_looking_into_a_header(broker: str, reader: Reader) -> None:
    """It shows what waits, twice; another key sees the front alone; and the worker has
    the message all the same."""
    settings = reader.settings().replace(reader.redis, broker_url(broker), 1)
    reader.write("shop.py", EXAMPLES["first_task"], settings)
    reader.begin("server")
    reader.type("visit")
    reader.write("look.py", EXAMPLES["look"])
    reader.type("looking")
    reader.type("looking")
    (shown,) = re.findall("key '(.*)'", reader.run("python look.py"))
    reader.write("key_id.py", EXAMPLES["key_id"])
    reader.type("print_key_id")
    assert shown in reader.run("python key_id.py")

    shop = (reader.path / "shop.py").read_text()
    another = shop.replace("the same in the web", "another in this")
    assert another != shop
    reader.write("shop.py", another)
    looked = reader.run("python look.py")
    assert f"format 1, signed, app 'shop', key '{shown}'" in looked
    assert "refused: The context is signed with a SECRET_KEY" in looked

    reader.write("shop.py", shop)
    reader.begin("worker", " ready.")
    reader.sees("first_result", "worker")


@runs("look_factory")
def test_looking_with_an_app_factory(reader: Reader) -> None:
    """Both files take the app of the factory instead."""
    write_store(reader)
    settings = {
        "broker_url": reader.redis,
        "result_backend": reader.redis,
        "result_expires": 600,
        "task_default_queue": reader.queue,
    }
    reader.environ |= {"FLASK_SECRET_KEY": "key", "FLASK_CELERY": json.dumps(settings)}
    for name in ("look", "key_id"):
        source = re.sub(
            r"^from shop import .*\n",
            EXAMPLES["look_factory"],
            EXAMPLES[name],
            flags=re.M,
        )
        assert "shop" not in source
        reader.write(f"{name}.py", source)
    reader.write("visit.py", VISIT_OF_THE_STORE)
    reader.run("python visit.py")
    assert "\n  POST http://anna.example/link/ben" in reader.run("python look.py")
    assert "['1', 'signed', 'store', " in reader.run("python key_id.py")
    worker = "celery -A store_worker.celery worker --pool=solo -l INFO"
    reader.start(worker, "'http://anna.example/join/ben'")


VISIT_OF_THE_STORE = """
from flask_task_context import delay_with_context
from store import create_app, write_link

visit = {"base_url": "http://anna.example", "method": "POST"}
with create_app().test_request_context("/link/ben", **visit):
    delay_with_context(write_link, "ben")
"""


@runs("ask_before_sending")
def test_asking_before_a_task_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """It says whether there is a request, and nothing of it."""
    app = Flask("shop")
    names = {"app": app, "capture_context": capture_context}
    for context in (app.app_context(), app.test_request_context("/")):
        with context:
            exec(EXAMPLES["ask_before_sending"], dict(names))
    without, within = caplog.messages[0], caplog.messages[-1]
    assert without == "context: 0 characters"
    assert re.fullmatch(r"context: [1-9]\d+ characters", within)


@runs("grep_raised", "grep_debug", "grep_calls")
def test_what_a_log_is_searched_for(reader: Reader) -> None:
    """Each search finds its line: a plain call in the source, its error in the worker's
    log, and in the DEBUG log of another message the header."""
    shop = EXAMPLES["first_task"] + "\n\n" + reader.settings()
    reader.write("shop.py", changed(shop, EXAMPLES["first_mistake"]))
    ((grep, _),) = commands("grep_calls")
    assert "write_invitation.delay(name)" in reader.run(grep)
    for name, source in (("grep_raised", None), ("grep_debug", shop)):
        ((command, _),) = commands(name)
        worker, _, grep = command.partition(" 2>&1 | ")
        if source:
            reader.write("shop.py", source)
        reader.start(f"{worker} --pool=solo", " ready.", name)
        reader.begin("server")
        reader.type("visit")
        reader.wait_for("raised" if source is None else "succeeded", name)
        assert reader.run(f"{grep} {name}.log")
        reader.stack.close()


KNOWN = {"task": "shop.write_invitation", "id": "1"}


@pytest.mark.parametrize(
    ("beginning", "kind", "headers", "shown"),
    [
        ("Received and deleted", "application/json", {}, True),
        ("Can't decode", "application/json", KNOWN, True),
        ("Received invalid", "application/x-odd", KNOWN, False),
    ],
)
def test_messages_that_a_worker_cannot_take(
    beginning: str, kind: str, headers: t.Any, shown: bool, reader: Reader
) -> None:
    """Its log lines are those of the page, and show all headers where it says so."""
    reader.write("shop.py", EXAMPLES["first_task"], reader.settings())
    reader.begin("worker", " ready.")
    body = "?" if headers else "{}"
    with kombu.Connection(reader.redis) as connection:
        connection.Producer().publish(
            body,
            routing_key=reader.queue,
            content_type=kind,
            headers={**headers, "mine": "a visitor"},
        )
    reader.wait_for(beginning, "worker")
    reader.wait_for(body, "worker")
    printed = reader.log("worker").read_text()
    (heading,) = re.findall(rf"^### `({beginning}.*)`$", PAGE, re.M)
    assert is_shown(heading, " ".join(printed.split()))
    assert ("a visitor" in printed) == shown


PAGE = PAGES["troubleshooting"]
OWN = PAGE[PAGE.index("## Messages in the view") :]
ENTRIES = re.findall(r"^### (.*)\n((?:(?!#{2,3} ).*\n)*)", OWN, re.M)
NO_KEY = (
    "The app 'shop' has no SECRET_KEY: the requests that travel with its tasks are"
    " unsigned, and whoever can write to the broker can make one up. Set one, the same in"
    " every process."
)
NOTE = (
    "Of its request this task has not: header 'Cookie' (TASK_CONTEXT_EXCLUDE: set"
    " TASK_CONTEXT_ENCRYPT = True, which leaves none out). Pass what it needs as an"
    " argument, or change the setting."
)
NO_BODY = (
    "LeftOut: The request body (5 bytes) did not travel with the task: TASK_CONTEXT_BODY"
    " is False. Store it in the view and pass its key to the task."
)
SAID = [
    *(f"{message.error.__name__}: {message.text}" for message in MESSAGES),
    *(NO_KEY, NOTE, NO_BODY),
]


def patterns_of(heading: str, entry: str) -> list[str]:
    """What an entry stands for in whole: its first block, or its heading."""
    blocks = re.findall(r"\A\n```text\n(.*?)^```$", entry, re.M | re.S)
    return [pattern(" ".join(text.split())) for text in blocks or [heading.strip("`")]]


@pytest.mark.parametrize("text", SAID)
def test_every_message_has_an_entry(text: str) -> None:
    """One can find it by its whole text, and where it is not in the heading by its
    beginning there."""
    found = [
        heading.strip("`")
        for heading, entry in ENTRIES
        for whole in patterns_of(heading, entry)
        if re.fullmatch(whole, text)
    ]
    assert found
    assert all(re.match(pattern(heading), text) for heading in found)


@pytest.mark.parametrize(("heading", "entry"), ENTRIES, ids=[h for h, _ in ENTRIES])
def test_every_entry_has_a_message(heading: str, entry: str) -> None:
    """No entry is of a message that nobody meets any more, and each says something."""
    (whole,) = patterns_of(heading, entry)
    assert any(re.fullmatch(whole, text) for text in SAID)
    assert re.sub(r"^```.*?^```$", "", entry, flags=re.M | re.S).strip()


# -- operations ------------------------------------------------------------------------


def write_store(reader: Reader) -> None:
    for name in ("store", "store_worker"):
        reader.write(f"{name}.py", EXAMPLES[name])


def unit_files() -> dict[str, str]:
    files = re.findall(
        r"^```ini\n# /etc/(?:\S*/)?(\S+)\n(.*?)^```$", PAGES["operations"], re.M | re.S
    )
    return dict(files)


@runs("store", "store_worker")
def test_an_app_factory_as_services(reader: Reader) -> None:
    """The services' command lines run, with the settings of the environment file."""
    for name in ("store", "store_worker"):
        reader.write(f"{name}.py", EXAMPLES[name])
    units = unit_files()
    settings = dict(
        line.split("=", 1) for line in shlex.split(units["store.env"], comments=True)
    )
    assert list(settings) == ["FLASK_SECRET_KEY", "FLASK_CELERY"]
    queue = f', "task_default_queue": "{reader.queue}"}}'
    settings["FLASK_CELERY"] = (
        settings["FLASK_CELERY"]
        .replace("redis://localhost:6379/0", reader.redis)
        .replace("}", queue)
    )
    reader.environ |= settings
    worker = command_of(units["store-worker.service"])
    reader.start(worker, " ready.")
    server = command_of(units["store.service"])
    assert "127.0.0.1:8000" in server
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{reader.port}")
    reader.start(server, "Listening at")
    answer = reader.request("POST", "/link/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


@pytest.mark.parametrize("way", ["decorator", "environment"])
def test_a_worker_that_makes_no_flask_app(way: str, reader: Reader) -> None:
    """The factory is named in the task, or in the environment."""
    source = EXAMPLES["store"]
    if way == "decorator":
        named = '@with_request_context(app="store:create_app")'
        assert named in PAGES["operations"]
        source = source.replace("@with_request_context", named)
    else:
        assert "`FLASK_APP=store:create_app`" in PAGES["operations"]
        reader.environ["FLASK_APP"] = "store:create_app"
    reader.write("store.py", source)
    reader.write(
        "bare_worker.py",
        f"from celery import Celery\nimport store\n\ncelery = Celery()\n{reader.settings()}",
    )
    reader.environ["FLASK_SECRET_KEY"] = "key"
    reader.environ["FLASK_CELERY"] = (
        f'{{"broker_url": "{reader.redis}", "result_backend": "{reader.redis}",'
        f' "task_default_queue": "{reader.queue}"}}'
    )
    reader.start_worker("bare_worker")
    reader.start_server("store:create_app")
    answer = reader.request("POST", "/link/ben", headers=GERMAN)
    assert answer == "http://anna.example/join/ben"


def command_of(unit: str) -> str:
    (command,) = re.findall(r"^ExecStart=/srv/store/venv/bin/(.+)$", unit, re.M)
    return t.cast("str", command)


@runs("development_worker", "development_server", "development_visit")
def test_a_factory_in_development(reader: Reader) -> None:
    """The commands run it on files of SQLite."""
    write_store(reader)
    reader.begin("development_worker")
    reader.begin("development_server")
    reader.type("development_visit")


@runs("ping")
def test_containers(reader: Reader) -> None:
    """The services' commands run, and the worker answers."""
    write_store(reader)
    ((_, compose),) = named_file("yaml")
    services = yaml.safe_load(compose)["services"]
    assert set(services) == {"web", "worker", "redis"}
    reader.environ |= {
        "FLASK_SECRET_KEY": "key",
        "FLASK_CELERY": json.dumps(
            {
                "broker_url": reader.redis,
                "result_backend": reader.redis,
                "task_default_queue": reader.queue,
                # ``inspect`` asks each worker that listens there.
                "control_exchange": reader.queue,
            }
        ),
    }
    reader.start(services["worker"]["command"], " ready.", "worker")
    bind = services["web"]["command"].replace("0.0.0.0:8000", "127.0.0.1:5000")
    reader.start(reader.with_ports(bind), "Listening at", "web")
    reader.type("development_visit")
    reader.type("ping")
    ((_, image),) = named_file("dockerfile")
    assert {"store.py", "store_worker.py"} < set(image.split())


def named_file(language: str) -> list[tuple[str, str]]:
    block = rf"^```{language}\n# (\S+)\n(.*?)^```$"
    return re.findall(block, PAGES["operations"], re.M | re.S)


ENVIRONMENTS = dict(named("env", "ini"))


def app_with(*settings: str) -> Flask:
    """A process whose environment holds these."""
    app = Flask("shop")
    with pytest.MonkeyPatch.context() as patch:
        for line in shlex.split("\n".join(settings)):
            patch.setenv(*line.split("=", 1))
        app.config.from_prefixed_env()
    return app


def arrives(sender: Flask, receiver: Flask) -> bool:
    with sender.test_request_context("/link/ben"):
        headers = capture_context()
    try:
        with restore_context(headers, receiver):
            return request.path == "/link/ben"
    except BadContext:
        return False


@pytest.mark.parametrize("step", [0, 1, 2])
def test_changing_the_key(step: int) -> None:
    """Processes of one step and of the next understand each other; two steps at once
    would not do."""
    steps = [app_with(ENVIRONMENTS[f"key_{n}"]) for n in range(4)]
    old, new = steps[step : step + 2]
    assert arrives(old, new)
    assert arrives(new, old)
    assert not arrives(steps[0], steps[3])
    assert not arrives(steps[2], steps[0])


def test_turning_encryption_on() -> None:
    """Web processes first: a worker that has it takes no signed context."""
    pytest.importorskip("cryptography")
    key = ENVIRONMENTS["key_0"]
    without = app_with(key)
    web = app_with(key, ENVIRONMENTS["encrypt_web"])
    worker = app_with(key, ENVIRONMENTS["encrypt_worker"])
    assert arrives(web, without)
    assert arrives(web, worker)
    assert not arrives(without, worker)


def begin_with_another_key(reader: Reader, shop: str, done: str) -> None:
    """The worker has another one than the server."""
    reader.write("shop.py", shop)
    reader.begin("server")
    reader.write("shop.py", shop.replace("the same in the web", "another in this"))
    reader.begin("worker", " ready.")
    reader.type("visit")
    reader.wait_for(done, "worker")


def mend(reader: Reader, shop: str) -> None:
    reader.stack.close()
    reader.write("shop.py", shop)
    reader.begin("worker", " ready.")


@runs("try_again")
def test_trying_refused_tasks_again(reader: Reader) -> None:
    """A worker with the right key does what one with another had refused."""
    assert "default_retry_delay=600" in EXAMPLES["try_again"]
    letter = EXAMPLES["try_again"].replace("=600", "=2")
    shop = "\n\n".join([EXAMPLES["first_task"], letter, reader.settings()])
    shop = shop.replace(
        "(write_invitation, name)\n", "(celery.tasks['shop.write_letter'], name)\n"
    )
    begin_with_another_key(reader, shop, "Retry in 2s")
    mend(reader, shop)
    reader.wait_for("succeeded in", "worker")
    assert "'http://anna.example/join/ben'" in reader.log("worker").read_text()


@runs("dead_letters", "send_again", "sending_again")
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_dead_letter_queue(compression: str | None, reader: Reader) -> None:
    """What was refused waits there, and is done when it is sent again."""

    def of_its_own(source: str) -> str:
        return re.sub(r'"shop(\.refused)?"', rf'"{reader.queue}\1"', source)

    settings = reader.settings().replace(reader.redis, broker_url("rabbitmq"), 1)
    shop = "\n\n".join(
        [
            EXAMPLES["first_task"],
            settings,
            of_its_own(EXAMPLES["dead_letters"]),
            f"celery.conf.task_compression = {compression!r}",
        ]
    )
    reader.write("shop.py", shop)
    reader.write("send_again.py", of_its_own(EXAMPLES["send_again"]))
    assert reader.run("python send_again.py") == "0 sent again"
    try:
        begin_with_another_key(reader, shop, "BadContext")
        mend(reader, shop)
        reader.type("sending_again")
        reader.sees("first_result", "worker")
        assert reader.run("python send_again.py") == "0 sent again"
    finally:
        reader.stack.close()
        with kombu.Connection(broker_url("rabbitmq")) as connection:
            for name in (reader.queue, f"{reader.queue}.refused"):
                kombu.Queue(name)(connection.default_channel).delete()


@runs("count", "counted")
def test_a_count_of_refused_tasks(reader: Reader) -> None:
    """The worker's log has it."""
    shop = [EXAMPLES["first_task"], EXAMPLES["count"], reader.settings()]
    begin_with_another_key(reader, "\n\n".join(shop), "BadContext")
    reader.sees("counted", "worker")


# -- security --------------------------------------------------------------------------


@runs("recommended")
def test_the_recommended_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are settings, and a task under them has the user, no body, and nothing that
    a reader of the broker could read."""
    pytest.importorskip("cryptography")
    app = Flask("shop")
    monkeypatch.setenv("SECRET_KEY", "key")
    exec(EXAMPLES["recommended"], {"app": app})
    init_app(app)
    post = {"method": "POST", "data": b"a body", "headers": {"Cookie": "a=cookie"}}
    with app.test_request_context("/pay", **post):
        session.update(_user_id="anna", cart=["book"])
        headers = capture_context()
    readable = urlsafe_b64decode(headers["flask_task_context"].split(":")[-1])
    assert not any(word in readable for word in (b"anna", b"pay", b"cookie"))
    with restore_context(headers):
        assert (request.path, request.cookies["a"]) == ("/pay", "cookie")
        assert dict(session) == {"_user_id": "anna"}
        with pytest.raises(LeftOut, match="TASK_CONTEXT_BODY is False"):
            request.get_data()


# -- explanation -----------------------------------------------------------------------


@runs("one_header", "print_header")
def test_one_header(reader: Reader) -> None:
    """It looks as the page says."""
    reader.write("one_header.py", EXAMPLES["one_header"])
    reader.type("print_header")


@runs("whose", "whose_visit", "whose_printed")
def test_a_canvas_and_its_children(reader: Reader) -> None:
    """Each is in the request that the page, and its picture, says."""
    shop = [EXAMPLES["first_task"], EXAMPLES["whose"], reader.settings()]
    reader.write("shop.py", *shop)
    reader.begin("worker", " ready.")
    reader.begin("server")
    reader.type("whose_visit")
    lines = text("whose_printed").splitlines()
    for line in lines:
        reader.wait_for(line, "worker")
    printed = re.findall(r"\] (\w+ - .+)", reader.log("worker").read_text())
    assert sorted(printed) == sorted(lines)
    picture = (DOCS / "whose-request.svg").read_text()
    drawn = re.findall(r'class="name".*>(.+)</text>\n.*>(.+)</text>', picture)
    said = {"anna.example": "Anna\u2019s request", "supplier.example": "that one"}
    for name, whose in (line.split(" - ") for line in lines):
        assert (name, said.get(whose, whose)) in drawn
