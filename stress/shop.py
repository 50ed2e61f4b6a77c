"""The Flask app, the Celery app and the tasks, all of which check their own request.

Each task gets its name and what it must see as plain arguments. The run's ledger gets a
line when Celery begins with it (``began``), when it has looked (``saw``), and when Celery
is done with it (``ended``), each with what was wrong there.
"""

from __future__ import annotations

import json
import os
import time
import typing as t
from pathlib import Path

import celery
import flask
import kombu
from celery import chain
from celery import chord
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

import flask_task_context
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from flask_task_context import restore_context
from flask_task_context import with_request_context
from stress.visitors import SECRET_KEY
from stress.visitors import Visitor
from stress.visitors import differences

SETTINGS = "STRESS_SETTINGS"
RETRIES = 2
SOFT_LIMIT, HARD_LIMIT = 1.0, 1.5  # seconds

FAMILY = ("", ".child", ".child.child", ".1", ".2", ".3")
# A task that has hooks, and what each of these sends; the view's own hooks send, too.
HOOKS = ("", ".before", ".after", ".torn")
HOOKED = [
    f"{sent}{hook}" for sent in ("", ".page.after", ".page.torn") for hook in HOOKS
]
# What Celery calls for the tasks that have handlers.
HANDLERS = {
    "": ("before_start", "on_success", "after_return"),
    ".fail": ("before_start", "on_failure", "after_return", "task_failure"),
    ".retry-0": ("before_start", "on_retry"),
    ".retry-1": ("before_start", "on_retry"),
    ".retry-2": ("before_start", "on_success", "after_return"),
}
HARD_HANDLERS = (".before_start", ".on_failure", ".after_return", ".task_failure")
DEPTH = 3  # of a recursion that calls itself twice

Expected = dict[str, t.Any] | None


class Refused(Exception):
    """Raised by a task, as planned."""


class Ledger:
    """A file to which many processes append their lines."""

    def __init__(self, path: str | Path) -> None:
        self.file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, event: str, name: str, wrong: list[str]) -> None:
        line = "\t".join([event, name, "; ".join(wrong)]).replace("\n", " ")
        os.write(self.file, f"{line}\n".encode())


# -- what a visit sends ----------------------------------------------------------


def tasks_of(visitor: Visitor) -> dict[str, bool]:
    """The names of the tasks that a visit leads to; ``False`` for those that end with
    no ``ended``: an errback is called, not sent, and a process is killed."""
    handled = {
        f"{task}.{handler}": False
        for task, handlers in HANDLERS.items()
        for handler in handlers
    }
    names = {
        "one": {"": True},
        "plain": {"": True},
        "bare": {"": True},
        "fail": {"": True, ".errback": False},
        "retry": {f"-{number}": True for number in range(RETRIES + 1)},
        "soft": {"": True},
        "hard": {"": False, ".errback": False},
        "nap": {"": True},
        "chain": dict.fromkeys([".1", ".2", ".3"], True),
        "chord": dict.fromkeys([".1", ".2", ".end"], True),
        "family": dict.fromkeys(FAMILY, True),
        "nest": dict.fromkeys([*FAMILY, ".4", ".5", ".end"], True),
        "hooks": dict.fromkeys(HOOKED, True),
        "internal": {"": True, ".child": True},
        "internal-view": {"": True, ".none": True},
        "recursion": {"": True},
        "apps": {"": True, ".child": True},
        "pushed": {"": True, ".none": True},
        "bases": {".base": True, ".both": True},
        "handlers": dict.fromkeys(HANDLERS, True) | handled,
        "handlers-hard": dict.fromkeys(["", *HARD_HANDLERS], False),
    }
    found = {visitor.name + end: ended for end, ended in names[visitor.kind].items()}
    for inner in inside(visitor):
        found |= tasks_of(inner)
    return found


def inside(visitor: Visitor) -> list[Visitor]:
    """Those whose requests its task makes, or pushes."""
    if visitor.kind != "internal":
        return []
    return [
        Visitor("internal-view", visitor.number + times * 1_000_000) for times in (1, 2)
    ]


