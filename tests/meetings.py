"""A worker where features meet: several apps, hooks that send tasks, tasks that call
themselves. ``test_meetings.py`` says what is promised."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import celery
import flask
from celery import Celery
from celery.exceptions import Ignore

import flask_task_context
from flask_task_context import apply_async_with_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context

HOOKS = ("before_request", "after_request", "teardown_request")
SENDS = ("call", "delay", "AUTO", "delay_with_context", "own delay", "internal request")
#: Those that carry the request where a view sends.
CAPTURING = ("AUTO", "delay_with_context", "own delay")
TENANTS = ("north", "south")


def create_apps() -> dict[str, flask.Flask]:
    """All of one key, two of one import name, and the names that messages know."""
    apps = {name: flask.Flask(name) for name in ("shop", "admin")}
    apps |= {tenant: flask.Flask("tenant") for tenant in TENANTS}
    for name, app in apps.items():
        app.secret_key = "one key for all"
        app.config["PLACE"] = name
        app.add_url_rule("/", "index", lambda: "")
        flask_task_context.init_app(app, name=name)
    return apps


def add_hooks(app: flask.Flask, tasks: t.Any) -> None:
    """A request's path says which hook sends a task, and how: an access log, say."""

    def hook(name: str) -> t.Callable[..., t.Any]:
        def run(response: t.Any = None) -> t.Any:
            if (flask.request.view_args or {}).get("hook") == name:
                write_down(flask.request.view_args["send"])  # type: ignore[index]
            return response

        return run

    def write_down(send: str) -> None:
        record = tasks["record"]
        if send == "call":
            record(flask.request.path)
        elif send == "delay":
            record.delay(flask.request.path)
        elif send == "AUTO":
            app.config["TASK_CONTEXT_AUTO"] = True
            record.delay(flask.request.path)
            app.config["TASK_CONTEXT_AUTO"] = False
        elif send == "delay_with_context":
            delay_with_context(record, flask.request.path)
        elif send == "own delay":
            delay_with_context(tasks["record by its own delay"], flask.request.path)
        else:
            path = flask.request.path
            with app.test_request_context("/internal"):
                delay_with_context(record, path)

    @app.get("/visit/<hook>/<send>")
    def visit(hook: str, send: str) -> str:
        delay_with_context(tasks["mail"], flask.request.path)
        return ""

    app.before_request(hook("before_request"))
    app.after_request(hook("after_request"))
    app.teardown_request(hook("teardown_request"))


def note(*words: t.Any) -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(json.dumps(words) + "\n")


def place() -> str:
    """The app and the request that this code runs in."""
    url = flask.request.url if flask.has_request_context() else "no request"
    return f"{flask.current_app.config['PLACE']}: {url}"


class FlaskTask(celery.Task):  # type: ignore[misc]
    """Of Flask's documentation, with the shop's app."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.app.shop.app_context():
            flask.g.word = "of the base class"
            return self.run(*args, **kwargs)


class CallsAnother(celery.Task):  # type: ignore[misc]
    """What it calls first is no part of its task."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.app.shop.app_context():
            flask.g.word = "of the base class"
            return self.app.tasks["remember"]("another")[0]


