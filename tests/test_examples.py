"""The examples, started as their README says: ``flask run`` and ``celery worker``."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
import requests
from celery import Celery

from tests.conftest import NO_REQUEST
from tests.conftest import ROOT
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue


class Running:
    """An example's web server, its worker, and the environment of both."""

    def __init__(self, url: str, environ: dict[str, str]) -> None:
        self.url, self.environ = url, environ


class Visitor:
    """A browser that sees the application under a host of its own."""

    def __init__(self, example: Running, host: str, **headers: str) -> None:
        self.example, self.host = example, host
        self.session = requests.Session()
        self.session.headers.update({"Host": host, **headers})

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.session.close()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.example.url + path, timeout=30)

    def post(self, path: str, **form: t.Any) -> requests.Response:
        return self.session.post(self.example.url + path, data=form, timeout=30)


@contextlib.contextmanager
def flask_run(module: str, log: Path, environ: dict[str, str]) -> t.Iterator[str]:
    """``flask run`` in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "flask", "--app", module, "run", "--port=0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environ},
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127.0.0.1:\d+", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no server in:\n{log.read_text()}")
            time.sleep(0.05)
        yield found[0]
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def running(
    module: str, worker_module: str, broker: str, folder: Path
) -> t.Iterator[Running]:
    """On the embedded broker with no setting but the folder, else as the README says."""
    environ = {"INSTANCE_PATH": str(folder)}
    celery = Celery(set_as_current=False)
    if broker != "embedded":
        settings = celery_settings(broker, folder)
        celery.conf.update(settings)
        environ["CELERY_BROKER_URL"] = settings["broker_url"]
        environ["FLASK_CELERY__task_default_queue"] = settings["task_default_queue"]
    with contextlib.ExitStack() as stack:
        if broker != "embedded":
            stack.callback(drop_queue, celery)
        worker = Worker(
            {},
            folder / "worker.log",
            "--pool=prefork",
            "--concurrency=2",
            module=worker_module,
            environ=environ,
        )
        stack.callback(worker.stop)
        url = stack.enter_context(flask_run(module, folder / "web.log", environ))
        yield Running(url, environ)


def command(module: str, *arguments: str, **environ: str) -> str:
    """``python -m`` for Flask's and Celery's own commands; gives what it printed."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


# -- the blog ------------------------------------------------------------------


@pytest.fixture(scope="module")
def blog(broker: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Running]:
    folder = tmp_path_factory.mktemp(f"blog-{broker}")
    printed = command(
        "flask", "--app", "examples.blog", "init-db", INSTANCE_PATH=str(folder)
    )
    assert printed == "The database is new and empty.\n"
    with running("examples.blog", "examples.blog.worker", broker, folder) as example:
        yield example


def log_in(visitor: Visitor, name: str) -> None:
    for action in ("register", "login"):
        page = visitor.post(f"/auth/{action}", username=name, password="pear")
        assert page.status_code == 200, page.text


def write_post(visitor: Visitor, title: str, body: str = "") -> int:
    """Give the post's number."""
    page = visitor.post("/create", title=title, body=body)
    assert flashed(page) == ["Your post is online. A mail is on its way to you."]
    numbers = re.findall(rf'href="/(\d+)">{re.escape(html.escape(title))}<', page.text)
    return int(numbers[0])


def flashed(page: requests.Response) -> list[str]:
    return re.findall(r'<p class="flash" role="status">(.*)</p>', page.text)


def mails(visitor: Visitor, count: int) -> list[tuple[str, str]]:
    """Subject and text of the visitor's mails, newest first, when they are there."""
    deadline = time.monotonic() + 30
    while True:
        page = visitor.get("/mails").text
        found = re.findall(
            r'<h2>(.*?)</h2>\s*<p class="text">(.*?)</p>', page, flags=re.DOTALL
        )
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count, page
            return [
                (html.unescape(subject), html.unescape(re.sub("<.*?>", "", text)))
                for subject, text in found
            ]
        time.sleep(0.1)


