"""The bookings, run as their README and their compose file say."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from email.message import EmailMessage
from pathlib import Path

import pytest
import requests
import sqlalchemy
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from celery import Celery

from examples.maildir import read_mails
from examples.stack import free_port
from tests.conftest import ROOT
from tests.conftest import broker_url
from tests.conftest import drop_queue
from tests.conftest import postgresql_url

BOOKINGS = ROOT / "examples/bookings"
README = (BOOKINGS / "README.md").read_text()
COMPOSE = yaml.safe_load((BOOKINGS / "compose.yaml").read_text())
# What the README types into a shell.
COMMANDS = re.findall(r"^\$ (.*?)(?: &)?$", README, re.MULTILINE)
COMPILE, SOURCE, INIT_DB = "pybabel compile -d bookings/translations", *COMMANDS[3:5]
OWN_TESTS = "python -m pytest"
SERVICES = {
    name: COMPOSE["services"][name]["command"] for name in ("web", "worker", "beat")
}
HARZ, ELBE = 1, 2  # 12 and 2 seats are free
GERMAN, ENGLISH = "Ihre Buchung: Harz", "Your booking: Harz"
TEXTS = {
    GERMAN: """Guten Tag,

Ihre Plätze am 01.05.2030: 1
{home}{path}

Weitere Touren: {home}/
""",
    ENGLISH: """Hello,

Your seats on May 1, 2030: 1
{home}{path}

More tours: {home}/
""",
}


def start(
    command: str, folder: Path, environ: dict[str, str], output: t.Any
) -> subprocess.Popen[str]:
    """The command in a shell whose programs are those of this environment."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": programs, **environ},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(command: str, folder: Path, environ: dict[str, str]) -> None:
    process = start(command, folder, environ, subprocess.PIPE)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output


def copy_to(folder: Path) -> Path:
    """What a reader has in their checkout."""
    left_out = shutil.ignore_patterns("instance", "*.mo", ".*")
    return shutil.copytree(BOOKINGS, folder / "bookings", ignore=left_out)


