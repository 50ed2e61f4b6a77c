"""Base classes of tasks, decorated, and the handlers of tasks."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import celery
import flask
import pytest
from celery import Celery
from celery import Task

from flask_task_context import _MERGED
from flask_task_context import BadContext
from flask_task_context import RequestRefused
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import with_request_context
from tests import bases
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue

HERE = "http://anna.example/item"
BODIES = [f"{base}{body}" for base in bases.BASES for body in ("", ", body decorated")]


class Site(t.NamedTuple):
    app: flask.Flask
    celery: Celery
    notes: Path

    @property
    def headers(self) -> dict[str, str]:
        with self.app.test_request_context("/item", "http://anna.example/"):
            return capture_context()

    def noted(self, name: str, count: int) -> list[tuple[str, str]]:
        """What was noted in the name of a task, when so many different lines are there."""
        end = time.monotonic() + 60
        while True:
            text = self.notes.read_text() if self.notes.exists() else ""
            lines = [json.loads(line) for line in text.splitlines()]
            found = dict.fromkeys(tuple(line[1:]) for line in lines if line[0] == name)
            if len(found) >= count or time.monotonic() > end:
                return list(found)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    folder = tmp_path_factory.mktemp("bases")
    settings = celery_settings("redis", folder)
    # How long the main process waits for what a dead process may still have said.
    settings["worker_lost_wait"] = 1.0
    worker = Worker(
        settings,
        folder / "worker.log",
        "--pool=prefork",
        "-c1",
        module="tests.bases_worker",
        environ={"NOTES": str(folder / "notes")},
    )
    app = bases.create_celery(**settings)
    yield Site(bases.create_app(), app, folder / "notes")
    worker.kill()
    drop_queue(app)


@pytest.fixture
def site(running: Site) -> Site:
    init_app(running.app)
    return running


def by(name: str, mails: list[str], result: t.Any) -> t.Any:
    """What a base that queues mails makes of its task's result."""
    return result if name.startswith("Bare") else [HERE, mails, result]


# -- base classes --------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_a_task_and_its_base_class_share_one_request(site: Site, name: str) -> None:
    """One ``g``, in which a task that calls itself has one of its base's again, and one
    teardown."""
    result = site.celery.tasks[name].apply_async(("a",), headers=site.headers)
    wanted = by(name, ["a"], 2 if name.startswith("Bare") else 1)
    assert result.get(timeout=30) == wanted
    assert site.noted(name, 1) == [("torn", "NoneType")]


def test_a_request_that_a_base_class_opens(site: Site) -> None:
    """A decorated task is in it where its message has none. From Flask 3.2 on the
    task's app context hides it."""
    blank = None if _MERGED else "http://base.example/"
    for headers, url in (None, blank), (site.headers, HERE):
        result = site.celery.tasks["where"].apply_async(headers=headers)
        assert result.get(timeout=30) == url


@pytest.mark.parametrize("name", bases.BASES)
def test_a_base_class_says_who_sent_a_context_that_is_broken(
    site: Site, name: str
) -> None:
    """As a body that is decorated does."""
    headers = {"flask_task_context": "1:broken"}
    result = site.celery.tasks[name].apply_async(("a",), headers=headers)
    with pytest.raises(BadContext, match=r"It was sent by 'gen\d+@"):
        result.get(timeout=30)


@pytest.mark.parametrize("name", BODIES)
def test_a_base_class_does_nothing_for_a_task_that_fails(site: Site, name: str) -> None:
    """The mails of a run that is retried are not sent, and those of the next are."""
    name = f"{name}, retried"
    result = site.celery.tasks[name].apply_async(("a",), headers=site.headers)
    assert result.get(timeout=30) == by(name, ["a"], 1)
    first, second = site.noted(name, 2)
    # The error itself where a decorated body is outermost, beneath autoretry.
    beneath = name == "Bare, body decorated, retried"
    assert first == ("torn", "ConnectionError" if beneath else "Retry")
    assert second == ("torn", "NoneType")


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery 5.5 has pydantic=True")
@pytest.mark.parametrize("name", BODIES)
def test_a_task_with_a_pydantic_model(site: Site, name: str) -> None:
    """Celery makes the model beneath the base class, and above a decorated body."""
    task = site.celery.tasks[f"{name}, pydantic"]
    result = task.apply_async(({"mail": "a"},), headers=site.headers)
    assert result.get(timeout=30) == by(name, ["a"], "Order")


@pytest.mark.parametrize("name", BODIES)
def test_in_this_process(name: str) -> None:
    """Called inside a request it runs in that one; eagerly, outside of any, in its
    message's."""
    app, tasks = bases.create_app(), bases.create_celery().tasks
    init_app(app)
    result = 2 if name.startswith("Bare") else 1
    with app.test_request_context("/item", "http://anna.example/"):
        headers = capture_context()
        assert tasks[name]("a") == by(name, ["a"], result)
        flask.g.pop("mails", None)
        assert tasks[name].apply(("a",)).get() == by(name, ["a"], result)
    eager = tasks[name].apply(("a",), headers=headers)
    assert eager.get() == by(name, ["a"], result)
    without = result if name.startswith("Bare") else [None, ["a"], result]
    assert tasks[name].apply(("a",)).get() == without


