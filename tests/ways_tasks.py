"""The tasks that the table of ways sends, decorated below and above."""

from __future__ import annotations

import json
import os
import signal
import time
import typing as t
import warnings
from pathlib import Path

import celery
import celery._state
import flask
from celery import Celery
from celery import shared_task
from celery.security.serialization import register_auth
from cryptography.utils import CryptographyDeprecationWarning
from flask import g
from kombu.serialization import registry
from pydantic import BaseModel

import flask_task_context
from flask_task_context import delay_with_context
from flask_task_context import with_request_context
from tests import shop

KINDS = ("below", "above")
SERVING: list[flask.Flask] = []  # The Flask app of this process.
PYDANTIC = celery.VERSION >= (5, 5)


def see() -> str:
    """Where this code runs: a URL, and whether the view that sent the task is
    still around it."""
    return shop.where() + (" in the view" if g and "view" in g else "")


def flat(value: t.Any) -> list[t.Any]:
    if isinstance(value, list | tuple):
        return [each for item in value for each in flat(item)]
    return [] if value is None else [value]


def where(x: int, y: int = 2) -> str:
    """The table sends 1 and 2, in each way that it has."""
    return see() if (x, y) == (1, 2) else f"{see()} with {x!r} and {y!r}"


def bound(self: t.Any, x: int) -> str:
    return where(x)


def trace(*seen: t.Any) -> list[str]:
    return [*flat(list(seen)), see()]


def spell(*parts: t.Any, mark: str = "", tasks: t.Any = ()) -> str:
    """Text from which the order of the calls can be read."""
    return mark + "(" + " ".join(map(str, flat([*parts, tasks]))) + ")"


def note(*args: t.Any, path: str) -> str:
    with Path(path).open("a") as file:
        file.write(see() + "\n")
    return see()


def errback_one(task_id: str, *, path: str) -> None:
    note(path=path)


def errback_three(request: t.Any, exc: t.Any, traceback: t.Any, *, path: str) -> None:
    note(path=path)


def errback_bound(self: t.Any, task_id: str, *, path: str) -> None:
    note(path=path)


def fail(*seen: t.Any) -> None:
    raise ValueError(see())


def sleep(*seen: t.Any) -> None:
    time.sleep(60)


def die(*seen: t.Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: str) -> str:
    if not Path(path).exists():
        note(path=path)
        die()
    return note(path=path)


def retry(self: t.Any, path: str, times: int = 3) -> str:
    note(path=path)
    if self.request.retries < times:
        raise self.retry(countdown=0, max_retries=times)
    return see()


def autoretry(self: t.Any, path: str, times: int = 3) -> str:
    note(path=path)
    if self.request.retries < times:
        raise ConnectionError("again")
    return see()


def replace(self: t.Any, shape: str) -> t.Any:
    trace = self.app.tasks[f"{kind_of(self)}.trace"]
    raise self.replace(
        {
            "task": trace.s([see()]),
            "chain": celery.chain(trace.s([see()]), trace.s()),
            "group": celery.group(trace.s([see()]), trace.s([])),
        }[shape]
    )


def kind_of(task: t.Any) -> str:
    return t.cast("str", task.name.partition(".")[0])


def child(self: t.Any, path: str, depth: int = 1) -> None:
    """Send the same task again with a plain ``delay``, ``depth`` times."""
    note(path=path)
    if depth:
        self.app.tasks[self.name].delay(path, depth - 1)


def send(self: t.Any, name: str, path: str, options: dict[str, t.Any]) -> None:
    """Send another task, with no word of a context but what ``options`` say."""
    self.app.tasks[name].apply_async(kwargs={"path": path}, **options)


def change(self: t.Any, name: str, path: str) -> None:
    """Send another task with the request as it is now."""
    g.tenant = "changed"
    delay_with_context(self.app.tasks[name], path=path)