class OwnDelay(celery.Task):  # type: ignore[misc]
    """Sends with the request, whoever calls ``delay``."""

    def delay(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return apply_async_with_context(self, args, kwargs)


class Both(celery.Task):  # type: ignore[misc]
    """A base class that is decorated, as its tasks' bodies are."""

    @with_request_context
    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        flask.g.nodes = flask.g.get("nodes", 0)
        return super().__call__(*args, **kwargs)


def create_celery(apps: dict[str, flask.Flask], **conf: t.Any) -> Celery:
    app = Celery("meetings", set_as_current=False)
    app.conf.update(conf)
    app.shop = apps["shop"]

    def task(
        function: t.Callable[..., t.Any], options: t.Any = None, **made: t.Any
    ) -> t.Any:
        name = made.pop("name", function.__name__)
        decorated = with_request_context(**(options or {}))(function)
        return app.task(decorated, name=name, shared=False, **made)

    def record(path: str) -> None:
        note("record", path)

    def mail(path: str) -> None:
        note("mail", path)

    def mark() -> None:
        note("mark")

    def where() -> str:
        return place()

    def sends_on(name: str) -> None:
        app.tasks[name].delay()

    def noted() -> None:
        note(place())

    def remember(word: str) -> t.Any:
        """What an earlier task has left, and how many contexts were torn down."""
        before = flask.g.get("word"), len(TORN)
        flask.g.word = word
        return before

    def walk(depth: int) -> t.Any:
        flask.g.nodes = flask.g.get("nodes", 0) + 1
        if depth:
            self = app.tasks[celery.current_task.name]
            self(depth - 1) if depth % 2 else self.run(depth - 1)
        return flask.g.nodes

    def restores(self: t.Any, headers: t.Any, again: bool = True) -> t.Any:
        """Opens another request, and calls itself there in every way."""
        if not again:
            return place()

        def eagerly(*args: t.Any) -> t.Any:
            return self.apply(args).get(disable_sync_subtasks=False)

        with flask_task_context.restore_context(headers):
            calls = self.run, self, eagerly
            return [place(), *(call(None, False) for call in calls)]

    def unnamed(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        """A decorator without ``functools.wraps``."""

        def unnamed(*args: t.Any) -> t.Any:
            return function(*args)

        return unnamed

    def twice(self: t.Any) -> str:
        """A mail that must not be sent twice, and a hook that fails."""
        note("sent")

        @flask.after_this_request
        def broken(response: flask.Response) -> flask.Response:
            raise ConnectionError("after the mail was sent")

        return "sent"

    def ending(self: t.Any, how: str) -> None:
        flask.after_this_request(lambda response: note("after") or response)  # type: ignore

        @flask.current_app.teardown_request
        def torn(error: BaseException | None) -> None:
            note("teardown", repr(error))
            flask.current_app.teardown_request_funcs[None].remove(torn)

        if how == "ignore":
            raise Ignore
        if how == "replace":
            raise self.replace(app.tasks["mark"].si())
        raise ValueError(how)

    for function in (record, mail):
        task(function, {"app": apps["shop"], "before_request": True})
    options = {"app": apps["shop"], "before_request": True}
    task(record, options, name="record by its own delay", base=OwnDelay)
    for function in (mark, noted, where, walk):
        task(function)
    task(where, {"app": apps["admin"]}, name="pinned")
    task(noted, {"app": apps["admin"]}, name="noted by admin")
    task(where, base=FlaskTask, name="where of FlaskTask")
    task(walk, base=Both, name="walk of both")
    task(walk, {"app": apps["shop"]}, name="walk of the shop")
    task(remember, {"app": apps["shop"]})
    task(remember, {"app": apps["shop"]}, base=FlaskTask, name="remember of FlaskTask")
    task(mark, {"app": apps["shop"]}, base=CallsAnother, name="base calls")
    task(sends_on)
    task(restores, bind=True)
    hidden = with_request_context(app=apps["shop"])(remember)
    app.task(unnamed(hidden), name="remember, unnamed", shared=False)

    def calls() -> t.Any:
        with apps["shop"].app_context():
            flask.g.word = "of the task"
            return hidden("another")[0]

    app.task(calls, name="calls", shared=False)
    task(twice, bind=True, autoretry_for=(ConnectionError,), default_retry_delay=0)
    task(ending, bind=True)
    add_hooks(apps["shop"], app.tasks)
    return app


TORN: list[t.Any] = []


def start_worker_process() -> Celery:
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    apps = create_apps()
    apps["shop"].teardown_appcontext(TORN.append)
    if os.environ["PUSHED"] == "request":
        apps["shop"].test_request_context("/", "http://pushed/").push()
    elif os.environ["PUSHED"]:
        apps[os.environ["PUSHED"]].app_context().push()
    return create_celery(apps, **settings["celery"])
