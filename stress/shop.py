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
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from stress.visitors import SECRET_KEY
from stress.visitors import Visitor
from stress.visitors import differences

SETTINGS = "STRESS_SETTINGS"
RETRIES = 2
SOFT_LIMIT, HARD_LIMIT = 1.0, 1.5  # seconds

FAMILY = ("", ".child", ".child.child", ".1", ".2", ".3")

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
    name = str(visitor.number)
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
    }
    return {name + suffix: ended for suffix, ended in names[visitor.kind].items()}


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
    elif kind == "one":
        delay_with_context(check, expected, name)
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
        send(tasks["below" if number % 3 else "above"], kind, str(number), expected)
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
    for way in ("below", "above"):
        for body in (check, fail, retry, soft, hard, nap, family, nest, errback):
            bound = body in (retry, family, nest)
            limits = {"soft_time_limit": SOFT_LIMIT} if body is soft else {}
            limits = {"time_limit": HARD_LIMIT} if body is hard else limits
            make = app.task(
                name=f"{way}.{body.__name__}", bind=bound, shared=False, **limits
            )
            if way == "below":
                make(with_request_context(body))
            else:
                with_request_context(make(body))
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

    def environ(self) -> dict[str, str]:
        return {**os.environ, SETTINGS: json.dumps(self._asdict())}

    def create_celery(self) -> celery.Celery:
        return create_celery(self.broker, self.queue, **self.celery)


def read_settings() -> Settings:
    return Settings(**json.loads(os.environ[SETTINGS]))


def web() -> flask.Flask:
    """What gunicorn loads."""
    settings = read_settings()
    app = create_flask(**settings.flask)
    flask_task_context.init_app(app)
    app.extensions["tasks"].update(by_way(settings.create_celery()))
    return app


class Here(t.NamedTuple):
    ledger: Ledger
    pause: float


_here: list[Here] = []


def worker() -> celery.Celery:
    """What ``celery worker`` loads."""
    settings = read_settings()
    flask_task_context.init_app(create_flask(**settings.flask))
    _here.append(Here(Ledger(settings.ledger), settings.pause))
    signals.task_prerun.connect(before, weak=False)
    signals.task_postrun.connect(after, weak=False)
    signals.worker_shutdown.connect(end, weak=False)
    return settings.create_celery()


# -- what must not be left --------------------------------------------------------


def left() -> list[str]:
    """What stays pushed outside of all tasks."""
    library = flask_task_context
    values = {
        "a request context": flask.has_request_context(),
        "an app context": flask.has_app_context(),
        "something to carry": library._carried.get() is not None,
    }
    return [f"left behind: {what}" for what, there in values.items() if there]


def before(task: t.Any = None, args: t.Any = None, **signal: t.Any) -> None:
    _here[0].ledger.write("began", name_of(task, args), left())


def after(task: t.Any = None, args: t.Any = None, **signal: t.Any) -> None:
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
    return []


def check(expected: Expected, name: str) -> None:
    wrong = look(expected)
    time.sleep(_here[0].pause)
    _here[0].ledger.write("saw", name, wrong or look(expected))


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