def send(tasks: t.Any, kind: str, name: str, expected: Expected) -> None:
    check = tasks["check"]
    errback = tasks["errback"].s(expected, f"{name}.errback")
    if kind == "plain":
        check.delay(None, name)
    elif kind == "bare":
        tasks["bare"].delay(None, name)
    elif kind in ("fail", "hard"):
        apply_async_with_context(tasks[kind], (expected, name), link_error=errback)
    elif kind == "chain":
        steps = [check.si(expected, f"{name}.{number}") for number in (1, 2, 3)]
        delay_with_context(chain(*steps))
    elif kind == "chord":
        delay_with_context(chord_of(check, expected, name, 1))
    elif kind in ("one", "internal-view", "pushed"):
        delay_with_context(check, expected, name)
        if kind == "internal-view":
            tasks["none"].delay(None, f"{name}.none")
        elif kind == "pushed":
            check.delay(None, f"{name}.none")
    elif kind == "bases":
        for base in ("base", "both"):
            delay_with_context(tasks[base], expected, f"{name}.{base}")
    elif kind == "handlers":
        delay_with_context(tasks["handled_check"], expected, name)
        delay_with_context(tasks["handled_fail"], expected, f"{name}.fail")
        delay_with_context(tasks["handled_retry"], expected, f"{name}.retry")
    elif kind == "handlers-hard":
        delay_with_context(tasks["handled_hard"], expected, name)
    else:
        delay_with_context(tasks[kind], expected, name)


def chord_of(check: t.Any, expected: Expected, name: str, first: int) -> t.Any:
    header = [check.si(expected, f"{name}.{first + number}") for number in (0, 1)]
    return chord(header, check.si(expected, f"{name}.end"))


# -- the apps --------------------------------------------------------------------


def create_flask(**config: t.Any) -> flask.Flask:
    app = flask.Flask("shop")
    app.config.update(SECRET_KEY=SECRET_KEY, TASK_CONTEXT_G=["tenant", "limits"])
    app.config.update(config)
    app.before_request(lambda: hook("before"))
    app.after_request(lambda response: hook("after", response))
    app.teardown_request(lambda error: hook("torn"))
    tasks = app.extensions["tasks"] = {}

    @app.route("/<kind>/<int:number>", methods=["GET", "POST"])
    def visit(kind: str, number: int) -> t.Any:
        visitor = Visitor(kind, number)
        for name, value in visitor.g.items():
            setattr(flask.g, name, value)
        flask.session["visits"] = number % 7
        expected = visitor.expected()
        # Half of the visits send before they have read anything.
        wrong = differences(expected) if number % 2 else []
        send(tasks["below" if number % 3 else "above"], kind, visitor.name, expected)
        wrong += differences(expected)
        return ("; ".join(wrong), 500) if wrong else ("", 200)

    return app


def create_celery(broker: str, queue: str, **conf: t.Any) -> celery.Celery:
    app = celery.Celery("stress", broker=broker, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_queues=[kombu.Queue(queue, kombu.Exchange(queue), routing_key=queue)],
        task_default_exchange=queue,
        task_default_routing_key=queue,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=4,
    )
    app.conf.update(conf)

    def add(
        way: str, body: t.Any, short: str = "", base: t.Any = celery.Task, **how: t.Any
    ) -> None:
        limits = {
            soft: {"soft_time_limit": SOFT_LIMIT},
            hard: {"time_limit": HARD_LIMIT},
        }
        make = app.task(
            name=f"{way}.{short or body.__name__}",
            bind=body.__code__.co_varnames[0] == "task",
            base=base,
            shared=False,
            **limits.get(body, {}),
        )
        decorate = with_request_context(**how)
        if way == "below":
            make(decorate(body))
        else:
            decorate(make(body))

    for way, base in (("below", Decorated), ("above", DecoratedCall)):
        for body in (check, fail, retry, soft, hard, nap, family, nest, errback):
            add(way, body)
        for body in (apps, internal, recursion):
            add(way, body)
        for body in (check, fail, retry, hard):
            add(way, body, f"handled_{body.__name__}", base=Handled)
        add(way, check, "none", app=first_app)
        add(way, check, "hooks", app=first_app, before_request=True)
        add(way, based, "both", base=base)
        app.task(based, name=f"{way}.base", base=base, shared=False)
        app.task(check, name=f"{way}.bare", shared=False)
    return app


