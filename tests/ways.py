"""Celery's ways to run a task: the rows of the table in docs/reference/ways.md.

``python -m tests.ways`` prints the table; ``test_ways.py`` tests it, cell by
cell, on Redis and RabbitMQ with a worker in a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import itertools
import shutil
import tempfile
import time
import typing as t
import uuid
from pathlib import Path

import celery
import celery._state
import flask
import pytest
from celery import Celery
from celery import chain
from celery import chord
from celery import group
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import flask_task_context
from flask_task_context import apply_async_with_context
from flask_task_context import capture_context
from flask_task_context import delay_with_context
from tests import ways_tasks
from tests.conftest import Shop
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue

SENT = "the sender's request"
CALLER = "the caller's own request"
APP = "an app context"
NONE = "no context"
LABELS = {"below": "decorated below `@app.task`", "above": "decorated above it"}


# redis-py says so of what Celery 5.3 does.
quiet = pytest.mark.filterwarnings("ignore:Call to deprecated setex")


class Lab(Shop):
    """Flask and Celery of the process that sends, and the worker that runs."""

    worker: Worker

    def __init__(self, settings: dict[str, t.Any], folder: Path, **config: t.Any):
        super().__init__(settings, **{"PROPAGATE_EXCEPTIONS": True, **config})
        self.celery.close()
        self.folder = folder
        self.celery = ways_tasks.create_celery(**settings)
        self.tasks = self.celery.tasks
        self.number = itertools.count(1)
        self.variants: dict[str, Celery] = {}

    def variant(self, **conf: t.Any) -> Celery:
        """The same Celery app with a few other settings."""
        if str(conf) not in self.variants:
            made = ways_tasks.create_celery(**self.settings, **conf)
            self.variants[str(conf)] = made
        return self.variants[str(conf)]

    def web(self) -> Celery:
        """A Celery app that has none of the tasks."""
        if "web" not in self.variants:
            self.variants["web"] = Celery("web", set_as_current=False)
            self.variants["web"].conf.update(self.settings)
        return self.variants["web"]

    def close(self) -> None:
        for app in self.variants.values():
            app.close()


class Cell:
    """One of the two ways to decorate, and a visitor of its own."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.lab, self.kind = lab, kind
        self.number = next(lab.number)
        self.path = f"/item/{self.number}?kind={kind}"
        self.url = f"http://localhost{self.path}"
        self.notes = lab.folder / f"notes-{self.number}"
        flask_task_context.init_app(lab.flask)

    def task(self, name: str, app: Celery | None = None) -> t.Any:
        return (app or self.lab.celery).tasks[f"{self.kind}.{name}"]

    def note(self, name: str = "note", *args: t.Any) -> t.Any:
        return self.task(name).s(*args, path=str(self.notes))

    def visit(self, view: t.Callable[[], t.Any]) -> t.Any:
        def run() -> t.Any:
            flask.g.view = "this one"
            return view()

        return self.lab.visit(run, self.path)

    def headers(self) -> dict[str, str]:
        return t.cast("dict[str, str]", self.visit(capture_context))

    def seen(self, result: t.Any, count: int) -> list[str]:
        """What the tasks returned, raised or noted, in the table's words."""
        seen = [self.word(value) for value in ways_tasks.flat(read(result))]
        return [*seen, *map(self.word, self.noted(count - len(seen)))]

    def noted(self, count: int) -> list[str]:
        """The lines of the notes, when there are so many of them."""
        return lines_of(self.notes, count)

    def word(self, value: t.Any) -> str:
        words = {
            self.url: SENT,
            f"{self.url} in the view": CALLER,
            "app context": APP,
            "no context": NONE,
        }
        return words.get(value, repr(value))


def lines_of(path: Path, count: int, seconds: float = 60) -> list[str]:
    """The file's lines, when there are so many of them, or after so many seconds."""
    deadline = time.monotonic() + seconds
    lines: list[str] = []
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.02)
        lines = path.read_text().splitlines() if path.exists() else []
    return lines