class Site:
    """The application at work: its commands, each in a shell of the README's."""

    def __init__(self, how: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = copy_to(folder)
        self.mails = folder / "mails"
        port = free_port()
        server = Controller(Mailbox(self.mails), hostname="127.0.0.1", port=port)
        server.start()
        stack.callback(server.stop)
        queue = f"test-{uuid.uuid4().hex[:12]}"
        self.environ = {
            "GUNICORN_CMD_ARGS": "--bind=127.0.0.1:0",
            "FLASK_CELERY__beat_schedule__clean_up__schedule": "1",
            "FLASK_CELERY__task_default_queue": queue,
            "FLASK_CELERY__worker_enable_remote_control": "false",
            "FLASK_CELERY__result_expires": "600",
        }
        if how == "README":
            self.shell = f"{SOURCE} && export MAIL_PORT={port} && exec "
            self.database = f"sqlite:///{self.folder}/instance/bookings.sqlite"
        else:
            self.shell = "exec "
            self.database = stack.enter_context(postgresql_url())
            redis = broker_url("redis")
            celery = Celery(broker=redis, set_as_current=False)
            celery.conf.task_default_queue = queue
            stack.callback(drop_queue, celery)
            self.environ |= {
                k: str(v) for k, v in COMPOSE["x-app"]["environment"].items()
            }
            self.environ |= {
                "SECRET_KEY": "test",
                "DATABASE_URL": self.database,
                "CELERY_BROKER_URL": redis,
                "CELERY_RESULT_BACKEND": redis,
                "MAIL_SERVER": "127.0.0.1",
                "MAIL_PORT": str(port),
            }
        finish(self.shell + COMPILE, self.folder, self.environ)
        finish(self.shell + INIT_DB, self.folder, self.environ)
        self.processes: list[subprocess.Popen[str]] = []
        stack.callback(self.stop)
        self.begin("worker", " ready.")
        self.begin("beat", "beat: Starting...")
        self.url = self.begin("web", r"http://127.0.0.1:\d+")

    def begin(self, service: str, sign: str) -> str:
        """Give what the log has when it has come so far."""
        log = self.log(service)
        with log.open("wb") as output:
            command = self.shell + SERVICES[service]
            process = start(command, self.folder, self.environ, output)
        self.processes.append(process)

        def found() -> str | None:
            assert process.poll() is None, log.read_text()
            match = re.search(sign, log.read_text())
            return match and match[0]

        return self.wait_for(found)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def wait_for(self, condition: t.Callable[[], t.Any], seconds: float = 30) -> t.Any:
        """The first true value of the condition."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            logs = [log.read_text() for log in self.folder.glob("*.log")]
            assert time.monotonic() < deadline, "\n".join(logs)
            time.sleep(0.1)
        return value


class Visitor:
    """A browser that sees the site under a host of its own; registers at once."""

    def __init__(self, site: Site, name: str, language: str) -> None:
        self.site, self.email = site, f"{name}@{uuid.uuid4().hex}.example"
        self.browser = requests.Session()
        self.browser.headers.update(
            {"Host": f"{name}.example", "Accept-Language": language}
        )
        self.post("/auth/register", email=self.email, password="pear")

    def get(self, path: str) -> requests.Response:
        return self.browser.get(self.site.url + path, timeout=30)

    def post(self, path: str, **form: t.Any) -> requests.Response:
        page = self.browser.post(self.site.url + path, data=form, timeout=30)
        assert page.ok, page.text
        return page

    def book(self, tour: int, seats: int) -> str:
        """Give the path of the booking's page."""
        page = self.post(f"/tours/{tour}/book", seats=seats)
        return page.url.removeprefix(self.site.url)

    def mails(self, count: int) -> list[EmailMessage]:
        """When they are there, newest first."""

        def all_of_them() -> list[EmailMessage]:
            return [m for m in read_mails(self.site.mails) if m["To"] == self.email]

        self.site.wait_for(lambda: len(all_of_them()) >= count)
        mails = all_of_them()
        assert len(mails) == count
        return mails


@pytest.fixture(scope="module", params=["README", "compose.yaml"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(request.param, tmp_path_factory.mktemp("bookings"), stack)


def test_each_visitor_gets_mails_in_their_language_with_links_on_their_host(
    site: Site,
) -> None:
    """Two visitors at the same time, and a worker of several processes."""
    anna, ben = Visitor(site, "anna", "de-AT,de;q=0.9"), Visitor(site, "ben", "en")
    paths: dict[Visitor, list[str]] = {anna: [], ben: []}

    def book(visitor: Visitor) -> None:
        for _ in range(3):
            paths[visitor].append(visitor.book(HARZ, 1))

    threads = [threading.Thread(target=book, args=(visitor,)) for visitor in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for visitor, subject in ((anna, GERMAN), (ben, ENGLISH)):
        home = f"http://{visitor.browser.headers['Host']}"
        written = {(mail["Subject"], mail.get_content()) for mail in visitor.mails(3)}
        assert written == {
            (subject, TEXTS[subject].format(home=home, path=path))
            for path in paths[visitor]
        }


def test_a_booking_that_fails_sends_no_mail(site: Site) -> None:
    """The mail is written before the commit that fails, and sent after one that does not."""
    anna = Visitor(site, "anna", "de")
    log, sign = site.log("worker"), r"confirm\[.*IntegrityError"
    before = len(re.findall(sign, log.read_text()))
    path = anna.book(ELBE, 3)
    site.wait_for(lambda: len(re.findall(sign, log.read_text())) > before)
    anna.book(HARZ, 1)
    (mail,) = anna.mails(1)
    assert mail["Subject"] == GERMAN
    assert "Noch nicht bestätigt." in anna.get(path).text


def test_the_file_is_of_the_visitor(site: Site) -> None:
    """``current_user``, the language and the host, in a task whose result a page gives."""
    anna = Visitor(site, "anna", "de")
    path = anna.book(HARZ, 1)
    page = anna.post("/export")
    while page.status_code == 202:
        assert page.headers["Refresh"] == "1"
        time.sleep(0.2)
        page = anna.get("/export")
    assert page.text.splitlines() == [
        "Tour,Datum,Plätze,Link",
        f"Harz,01.05.2030,1,http://anna.example{path}",
    ]


def test_what_beat_sends_has_the_configured_host(site: Site) -> None:
    """A booking that has waited for a day is dropped, and its owner told, in their language."""
    anna = Visitor(site, "anna", "de")
    path = anna.book(ELBE, 3)
    assert anna.get(path).status_code == 200
    engine = sqlalchemy.create_engine(site.database)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE booking SET made = '2020-01-01 00:00:00.000000' WHERE id = :id"
            ),
            {"id": path.rpartition("/")[2]},
        )
    engine.dispose()
    (mail,) = anna.mails(1)
    assert mail["Subject"] == "Keine Plätze: Elbe"
    assert "Weitere Touren: http://localhost:8000/\n" in mail.get_content()
    assert anna.get(path).status_code == 404


def test_its_own_tests(tmp_path: Path) -> None:
    """They pass in the example's folder, as a reader runs them."""
    assert f"    {OWN_TESTS}  " in README
    folder = copy_to(tmp_path)
    finish(COMPILE, folder, {})
    # Plugins that a reader does not have.
    finish(OWN_TESTS, folder, {"PYTEST_ADDOPTS": "-p no:flask -p no:ddtrace"})


def test_compose_has_the_commands_and_settings_of_the_readme() -> None:
    """Whoever takes the one or the other runs the same processes, with the same settings."""
    assert set(SERVICES.values()) <= set(COMMANDS)
    assert COMPILE in COMMANDS
    assert COMPILE in (BOOKINGS / "Dockerfile").read_text()
    assert f"docker compose exec web {INIT_DB}" in COMMANDS
    for service in SERVICES:
        assert (
            COMPOSE["services"][service]["environment"]
            == COMPOSE["x-app"]["environment"]
        )
    named = set(re.findall(r"^export (\w+)=", (BOOKINGS / "dev.env").read_text(), re.M))
    assert {"PORT", *named} == set(COMPOSE["x-app"]["environment"])


def test_the_lines_that_the_readme_calls_ours_are_in_the_files() -> None:
    """Each diff in the README names a file, and what it adds is there."""
    added = 0
    for diff in re.findall(r"```diff\n(.*?)```", README, re.DOTALL):
        source: list[str] = []
        for line in diff.splitlines():
            if line.startswith("+++ "):
                source = (ROOT / line[4:]).read_text().splitlines()
            elif line.startswith("+"):
                assert line[1:] in source, line
                added += 1
            elif line.startswith("-"):
                assert line[1:] not in source, line
    assert added >= 7