def test_the_author_gets_a_mail_with_links_on_their_host(blog: Running) -> None:
    """The worker knows ``g.user``, the visitor's host, and which view sent the task."""
    with Visitor(blog, "anna.example:8080") as anna:
        log_in(anna, "anna")
        first = write_post(anna, "Pears")
        mails(anna, 1)
        second = write_post(anna, "Plums & <more>")
        mails(anna, 2)
        anna.post(f"/{first}/update", title="Ripe pears", body="now")
        (changed, text), (online, _), _ = mails(anna, 3)
    assert online == "“Plums & <more>” is online"
    assert changed == "“Ripe pears” is changed"
    home = "http://anna.example:8080"
    assert text == (
        "Hello anna,\n\nyour post “Ripe pears” is changed:\n"
        f"{home}/{first}\n\nChange it: {home}/{first}/update\n\n"
        "All that you have written:\n\n"
        f"* Plums & <more>: {home}/{second}\n* Ripe pears: {home}/{first}"
    )


def test_two_visitors_do_not_mix(blog: Running) -> None:
    """Tasks of two authors at the same time: each has its own user and its own host."""
    hosts = {"cleo": "cleo.example", "dan": "dan.example:81"}
    written: dict[str, list[tuple[str, str]]] = {}

    def write(name: str) -> None:
        with Visitor(blog, hosts[name]) as visitor:
            log_in(visitor, name)
            for number in range(5):
                write_post(visitor, f"{name} {number}")
            written[name] = mails(visitor, 5)

    threads = [threading.Thread(target=write, args=(name,)) for name in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(written) == set(hosts)
    for name, host in hosts.items():
        subjects = {subject for subject, _ in written[name]}
        assert subjects == {f"“{name} {number}” is online" for number in range(5)}
        for _, text in written[name]:
            assert text.startswith(f"Hello {name},\n")
            assert set(re.findall("http://(.*?)/", text)) == {host}


def test_a_post_that_is_longer_than_a_message_may_be(blog: Running) -> None:
    """What the task does not touch may be too large to travel."""
    with Visitor(blog, "eva.example") as eva:
        log_in(eva, "eva")
        number = write_post(eva, "Long", "x" * 100_000)
        ((subject, text),) = mails(eva, 1)
    assert subject == "“Long” is online"
    assert f"http://eva.example/{number}\n" in text


def test_the_blogs_pages(blog: Running) -> None:
    """Titles, flash messages, escaped text, and who may do what."""
    with Visitor(blog, "fay.example") as fay, Visitor(blog, "gus.example") as gus:
        page = fay.get("/create")
        assert "<title>Log in - Blog</title>" in page.text
        page = fay.post("/auth/register", username="", password="")
        assert flashed(page) == ["Give a username and a password."]
        page = fay.post("/auth/register", username="<fay>", password="pear")
        assert flashed(page) == ["You are registered. Log in now."]
        page = fay.post("/auth/register", username="<fay>", password="plum")
        assert flashed(page) == ["The username &#39;&lt;fay&gt;&#39; is taken."]
        page = fay.post("/auth/login", username="<fay>", password="plum")
        assert flashed(page) == ["The username or the password is wrong."]
        page = fay.post("/auth/login", username="<fay>", password="pear")
        assert "<title>Posts - Blog</title>" in page.text
        assert "<span>&lt;fay&gt;</span>" in page.text

        page = fay.post("/create", title="", body="kept <b>")
        assert flashed(page) == ["Give the post a title."]
        assert '<textarea name="body" rows="8">kept &lt;b&gt;</textarea>' in page.text
        number = write_post(fay, "<i>", "<b>\n& more")
        page = gus.get(f"/{number}")
        assert "<title>&lt;i&gt; - Blog</title>" in page.text
        assert '<p class="text">&lt;b&gt;\n&amp; more</p>' in page.text
        assert re.search(r">by &lt;fay&gt; on \d{4}-\d\d-\d\d<", page.text)
        assert f"/{number}/update" not in page.text
        assert f"/{number}/update" in fay.get(f"/{number}").text

        log_in(gus, "gus")
        assert gus.post(f"/{number}/update", title="mine").status_code == 403
        assert gus.post(f"/{number}/delete").status_code == 403
        page = fay.post(f"/{number}/update", title="")
        assert flashed(page) == ["Give the post a title."]
        page = fay.post(f"/{number}/delete")
        assert flashed(page) == ["Your post is deleted."]
        assert fay.get(f"/{number}").status_code == 404
        assert "Log out" not in fay.get("/auth/logout").text


# -- the pattern of Flask's documentation ----------------------------------------


PATTERN = ("examples.celery_docs", "examples.celery_docs.make_celery")


@pytest.fixture(scope="module")
def pattern(
    broker: str, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Running]:
    folder = tmp_path_factory.mktemp(f"pattern-{broker}")
    with running(*PATTERN, broker, folder) as example:
        yield example


def start(visitor: Visitor, path: str, **form: int) -> str:
    """Give the task's id."""
    return t.cast("str", visitor.post(path, **form).json()["result_id"])


def wait_for_result(visitor: Visitor, task_id: str) -> dict[str, t.Any]:
    """Poll as the page does."""
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, t.Any] = visitor.get(f"/result/{task_id}").json()
        if found["ready"] or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_the_result_page_gives_the_answer_for_each_visitor(pattern: Running) -> None:
    """Two visitors at the same time: the answers have their hosts and languages."""
    with (
        Visitor(pattern, "anna.example:8080", **{"Accept-Language": "de"}) as anna,
        Visitor(pattern, "ben.example", **{"Accept-Language": "fr,en;q=0.5"}) as ben,
    ):
        page = anna.get("/")
        assert "<title>Celery tasks</title>" in page.text
        assert 'const resultUrl = "/result/";' in page.text
        tasks = [(v, start(v, "/process", total=1)) for v in (anna, ben, anna, ben)]
        for visitor, task_id in tasks:
            assert wait_for_result(visitor, task_id) == {
                "ready": True,
                "successful": True,
                "value": {
                    "total": 1,
                    "language": "de" if visitor is anna else "fr",
                    "link": f"http://{visitor.host}/result/{task_id}",
                },
            }