def by_way(app: celery.Celery) -> dict[str, dict[str, t.Any]]:
    """The tasks that are decorated below ``@app.task``, and above it."""
    found: dict[str, dict[str, t.Any]] = {"below": {}, "above": {}}
    for name, task in app.tasks.items():
        way, _, short = name.partition(".")
        if way in found:
            found[way][short] = task
    return found


class Settings(t.NamedTuple):
    """What the web process and the worker are told."""

    broker: str
    queue: str
    ledger: str
    celery: dict[str, t.Any]
    flask: dict[str, t.Any]
    pause: float = 0  # seconds between a task's two looks
    #: Flask apps of one SECRET_KEY; the worker has contexts of all but the first pushed.
    apps: t.Sequence[str] = ("shop",)

    def environ(self) -> dict[str, str]:
        return {**os.environ, SETTINGS: json.dumps(self._asdict())}

    def create_celery(self) -> celery.Celery:
        return create_celery(self.broker, self.queue, **self.celery)

    def create_flasks(self, celery_app: celery.Celery) -> dict[str, flask.Flask]:
        found = {name: create_flask(APP=name, **self.flask) for name in self.apps}
        for name, app in found.items():
            flask_task_context.init_app(app, name=name)
            app.extensions["tasks"].update(by_way(celery_app))
        return found


def read_settings() -> Settings:
    return Settings(**json.loads(os.environ[SETTINGS]))


def web() -> t.Callable[..., t.Any]:
    """What gunicorn loads: the app that the host names."""
    settings = read_settings()
    found = settings.create_flasks(settings.create_celery())

    def application(environ: dict[str, t.Any], start_response: t.Any) -> t.Any:
        return found[environ["HTTP_HOST"].partition("-")[0]](environ, start_response)

    return application


class Here(t.NamedTuple):
    ledger: Ledger
    pause: float
    app: flask.Flask
    pushed: t.Any  # the app context that the worker has pushed


_here: list[Here] = []


def worker() -> celery.Celery:
    """What ``celery worker`` loads."""
    settings = read_settings()
    celery_app = settings.create_celery()
    app, *others = settings.create_flasks(celery_app).values()
    for other in others:
        other.app_context().push()
        flask.g.pushed = True
    pushed = app_context()
    _here.append(Here(Ledger(settings.ledger), settings.pause, app, pushed))
    signals.task_failure.connect(on_task_failure)
    signals.task_prerun.connect(before, weak=False)
    signals.task_postrun.connect(after, weak=False)
    signals.worker_shutdown.connect(end, weak=False)
    return celery_app


def first_app() -> flask.Flask:
    """For a message without a request, which names no app."""
    return _here[0].app


def app_context() -> t.Any:
    there = flask.has_app_context()
    return flask_task_context._active_app_context() if there else None


# -- what must not be left --------------------------------------------------------


def left() -> list[str]:
    """What stays pushed outside of all tasks."""
    library = flask_task_context
    values = {
        "a request context": flask.has_request_context(),
        "an app context": app_context() not in (None, _here[0].pushed),
        "something to carry": library._carried.get() is not None,
    }
    return [f"left behind: {what}" for what, there in values.items() if there]


def before(task: t.Any = None, args: t.Any = None, **signal: t.Any) -> None:
    if not task.request.is_eager:
        _here[0].ledger.write("began", name_of(task, args), left())