def test_an_eager_task_of_a_base_class_knows_its_message(site: Site) -> None:
    """``self.request`` is the message's, as without the decorator."""
    app = bases.create_celery(task_always_eager=True)

    def who(self: Task, again: bool = True) -> t.Any:
        return [self.request.id, *(self(again=False) if again else ())]

    task = app.task(who, bind=True, base=bases.Bare, name="who", shared=False)
    result = task.apply_async(task_id="x", headers=site.headers)
    assert result.get()[0] == "x"


def test_a_task_class_of_a_decorated_base(site: Site) -> None:
    """Its own decorator is for its ``run``."""

    @with_request_context
    class Order(bases.Queues):
        name = "order by a class"

        def run(self) -> str:
            flask.g.mails.append("a")
            return flask.request.path

    task = bases.create_celery().register_task(Order())
    result = task.apply(headers=site.headers)
    assert result.get() == [HERE, ["a"], "/item"]


def path() -> str:
    return flask.request.path


class Timed(Task):  # type: ignore[misc]
    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return ["timed", super().__call__(*args, **kwargs)]


def test_a_bare_base_class_before_another(site: Site) -> None:
    """The ``__call__`` of the next class is called, eagerly too."""

    class Both(bases.Bare, Timed): ...

    task = bases.create_celery().task(path, base=Both, name="both", shared=False)
    with site.app.test_request_context("/item"):
        assert task() == ["timed", "/item"]
    assert task.apply(headers=site.headers).get() == ["timed", "/item"]


@with_request_context
class Runs(Task):  # type: ignore[misc]
    """With a ``run`` that its tasks override."""

    def run(self) -> t.NoReturn:
        raise NotImplementedError


@with_request_context
class Static(Task):  # type: ignore[misc]
    name = "static"

    @staticmethod
    def run() -> str:
        return flask.request.path


class StaticBelow(Task):  # type: ignore[misc]
    name = "static below"

    @with_request_context
    @staticmethod
    def run() -> str:
        return flask.request.path


@pytest.mark.parametrize("how", ["overrides", "base", "static", "static below"])
def test_a_class_with_a_run(site: Site, how: str) -> None:
    """What overrides it runs in the request, and a ``run`` without ``self`` does."""
    celery = bases.create_celery()
    if how == "overrides":
        run = {"name": "overrides", "run": lambda self: flask.request.path}
        task = celery.register_task(type("Overrides", (Runs,), run)())
    elif how == "base":
        task = celery.task(path, base=Runs, name=how, shared=False)
    else:
        task = celery.register_task(Static() if how == "static" else StaticBelow())
    assert task.apply(headers=site.headers).get() == "/item"


@pytest.mark.parametrize("base", [bases.Queues, bases.Bare])
def test_the_options_of_the_body_are_nearer(site: Site, base: t.Any) -> None:
    """A body that asks for before-request functions gets them, whatever its base says."""
    app = bases.create_app()
    init_app(app)
    app.before_request(lambda: flask.abort(403) if celery.current_task else None)
    body = with_request_context(before_request=True)(path)
    task = bases.create_celery().task(body, base=base, name="asks", shared=False)
    with pytest.raises(RequestRefused, match="aborted the task's request with"):
        task.apply(headers=site.headers).get()


def test_what_is_no_base_class() -> None:
    """Celery's own class is not changed, and a class is decorated once."""
    with pytest.raises(TypeError, match="is Celery's own: decorate a subclass of it"):
        with_request_context(Task)
    with pytest.raises(TypeError, match="'queued' has '@with_request_context' twice"):
        with_request_context(bases.Queues)


# -- handlers ------------------------------------------------------------------------

ENDS = {
    "succeeds": {"on_success", "after_return"},
    "fails": {"on_failure", "after_return", "task_failure"},
    "retries": {"on_retry", "on_success", "after_return"},
    "soft_time_limit": {"on_failure", "after_return", "task_failure"},
    # Before 5.7 Celery calls no handler where the process has no time to.
    "time_limit": {"task_failure"}
    | ({"on_failure", "after_return"} if celery.VERSION >= (5, 7) else set()),
    "dies": {"task_failure"},
}


@pytest.mark.parametrize("name", ENDS)
def test_a_handler_restores_the_request(site: Site, name: str) -> None:
    """By the message's headers, or where its process is gone by the message's id."""
    site.celery.tasks[name].apply_async(headers=site.headers)
    wanted = {(handler, HERE) for handler in {"before_start", *ENDS[name]}}
    assert set(site.noted(name, len(wanted))) == wanted


def test_a_handler_of_a_message_without_a_request(site: Site) -> None:
    """It has an app context."""
    site.celery.tasks["without a request"].apply_async()
    wanted = {(handler, None) for handler in {"before_start", *ENDS["succeeds"]}}
    assert set(site.noted("without a request", len(wanted))) == wanted