def test_the_other_task_is_as_it_was(pattern: Running) -> None:
    """A task that needs no visitor is neither decorated nor sent differently."""
    with Visitor(pattern, "anna.example") as anna:
        found = wait_for_result(anna, start(anna, "/add", a=2, b=3))
    assert found == {"ready": True, "successful": True, "value": 5}


def test_sent_from_a_shell_there_is_no_visitor(pattern: Running) -> None:
    """Without a request the class's app context is all, and Flask's error says so."""
    task_id = command(
        "celery",
        *("-A", PATTERN[1], "call", "examples.celery_docs.tasks.process"),
        f"--args={json.dumps([0])}",
        **pattern.environ,
    ).strip()
    with Visitor(pattern, "anna.example") as anna:
        found = wait_for_result(anna, task_id)
    assert found["successful"] is False
    assert re.match(f"RuntimeError: {NO_REQUEST}", found["value"])


# -- the README ------------------------------------------------------------------


def test_the_lines_that_the_readme_calls_ours_are_in_the_files() -> None:
    """Each diff in the README names a file, and what it adds is there."""
    readme = (ROOT / "examples/README.md").read_text()
    added = 0
    for diff in re.findall(r"```diff\n(.*?)```", readme, re.DOTALL):
        source: list[str] = []
        for line in diff.splitlines():
            if line.startswith("+++ "):
                source = (ROOT / line[4:]).read_text().splitlines()
            elif line.startswith("+"):
                assert line[1:] in source, line
                added += 1
            elif line.startswith("-"):
                assert line[1:] not in source, line
    assert added >= 10