def read(result: t.Any) -> t.Any:
    """The result's value, or what its exception says."""
    if isinstance(result, celery.result.GroupResult):
        return [read(each) for each in result.results]
    if isinstance(result, list):
        return [read(each) for each in result]
    if isinstance(result, celery.result.AsyncResult | celery.result.EagerResult):
        if getattr(result, "ignored", False):
            return None
        result = result.get(timeout=30, interval=0.02, propagate=False)
    return list(result.args) if isinstance(result, Exception) else result


class Way(t.NamedTuple):
    """A row: what the tasks see, how they are sent, how many there are."""

    name: str
    send: t.Callable[[Cell], t.Any]
    below: str = SENT
    above: str = SENT
    count: int = 1
    once: bool = True  # Celery calls some errbacks twice.
    inside: bool = True  # Whether ``send`` runs inside the visitor's view.
    since: tuple[int, ...] = (5, 3)  # Of Celery.
    why: str = ""

    def expected(self, kind: str) -> str:
        return t.cast("str", getattr(self, kind))


def in_two_apps(cell: Cell) -> list[t.Any]:
    """The shared task itself, with one Celery app and then the other as current."""
    task = getattr(ways_tasks, f"{cell.kind}_shared")
    results = []
    for app in (cell.lab.celery, cell.lab.variant(task_default_priority=1)):
        with current(app):
            results.append(delay_with_context(task, 1))
    return results


@contextlib.contextmanager
def current(app: Celery) -> t.Iterator[None]:
    state = celery._state
    previous = state._tls.current_app
    app.set_current()
    try:
        yield
    finally:
        state._tls.current_app = previous


def soon() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)


def eager(cell: Cell, name: str = "where") -> t.Any:
    return cell.task(name, cell.lab.variant(task_always_eager=True))


def steps(cell: Cell, count: int) -> list[t.Any]:
    """The first one takes no argument; the others take what came before them."""
    return [cell.task("trace").s() for _ in range(count)]


def unread(send: t.Callable[..., t.Any], *args: t.Any, **options: t.Any) -> None:
    """Send what fails by itself: only its errbacks have something to tell."""
    send(*args, **options)


def serialized(name: str) -> Way:
    return Way(
        f'`serializer="{name}"`',
        lambda c: apply_async_with_context(c.task("where"), (1,), serializer=name),
    )


