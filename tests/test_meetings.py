"""Where features meet: hooks that send tasks, several apps, contexts that were pushed."""

from __future__ import annotations

import json
import typing as t

import flask
import pytest
from celery import Celery
from celery import chain
from celery import chord

from flask_task_context import capture_context
from flask_task_context import delay_with_context
from tests import meetings
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.ways import lines_of

WORKERS = {
    "redis, prefork, a request pushed": ("redis", "--pool=prefork", "request"),
    "rabbitmq, threads": ("rabbitmq", "--pool=threads", ""),
    "rabbitmq, prefork, the shop's context pushed": ("rabbitmq", "", "shop"),
    "redis, solo, the admin's context pushed": ("redis", "--pool=solo", "admin"),
}


class Site:
    """The sending side, and what the worker has noted since the last look."""

    def __init__(self, celery: Celery, apps: t.Any, notes: t.Any) -> None:
        self.tasks, self.apps, self.notes, self.seen = celery.tasks, apps, notes, 0

    def send(self, name: str, *args: t.Any, app: str = "shop") -> t.Any:
        with self.apps[app].test_request_context("/", f"http://{app}/"):
            return delay_with_context(self.tasks[name], *args)

    def ask(self, name: str, *args: t.Any, app: str = "shop") -> t.Any:
        return self.send(name, *args, app=app).get(timeout=30, interval=0.02)

    def noted(self, count: int) -> list[list[t.Any]]:
        lines = lines_of(self.notes, self.seen + count)[self.seen :]
        self.seen += len(lines)
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module", params=WORKERS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[tuple[Celery, t.Any]]:
    broker, pool, pushed = WORKERS[request.param]
    folder = tmp_path_factory.mktemp("meetings")
    settings = celery_settings(broker, folder)
    worker = Worker(
        settings,
        folder / "worker.log",
        pool or "--pool=prefork",
        "-c1",
        module="tests.meetings_worker",
        environ={"NOTES": str(folder / "notes"), "PUSHED": pushed},
    )
    yield settings, folder / "notes"
    worker.kill()


@pytest.fixture
def site(
    running: tuple[t.Any, t.Any], monkeypatch: pytest.MonkeyPatch
) -> t.Iterator[Site]:
    settings, notes = running
    monkeypatch.setenv("NOTES", str(notes))
    apps = meetings.create_apps()
    celery = meetings.create_celery(apps, **settings)
    site = Site(celery, apps, notes)
    site.seen = len(notes.read_text().splitlines()) if notes.exists() else 0
    yield site
    celery.close()


# -- hooks ---------------------------------------------------------------------------


@pytest.mark.parametrize("send", meetings.SENDS)
@pytest.mark.parametrize("hook", meetings.HOOKS)
def test_a_hook_that_sends_a_task_makes_no_chain(
    site: Site, hook: str, send: str
) -> None:
    """One visit is written down once, and once for each task that runs in its request:
    what hooks send from a task carries no request, so that nothing goes on for ever."""
    path = f"/visit/{hook}/{send}"
    assert site.apps["shop"].test_client().get(path).status_code == 200
    captured = send in meetings.CAPTURING
    # The visit's own, the mail's, and where the visit's carries the request its own.
    expected = 2 + captured
    seen = site.noted(1 + expected)
    # A chain would have sent its next task before this one.
    site.send("mark")
    site.send("mark")
    seen += site.noted(2)
    assert sorted(map(tuple, seen)) == sorted(
        [("mail", path), *[("record", path)] * expected, ("mark",), ("mark",)]
    )


def test_an_error_in_a_hook_does_not_do_the_work_again(site: Site) -> None:
    """The mail was sent: the result stands, and ``autoretry_for`` sends no other."""
    assert site.ask("twice") == "sent"
    site.send("mark")
    assert site.noted(2) == [["sent"], ["mark"]]


@pytest.mark.parametrize("how", ["ignore", "replace"])
def test_ignore_is_a_normal_end(site: Site, how: str) -> None:
    """After-request functions run, and teardown functions see no error."""
    site.send("ending", how)
    ends = [["after"], ["teardown", "None"]]
    replaced = [["mark"]] if how == "replace" else []
    assert sorted(site.noted(2 + len(replaced))) == [*ends[:1], *replaced, *ends[1:]]