def tenant(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{g.get('tenant')}\n")


def raw(self: t.Any, path: str, times: int = 3) -> None:
    """Note the header as it came, and try again."""
    with Path(path).open("a") as file:
        file.write(f"{self.request.headers['flask_task_context']}\n")
    if self.request.retries < times:
        raise self.retry(countdown=0, max_retries=times)


def nap(seconds: float) -> list[t.Any]:
    before = see()
    time.sleep(seconds)
    return [os.getpid(), before, see()]


def stall_once(path: str) -> str:
    if not Path(path).exists():
        note(path=path)
        time.sleep(60)
    return note(path=path)


def headers(self: t.Any) -> dict[str, t.Any]:
    """All that Celery gives out as headers, and where the task runs."""
    given = self.request.headers or {}
    mine = self.request.get("mine")
    return {"headers": given, "mine": mine, "where": see()}


def marked(self: t.Any, *seen: t.Any) -> list[t.Any]:
    """Where it runs, and the header of the user's own that it has."""
    return [*flat(list(seen)), see(), (self.request.headers or {}).get("mine")]


class Tenant(celery.Task):  # type: ignore[misc]
    """Adds an argument to each ``delay``."""

    def delay(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return self.apply_async((*args, "the tenant's"), kwargs)


def tenants(*args: t.Any) -> list[t.Any]:
    return [see(), *args]


class Calling(celery.Task):  # type: ignore[misc]
    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return super().__call__(*args, **kwargs)


class FlaskTask(celery.Task):  # type: ignore[misc]
    """The pattern in Flask's own documentation."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with SERVING[-1].app_context():
            return self.run(*args, **kwargs)


class Passing(celery.Task):  # type: ignore[misc]
    """Passes ``self.run`` by."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return self.__wrapped__(*args, **kwargs)


class Order(BaseModel):
    number: int


def pydantic(order: Order) -> str:
    return f"{see()}" if isinstance(order, Order) else f"not validated: {order!r}"


TASKS: list[tuple[t.Callable[..., t.Any], dict[str, t.Any]]] = [
    (where, {}),
    (bound, {"bind": True}),
    (trace, {}),
    (spell, {}),
    (note, {}),
    (note, {"name": "silent", "ignore_result": True}),
    (note, {"name": "late", "acks_late": True}),
    (where, {"name": "limited", "soft_time_limit": 30, "time_limit": 60}),
    (errback_one, {}),
    (errback_three, {}),
    (errback_bound, {"bind": True}),
    (fail, {}),
    (fail, {"name": "throw", "throws": (ValueError,)}),
    (sleep, {"name": "hang", "time_limit": 0.5}),
    (die, {}),
    (die_once, {"acks_late": True, "reject_on_worker_lost": True}),
    (retry, {"bind": True}),
    (
        autoretry,
        {
            "bind": True,
            "autoretry_for": (ConnectionError,),
            "default_retry_delay": 0,
            "max_retries": 3,
        },
    ),
    (replace, {"bind": True}),
    (child, {"bind": True}),
    (headers, {"bind": True}),
    (marked, {"bind": True}),
    (tenants, {"base": Tenant}),
    (send, {"bind": True}),
    (change, {"bind": True}),
    (tenant, {}),
    (raw, {"bind": True}),
    (nap, {}),
    (stall_once, {"acks_late": True}),
    (where, {"name": "calling", "base": Calling}),
    (where, {"name": "flask_task", "base": FlaskTask}),
    (where, {"name": "passing", "base": Passing}),
]
if PYDANTIC:
    TASKS.append((pydantic, {"pydantic": True}))


def create_celery(**conf: t.Any) -> Celery:
    """A plain Celery app; the tasks named ``plain.*`` are not decorated."""
    app = Celery("ways", set_as_current=False)
    app.conf.update(conf)
    for function, options in TASKS:
        name = options.get("name", function.__name__)
        made = {**options, "shared": False}
        app.task(with_request_context(function), **{**made, "name": f"below.{name}"})
        with_request_context(app.task(function, **{**made, "name": f"above.{name}"}))
        app.task(function, **{**made, "name": f"plain.{name}"})
    add_classes(app)
    if "auth" in app.conf.accept_content:
        add_auth(app.conf.security_key, app.conf.security_certificate)
    return app


def add_classes(app: Celery) -> None:
    class Below(celery.Task):  # type: ignore[misc]
        name = "below.classy"

        @with_request_context
        def run(self, x: int) -> str:
            return where(x)

    @with_request_context
    class Above(celery.Task):  # type: ignore[misc]
        name = "above.classy"

        def run(self, x: int) -> str:
            return where(x)

    app.register_task(Below())
    app.register_task(Above())


def add_auth(key: str, certificate: str) -> None:
    """Celery's ``auth`` serializer; ``setup_security`` would forbid the others."""
    with warnings.catch_warnings():
        # Celery 5.3 reads the dates of certificates as it was done then.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        register_auth(
            Path(key).read_text(),
            cert=Path(certificate).read_text(),
            store=certificate,
            digest="sha256",
        )
    registry.enable("auth")


@shared_task(name="below.shared")
@with_request_context
def below_shared(x: int) -> str:
    return where(x)


@with_request_context
@shared_task(name="above.shared")
def above_shared(x: int) -> str:
    return where(x)


def start_worker_process() -> Celery:
    """What ``celery -A`` loads; the test's settings are in the environment."""
    settings = json.loads(os.environ["SHOP_SETTINGS"])
    SERVING.append(shop.create_app(**settings["flask"]))
    flask_task_context.init_app(SERVING[-1])
    return create_celery(**settings["celery"])