SENDING = [
    Way(
        "`delay_with_context(task, 1, y=2)`",
        lambda c: delay_with_context(c.task("where"), 1, y=2),
    ),
    Way(
        "`apply_async_with_context(task, (1,))`",
        lambda c: apply_async_with_context(c.task("where"), (1,)),
    ),
    Way(
        "`apply_async_with_context(task, kwargs={...})`",
        lambda c: apply_async_with_context(c.task("where"), kwargs={"x": 1}),
    ),
    Way(
        "`apply_async_with_context(task, headers={...})`",
        lambda c: apply_async_with_context(
            c.task("where"), (1,), headers={"mine": "1"}
        ),
    ),
    Way(
        "`apply_async_with_context(task, headers=None)`",
        lambda c: apply_async_with_context(c.task("where"), (1,), headers=None),
    ),
    Way(
        "`task.apply_async(headers=capture_context())`",
        lambda c: c.task("where").apply_async((1,), headers=capture_context()),
    ),
    Way(
        "`send_task(name, headers=capture_context())`, the task not imported",
        lambda c: c.lab.web().send_task(
            f"{c.kind}.where", (1,), headers=capture_context()
        ),
    ),
    Way(
        "`task.delay()` in a view",
        lambda c: c.task("where").delay(1),
        APP,
        APP,
        why="no context was asked for",
    ),
    Way(
        "`task.delay()` outside a request",
        lambda c: c.task("where").delay(1),
        APP,
        APP,
        inside=False,
    ),
    Way(
        "`delay_with_context(task)` outside a request",
        lambda c: delay_with_context(c.task("where"), 1),
        APP,
        APP,
        inside=False,
    ),
    Way(
        "`countdown=1`",
        lambda c: apply_async_with_context(c.task("where"), (1,), countdown=1),
    ),
    Way(
        "`eta=...`",
        lambda c: apply_async_with_context(c.task("where"), (1,), eta=soon()),
    ),
    Way(
        "`expires=60`",
        lambda c: apply_async_with_context(c.task("where"), (1,), expires=60),
    ),
    Way(
        "`time_limit=60, soft_time_limit=30`",
        lambda c: apply_async_with_context(
            c.task("where"), (1,), time_limit=60, soft_time_limit=30
        ),
    ),
    *map(serialized, ("json", "pickle", "yaml", "msgpack", "auth")),
    Way(
        '`compression="gzip"`',
        lambda c: apply_async_with_context(c.task("where"), (1,), compression="gzip"),
    ),
    Way(
        "`task_protocol = 1`",
        lambda c: delay_with_context(
            c.task("where", c.lab.variant(task_protocol=1)), 1
        ),
    ),
]
CALLING = [
    Way("`task()` in a view", lambda c: c.task("where")(1), CALLER, CALLER),
    Way(
        "`task()` outside a request",
        lambda c: c.task("where")(1),
        APP,
        APP,
        inside=False,
    ),
    Way(
        "`task.apply()` in a view",
        lambda c: c.task("where").apply((1,)),
        CALLER,
        CALLER,
    ),
    Way(
        "`task.apply(headers=context)` outside a request",
        lambda c: c.task("where").apply((1,), headers=c.headers()),
        inside=False,
    ),
    Way(
        "`task.apply((), {}, ..., context)` outside a request, by position",
        lambda c: c.task("where").apply(
            (1,), {}, None, None, None, 0, False, None, None, c.headers()
        ),
        inside=False,
    ),
    Way(
        "`task_always_eager`, in a view",
        lambda c: delay_with_context(eager(c), 1),
        CALLER,
        CALLER,
    ),
    Way(
        "`task_always_eager`, `apply_async(headers=context)` outside a request",
        lambda c: eager(c).apply_async((1,), headers=c.headers()),
        inside=False,
    ),
    Way(
        "`task_always_eager`, a chord with `headers=context` outside a request",
        lambda c: apply_async_with_context(
            chord(
                [eager(c, "trace").s(), eager(c, "trace").s()], eager(c, "trace").s()
            ),
            headers=c.headers(),
        ),
        count=3,
        inside=False,
    ),
    Way(
        "`task_always_eager`, a canvas in a view",
        lambda c: delay_with_context(
            chain(
                eager(c, "trace").s(),
                group(eager(c, "trace").s(), eager(c, "trace").s()),
                eager(c, "trace").s(),
            )
        ),
        CALLER,
        CALLER,
        count=5,
    ),
]
TASKS = [
    Way("`bind=True`", lambda c: delay_with_context(c.task("bound"), 1)),
    Way("`@shared_task`, with two Celery apps", in_two_apps, count=2),
    Way("a class with `run`", lambda c: delay_with_context(c.task("classy"), 1)),
    Way(
        "a base class whose `__call__` calls `super().__call__`",
        lambda c: delay_with_context(c.task("calling"), 1),
    ),
    Way(
        "the same, by `apply(headers=context)` outside a request",
        lambda c: c.task("calling").apply((1,), headers=c.headers()),
        inside=False,
    ),
    Way(
        "a base class that pushes an app context (`FlaskTask` of Flask's docs)",
        lambda c: delay_with_context(c.task("flask_task"), 1),
    ),
    Way(
        "a base class whose `__call__` passes `self.run` by",
        lambda c: delay_with_context(c.task("passing"), 1),
        above=NONE,
        why="Celery has no other place to wrap: decorate below",
    ),
    Way(
        "`pydantic=True` (Celery 5.5)",
        lambda c: delay_with_context(c.task("pydantic"), {"number": 1}),
        since=(5, 5),
    ),
    Way("`acks_late=True`", lambda c: delay_with_context(c.note("late"))),
    Way("`ignore_result=True`", lambda c: delay_with_context(c.note("silent"))),
    Way("`throws=...`", lambda c: delay_with_context(c.task("throw"))),
    Way("time limits on the task", lambda c: delay_with_context(c.task("limited"), 1)),
]
AGAIN = [
    Way(
        "`self.retry()`, three times",
        lambda c: delay_with_context(c.note("retry")),
        count=5,
    ),
    Way(
        "`autoretry_for=...`, three times",
        lambda c: delay_with_context(c.note("autoretry")),
        count=5,
    ),
    Way(
        "redelivery after the worker's process was killed",
        lambda c: delay_with_context(c.task("die_once"), str(c.notes)),
        count=3,
    ),
    Way(
        "`self.replace(task)`",
        lambda c: delay_with_context(c.task("replace"), "task"),
        count=2,
    ),
    Way(
        "`self.replace(chain)`",
        lambda c: delay_with_context(c.task("replace"), "chain"),
        count=3,
    ),
    Way(
        "`self.replace(group)`",
        lambda c: delay_with_context(c.task("replace"), "group"),
        count=3,
    ),
]
CANVAS = [
    Way("a signature", lambda c: delay_with_context(c.task("where").s(1))),
    Way("an immutable signature", lambda c: delay_with_context(c.task("where").si(1))),
    Way("a partial", lambda c: delay_with_context(c.task("where").s(2), 1)),
    Way("a chain", lambda c: delay_with_context(chain(*steps(c, 3))), count=3),
    Way("a group", lambda c: delay_with_context(group(steps(c, 3))), count=3),
    Way(
        "a chord, header and body",
        lambda c: delay_with_context(chord(steps(c, 2), c.task("trace").s())),
        count=3,
    ),
    Way(
        "`task.map(...)`",
        lambda c: delay_with_context(c.task("trace").map([[], []])),
        count=2,
    ),
    Way(
        "`task.starmap(...)`",
        lambda c: delay_with_context(c.task("where").starmap([(1, 2), (1, 2)])),
        count=2,
    ),
    Way(
        "`task.chunks(...)`",
        lambda c: delay_with_context(c.task("where").chunks([(1, 2), (1, 2)], 1)),
        count=2,
    ),
    Way(
        "a chain with a group in it",
        lambda c: delay_with_context(
            chain(*steps(c, 1), group(chain(*steps(c, 2)), *steps(c, 1)), *steps(c, 1))
        ),
        count=6,
    ),
    Way(
        "`link`",
        lambda c: apply_async_with_context(c.task("where"), (1,), link=c.note()),
        count=2,
    ),
    Way(
        "`link_error`, an errback of one argument",
        lambda c: apply_async_with_context(
            c.task("fail"), link_error=c.note("errback_one")
        ),
        count=2,
    ),
    Way(
        "`link_error`, an errback of three arguments",
        lambda c: apply_async_with_context(
            c.task("fail"), link_error=c.note("errback_three")
        ),
        count=2,
    ),
    Way(
        "`link_error`, an errback with `bind=True`",
        lambda c: apply_async_with_context(
            c.task("fail"), link_error=c.note("errback_bound")
        ),
        count=2,
    ),
    Way(
        "`on_error` on a chain",
        lambda c: delay_with_context(
            chain(c.task("trace").s(), c.task("fail").s()).on_error(
                c.note("errback_three")
            )
        ),
        count=2,
    ),
    Way(
        "`on_error` on a chord whose header fails",
        lambda c: unread(
            delay_with_context,
            chord(
                [c.task("trace").s(), c.task("fail").s()],
                c.task("trace").s().on_error(c.note("errback_three")),
            ),
        ),
    ),
]
KILLED = list(
    itertools.product(
        {"hang": "a hard time limit", "die": "a killed process"}.items(),
        {"errback_one": "one argument", "errback_three": "three arguments"}.items(),
    )
)
ENDINGS = [
    Way(
        f"an errback of {arguments} after {ending}",
        lambda c, name=name, errback=errback: unread(
            apply_async_with_context, c.task(name), link_error=c.note(errback)
        ),
        once=False,
    )
    for (name, ending), (errback, arguments) in KILLED
]
CHILDREN = [
    Way(
        "what the task sends by plain `.delay()`, three deep",
        lambda c: delay_with_context(c.task("child"), str(c.notes), 3),
        count=4,
    ),
]
WAYS = [
    *SENDING,
    *CALLING,
    *TASKS,
    *AGAIN,
    *CANVAS,
    *ENDINGS,
    *CHILDREN,
]