def test_an_error_is_no_normal_end(site: Site) -> None:
    """No after-request functions, and teardown functions get it."""
    site.send("ending", "no")
    assert site.noted(1) == [["teardown", "ValueError('no')"]]


# -- several apps --------------------------------------------------------------------


@pytest.mark.parametrize("task", ["where", "where of FlaskTask"])
@pytest.mark.parametrize("name", ["shop", "admin", *meetings.TENANTS])
def test_the_message_names_its_app(site: Site, name: str, task: str) -> None:
    """Whatever is pushed in the process, or by a base class, with one key for all."""
    assert site.ask(task, app=name) == f"{name}: http://{name}/"


@pytest.mark.parametrize("name", ["shop", "admin", *meetings.TENANTS])
def test_another_apps_message_is_not_that_of_a_pinned_task(
    site: Site, name: str
) -> None:
    """It runs in an app context of its own app, sent by a view or by a task."""
    own = "http://admin/" if name == "admin" else "no request"
    assert site.ask("pinned", app=name) == f"admin: {own}"
    site.send("sends_on", "noted by admin", app=name)
    assert site.noted(1) == [[f"admin: {own}"]]


def test_g_of_another_app_does_not_travel(site: Site) -> None:
    """In a view, under another app's context: its ``g`` is not the request's, and its
    config does not decide whether ``.delay()`` carries the request."""
    shop, admin = site.apps["shop"], site.apps["admin"]
    shop.config["TASK_CONTEXT_G"] = ["word"]
    admin.config["TASK_CONTEXT_AUTO"] = True
    with shop.test_request_context("/"):
        flask.g.word = "the shop's"
        assert "the shop's" in capture_context()["flask_task_context"]
        with admin.app_context():
            flask.g.word = "the admin's"
            if flask.has_request_context():  # Flask 3.2 hides it here.
                assert "the admin's" not in capture_context()["flask_task_context"]
            sent = site.tasks["pinned"].delay()
    assert sent.get(timeout=30) == "admin: no request"


# -- contexts that were pushed -------------------------------------------------------


@pytest.mark.parametrize(
    "task", ["remember", "remember of FlaskTask", "remember, unnamed"]
)
def test_a_message_without_a_context_has_an_app_context_of_its_own(
    site: Site, task: str
) -> None:
    """Nothing of one task is left for the next, and each is torn down, whatever was
    pushed when the process began, or by a base class around it."""
    torn = []
    for word in ("first", "second", "third"):
        left, count = site.tasks[task].delay(word).get(timeout=30)
        assert left is None
        torn.append(count)
    assert torn[0] < torn[1] < torn[2]


@pytest.mark.parametrize(
    ("task", "word"), [("calls", "of the task"), ("base calls", "of the base class")]
)
def test_what_is_called_in_an_app_context_is_in_that(
    site: Site, task: str, word: str
) -> None:
    """It is not the message's own task, for which one of its own would be opened."""
    assert site.tasks[task].delay().get(timeout=30) == word


def test_what_follows_a_task_keeps_its_request(site: Site) -> None:
    """Steps, callbacks and a chord's body are sent after the task's body: a request that
    was pushed when the process began is not nearer than their message."""
    where, noted = site.tasks["where"], site.tasks["noted"]
    here = "shop: http://shop/"
    with site.apps["shop"].test_request_context("/", "http://shop/"):
        canvas = chain(where.si(), where.si().set(link=noted.si()))
        result = delay_with_context(canvas)
        delay_with_context(chord([where.si(), where.si()], noted.si()))
    assert result.get(timeout=30) == result.parent.get(timeout=30) == here
    assert site.noted(2) == [[here], [here]]


def test_a_request_that_a_task_opens_is_nearest(site: Site) -> None:
    """Inside ``restore_context`` a task that calls itself stays in that request."""
    with site.apps["north"].test_request_context("/", "http://north/"):
        headers = capture_context()
    assert site.ask("restores", headers) == ["north: http://north/"] * 4


# -- once for a message --------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_task_that_calls_itself_stays_in_its_request(site: Site, depth: int) -> None:
    """Directly and by ``run``: one ``g``, also where its message has no request, and
    where the ``__call__`` of its base class is decorated too."""
    assert site.ask("walk", depth) == depth + 1
    without = site.tasks["walk of the shop"].delay(depth)
    assert without.get(timeout=30) == depth + 1
    assert site.ask("walk of both", depth) == depth + 1