def after(task: t.Any = None, args: t.Any = None, **signal: t.Any) -> None:
    if not task.request.is_eager:
        _here[0].ledger.write("ended", name_of(task, args), left())


def name_of(task: t.Any, args: t.Any) -> str:
    retries = f"-{task.request.retries}" if task.name.endswith("retry") else ""
    return f"{args[1]}{retries}"


def end(**signal: t.Any) -> None:
    """The worker's main process, which calls the errbacks of killed tasks."""
    _here[0].ledger.write("worker", str(os.getpid()), left())


# -- the tasks -------------------------------------------------------------------


def look(expected: Expected) -> list[str]:
    if expected is not None:
        if not flask.has_request_context():
            return ["no request"]
        return differences(expected)
    if flask.has_request_context():
        return [f"a request where none was sent: {flask.request.url}"]
    if flask.has_app_context() and list(flask.g):
        return [f"another's g: {', '.join(flask.g)}"]
    return []


def check(expected: Expected, name: str) -> None:
    wrong = look(expected)
    time.sleep(_here[0].pause)
    _here[0].ledger.write("saw", name, wrong or look(expected))
    if flask.has_app_context():
        flask.g.mark = name  # for no other task to see


def fail(expected: Expected, name: str) -> None:
    check(expected, name)
    raise Refused(name)


def retry(task: t.Any, expected: Expected, name: str) -> None:
    check(expected, f"{name}-{task.request.retries}")
    if task.request.retries < RETRIES:
        raise task.retry(countdown=0)


def soft(expected: Expected, name: str) -> None:
    wrong = look(expected)
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        _here[0].ledger.write("saw", name, wrong or look(expected))
        raise


def hard(expected: Expected, name: str) -> None:
    check(expected, name)
    time.sleep(60)


def nap(expected: Expected, name: str) -> None:
    """Is in flight for a while."""
    wrong = look(expected)
    time.sleep(0.3)
    _here[0].ledger.write("saw", name, wrong or look(expected))


def family(task: t.Any, expected: Expected, name: str) -> None:
    """Sends more, with no word of a context."""
    check(expected, name)
    tasks = siblings(task)
    if name.endswith(".child"):
        tasks["check"].delay(expected, f"{name}.child")
        return
    tasks["family"].delay(expected, f"{name}.child")
    chain(*[tasks["check"].si(expected, f"{name}.{n}") for n in (1, 2, 3)]).delay()


def nest(task: t.Any, expected: Expected, name: str) -> None:
    family(task, expected, name)
    chord_of(siblings(task)["check"], expected, name, 4).delay()


def siblings(task: t.Any) -> dict[str, t.Any]:
    return by_way(task.app)[task.name.partition(".")[0]]


def errback(
    failed: t.Any, error: t.Any, traceback: t.Any, expected: Expected, name: str
) -> None:
    check(expected, name)


# -- the tasks of the rules --------------------------------------------------------


def hook(part: str, response: t.Any = None) -> t.Any:
    """The hooks of these visitors' requests send in the view, and again in each task."""
    if not flask.request.path.startswith("/hooks/"):
        return response
    number = t.cast("dict[str, int]", flask.request.view_args)["number"]
    if task := celery.current_task:
        name = f"{task.request.args[1]}.{part}"
        if name.count(".") > 4:  # That such a task has hooks is wrong: an end is made.
            return response
        args, sent = (None, name), siblings(task)["hooks"]
        if number % 3 == 0:
            sent.delay(*args)
        elif number % 3 == 1:
            delay_with_context(sent, *args)
        else:
            sent.apply_async(args, headers=capture_context())
    elif part != "before":
        visitor = Visitor("hooks", number)
        sent = flask.current_app.extensions["tasks"]["below"]["hooks"]
        delay_with_context(sent, visitor.expected(), f"{visitor.name}.page.{part}")
    return response