def table() -> str:
    """The table of docs/reference/ways.md, in Markdown."""
    lines = [f"| how it runs | {LABELS['below']} | {LABELS['above']} |"]
    lines.append("| --- | --- | --- |")
    for way in WAYS:
        why = f" ({way.why})" if way.why else ""
        cells = [way.expected(kind) for kind in ways_tasks.KINDS]
        lines.append(f"| {way.name} | {cells[0]} | {cells[1]}{why} |")
    return "\n".join(lines) + "\n"


def lab_settings(broker: str, folder: Path, **conf: t.Any) -> dict[str, t.Any]:
    """Redis also keeps the results, so that it counts chords; RabbitMQ has
    them in files, and ``chord_unlock``."""
    settings = celery_settings(broker, folder)
    if broker == "redis":
        settings["result_backend"] = settings["broker_url"]
    keys = certificate_folder()
    return {
        **settings,
        "accept_content": ["json", "pickle", "yaml", "msgpack", "auth"],
        "result_accept_content": ["json"],
        "result_chord_retry_interval": 0.1,
        "result_expires": 600,
        "worker_lost_wait": 0.2,
        "security_key": str(keys / "key.pem"),
        "security_certificate": str(keys / "certificate.pem"),
        **conf,
    }


@functools.cache
def certificate_folder() -> Path:
    """One key for all labs: kombu has one ``auth`` serializer in a process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    write_certificate(folder)
    return folder


def write_certificate(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ways")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def start_worker(
    settings: dict[str, t.Any], folder: Path, *options: str, **more: t.Any
) -> Worker:
    """A worker with the table's tasks; root may unpickle here."""
    environ = {"C_FORCE_ROOT": "1", **more.pop("environ", {})}
    module = more.pop("module", "tests.ways_worker")
    log = folder / f"worker-{next(_logs)}.log"
    # Two workers of one name would fight for RabbitMQ's queue for their commands.
    options = (*options, "-n", f"{uuid.uuid4().hex[:12]}@localhost")
    return Worker(settings, log, *options, module=module, environ=environ, **more)


_logs = itertools.count()
_labs: dict[str, Lab] = {}


def shared_lab(broker: str) -> Lab:
    """One lab, with one worker, for all the files that test on this broker."""
    if broker not in _labs:
        folder = Path(tempfile.mkdtemp(prefix=f"ways-{broker}-"))
        settings = lab_settings(broker, folder)
        lab = _labs[broker] = Lab(settings, folder)
        lab.worker = start_worker(settings, folder, "--pool=prefork", "-c1")
        atexit.register(close_lab, lab)
    return _labs[broker]


def close_lab(lab: Lab) -> None:
    close(lab)
    shutil.rmtree(lab.folder)


def close(lab: Lab) -> None:
    """End the worker and every connection of the sending process."""
    lab.worker.kill()
    for app in (lab.celery, *lab.variants.values()):
        if app.conf.result_backend.startswith("redis"):
            app.backend.result_consumer.stop()
            # A result that is let go of later would open a new connection.
            app.backend.result_consumer._pubsub = None
            app.backend.client.connection_pool.disconnect()
    drop_queue(lab.celery)
    lab.close()


if __name__ == "__main__":
    print(table(), end="")
