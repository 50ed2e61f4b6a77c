"""How a task's code got where it is, what is pushed there, and what it does.

``test_rules.py`` sends each combination to a worker in a process of its own, and
compares what is seen with the rules of docs/reference/ways.md, which :func:`expected` states.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import typing as t
from pathlib import Path

import celery
import flask
from celery import Celery
from celery import chain
from celery import group

import flask_task_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context

VISITOR = "http://visitor/"
OWN = "http://own/"
KINDS = {"decorated": with_request_context, "plain": lambda function: function}
#: Where the code starts: a way to be reached, decorated or not, with and without a
#: context in the message.
HOWS = ("task", "errback", "map", "starmap", "chunks")
STARTS = list(itertools.product(HOWS, KINDS, (VISITOR, None)))
#: Celery's own base class, the one of Flask's documentation, and decorated ones.
BASES = ("Task", "FlaskTask", "Decorated", "DecoratedCall")
#: On the way: a request or another app's context that it pushes, and calls.
STEPS = ("own request", "another app", "direct", "apply", "recurse")
ACTS = ("read", "delay", "AUTO", "delay_with_context", "canvas", "empty header")
PATHS = [(), *((step,) for step in STEPS), *itertools.product(STEPS, STEPS)]


class Cell(t.NamedTuple):
    how: str
    kind: str
    message: str | None
    base: str
    path: tuple[str, ...]
    act: str

    @property
    def id(self) -> str:
        return "/".join(str(part) for part in (*self[:4], *self.path, self.act))


def cells() -> t.Iterator[Cell]:
    for start, base, path, act in itertools.product(STARTS, BASES, PATHS, ACTS):
        # A decorated base is a decorated body, and what is called is a task, whatever
        # calls it: short paths tell.
        long = start[0] == "task" and not base.startswith("Decorated")
        if long or len(path) < 2:
            yield Cell(*start, base, path, act)


# -- what is to be seen -------------------------------------------------------------


def expected(cell: Cell, pushed: bool) -> list[str]:
    """The rules, once more: the request and the app that are seen.

    :param pushed: whether the worker has left an app context pushed.
    """
    opened = cell.kind == "decorated" or cell.base.startswith("Decorated")
    decorated = opened
    live = cell.message if opened else None
    app = "shop" if opened or pushed or cell.base == "FlaskTask" else None
    for step in cell.path:
        # An app context that is pushed hides the request around it.
        if flask_task_context._MERGED and (
            step == "another app" or cell.base == "FlaskTask"
        ):
            live = None
        if step == "own request":
            live, app = OWN, "shop"
        elif step == "another app":
            app = "another"
        elif step in ("direct", "apply") or decorated:
            # A task of FlaskTask's pushes its app's context at each call.
            app = "shop" if cell.base == "FlaskTask" and step != "map" else app
            decorated = True
            # A message opens its request once, in the task that it is for.
            if live is None and cell.message and not (opened and cell.how == "task"):
                live, app = cell.message, "shop"
            app = app or "shop"
        elif cell.base == "FlaskTask":
            app = "shop"
    inherited = live if live == cell.message else None
    return {
        "read": [f"{live} in {app}"],
        "delay": [str(inherited if live else cell.message)],
        "AUTO": [str(live or cell.message)],
        "delay_with_context": [str(live or cell.message)],
        "canvas": [str(live or cell.message)] * 3,
        "empty header": ["None"],
    }[cell.act]


# -- the worker ---------------------------------------------------------------------


def seen() -> str:
    url = flask.request.url if flask.has_request_context() else None
    app = flask.current_app.name if flask.has_app_context() else None
    return f"{url} in {app}"


def create_app(name: str) -> flask.Flask:
    app = flask.Flask(name)
    app.secret_key = "one key for both"
    return app


def create_celery(shop: flask.Flask, **conf: t.Any) -> Celery:
    """Tasks that go the steps that they are told, and do what is to be done there."""
    app = Celery("rules", set_as_current=False)
    app.conf.update(conf)
    another = create_app("another")

    def note(cell: str, text: str) -> None:
        line = json.dumps([cell, text]) + "\n"
        with Path(os.environ["NOTES"]).open("a") as file:
            file.write(line)

    def child(*before: t.Any, cell: str) -> None:
        url = flask.request.url if flask.has_request_context() else None
        note(cell, str(url))

    def walk(self: t.Any, item: t.Any = None, **plan: t.Any) -> None:
        go(self, item or plan)

    def go(self: t.Any, plan: dict[str, t.Any], *args: t.Any) -> None:
        """:param args: what Celery gives an errback, to call itself again."""
        step, *path = *plan["path"], None
        plan = {**plan, "path": path[:-1]}
        task = app.tasks[f"task.decorated.{plan['base']}"]
        if step is None:
            do(plan["cell"], plan["act"])
        elif step == "own request":
            with shop.test_request_context("/", OWN):
                go(self, plan, *args)
        elif step == "another app":
            with another.app_context():
                go(self, plan, *args)
        elif step == "direct":
            task(**plan)
        elif step == "apply":
            task.apply(kwargs=plan).get(disable_sync_subtasks=False)
        else:
            self(*args, **plan)

    def do(cell: str, act: str) -> None:
        task = app.tasks["child"]
        if act == "read":
            note(cell, seen())
        elif act == "delay":
            task.delay(cell=cell)
        elif act == "AUTO":
            shop.config["TASK_CONTEXT_AUTO"] = True
            try:
                task.delay(cell=cell)
            finally:
                shop.config["TASK_CONTEXT_AUTO"] = False
        elif act == "delay_with_context":
            delay_with_context(task, cell=cell)
        elif act == "canvas":
            part = task.si(cell=cell)
            delay_with_context(chain(part, group(part, part)))
        else:
            delay_with_context(
                task.si(cell=cell).set(headers={"flask_task_context": ""})
            )

    class FlaskTask(celery.Task):  # type: ignore[misc]
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with shop.app_context():
                return self.run(*args, **kwargs)

    @with_request_context
    class Decorated(celery.Task):  # type: ignore[misc]
        pass

    class DecoratedCall(celery.Task):  # type: ignore[misc]
        @with_request_context
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            return super().__call__(*args, **kwargs)

    def errback_named(name: str) -> t.Callable[..., None]:
        # Not ``bind=True``: Celery takes such an errback for one of one argument.
        def errback(failed: t.Any, error: t.Any, trace: t.Any, **plan: t.Any) -> None:
            go(app.tasks[name], plan, failed, error, trace)

        return errback

    def fail() -> None:
        raise ValueError("so that an errback is called")

    app.task(with_request_context(child), name="child", shared=False)
    app.task(fail, name="fail", shared=False)
    bases = (celery.Task, FlaskTask, Decorated, DecoratedCall)
    for base, kind in itertools.product(bases, KINDS):
        made = {"base": base, "shared": False}
        name = f"{kind}.{base.__name__}"
        decorate = KINDS[kind]
        app.task(decorate(walk), bind=True, name=f"task.{name}", **made)
        errback = decorate(errback_named(f"errback.{name}"))
        app.task(errback, name=f"errback.{name}", **made)
    return app


def send(app: Celery, cell: Cell, headers: dict[str, str]) -> None:
    """Start a cell, with the visitor's context or with none."""
    plan = {"path": cell.path, "act": cell.act, "base": cell.base, "cell": cell.id}
    how = "task" if cell.how in ("map", "starmap", "chunks") else cell.how
    task = app.tasks[f"{how}.{cell.kind}.{cell.base}"]
    sent = {"headers": headers if cell.message else None}
    if cell.how == "task":
        task.apply_async(kwargs=plan, **sent)
    elif cell.how == "errback":
        app.tasks["fail"].apply_async(link_error=task.s(**plan), **sent)
    elif cell.how == "map":
        task.map([plan]).apply_async(**sent)
    elif cell.how == "starmap":
        task.starmap([[plan]]).apply_async(**sent)
    else:
        task.chunks([[plan]], 1).group().apply_async(**sent)


def start_worker_process() -> Celery:
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    shop = create_app("shop")
    flask_task_context.init_app(shop)
    if os.environ["PUSHED"] == "yes":
        with contextlib.ExitStack() as stack:
            stack.enter_context(shop.app_context())
            stack.pop_all()
    return create_celery(shop, **settings["celery"])