def internal(task: t.Any, expected: Expected, name: str) -> None:
    """Visits a view, and calls one in a request that it has pushed."""
    wrong = look(expected)
    number = t.cast("dict[str, int]", flask.request.view_args)["number"]
    app, view = flask.current_app, flask.current_app.view_functions["visit"]
    visited, pushed = inside(Visitor("internal", number))
    # Before Flask 3.2 these would have the task's own ``g``.
    with app.app_context():
        wrong.append(app.test_client(use_cookies=False).open(**made_of(visited)).text)
    with app.app_context(), app.test_request_context(**made_of(pushed)):
        wrong.append(view(pushed.kind, pushed.number)[0])
    wrong = [*filter(None, wrong), *look(expected)]
    _here[0].ledger.write("saw", name, wrong)
    siblings(task)["check"].delay(expected, f"{name}.child")


def made_of(visitor: Visitor) -> dict[str, t.Any]:
    app = flask.current_app
    serializer: t.Any = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    cookie = f"session={serializer.dumps(visitor.session)}"
    return {
        "path": visitor.path,
        "method": visitor.method,
        "headers": {**visitor.headers, "Cookie": cookie},
        "data": visitor.body,
        "environ_base": {"REMOTE_ADDR": "127.0.0.1"},
    }


def recursion(task: t.Any, expected: Expected, name: str, depth: int = DEPTH) -> None:
    """Calls itself, in one request, with one ``g``."""
    wrong = look(expected) if depth == DEPTH else []
    seen = flask.g.setdefault("seen", [])
    seen.append(flask.request._get_current_object())  # type: ignore[attr-defined]
    if depth:
        task(expected, name, depth - 1)
        again = task.apply((expected, name, depth - 1))
        again.get(disable_sync_subtasks=False)
    if depth == DEPTH:
        calls = 2 ** (DEPTH + 1) - 1
        if len(seen) != calls or any(request is not seen[0] for request in seen):
            wrong.append(f"another request or g in {calls} calls of itself")
        del flask.g.seen
        _here[0].ledger.write("saw", name, wrong + look(expected))


def apps(task: t.Any, expected: Expected, name: str) -> None:
    check(expected, name)
    siblings(task)["check"].delay(expected, f"{name}.child")


class Base(celery.Task):  # type: ignore[misc]
    """Looks around its tasks, with which it has one ``g``."""

    def __call__(self, expected: Expected, name: str) -> None:
        wrong = look(expected)
        flask.g.by_base = name
        wrong += super().__call__(expected, name)
        if flask.g.pop("by_task", None) != name:
            wrong.append("another g in the base than in its task")
        _here[0].ledger.write("saw", name, wrong + look(expected))


def based(expected: Expected, name: str) -> list[str]:
    same = flask.g.pop("by_base", None) == name
    wrong = look(expected)
    flask.g.by_task = name
    return wrong if same else [*wrong, "another g in the task than in its base"]


@with_request_context
class Decorated(Base):
    pass


class DecoratedCall(Base):
    @with_request_context
    def __call__(self, expected: Expected, name: str) -> None:
        super().__call__(expected, name)


def handler(name: str, position: int) -> t.Callable[..., None]:
    """:param position: where Celery gives it the task's id, and then the arguments."""

    def call(task: t.Any, *given: t.Any) -> None:
        handled(name, task, *given[position : position + 2])

    return call


class Handled(celery.Task):  # type: ignore[misc]
    """Each handler looks at the request that it has restored."""

    before_start = handler("before_start", 0)
    on_success = handler("on_success", 1)
    on_retry = handler("on_retry", 1)
    on_failure = handler("on_failure", 1)
    after_return = handler("after_return", 2)


def on_task_failure(sender: t.Any, task_id: str, args: t.Any, **signal: t.Any) -> None:
    if isinstance(sender, Handled):
        handled("task_failure", sender, task_id, args)


def handled(handler: str, task: t.Any, task_id: str, args: t.Any) -> None:
    expected, name = args[0], f"{name_of(task, args)}.{handler}"
    with restore_context(task.request.headers or {"id": task_id}):
        _here[0].ledger.write("saw", name, look(expected))
