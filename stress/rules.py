"""What the rules say of hooks, requests inside of tasks, base classes, handlers and apps."""

from __future__ import annotations

import contextlib
import random
import typing as t

from benchmarks.brokers import BROKERS
from benchmarks.brokers import own_queue
from benchmarks.brokers import server_version
from stress.isolation import add_row
from stress.report import Report
from stress.shop import create_celery
from stress.shop import tasks_of
from stress.site import Site
from stress.visitors import Visitor

ROWS = {
    "hooks": "what hooks send",
    "internal": "requests inside of tasks",
    "recursion": "tasks that call themselves",
    "apps": "two apps of one key",
    "pushed": "a pushed app context",
    "bases": "decorated base classes",
    "handlers": "handlers",
}
PREFORK, THREADS = ("--pool=prefork", "-c4"), ("--pool=threads", "-c16")
TASKS = {"brief": 1_400, "short": 7_000, "long": 42_000}
HARD = {"brief": 2, "short": 5, "long": 25}  # hard time limits
NOTE = """\
Visits as above, all rows mixed, to a worker of 4 processes and then to one of 16 threads. Each
serves two Flask apps of one `SECRET_KEY`, and has pushed an app context of the second when it was
imported.

* What hooks send: the before-request, after-request and teardown functions of each task send a
  task, and the last two of the view. Only the view's have the request; else there would be no end.
* Requests inside of tasks: a `test_client` visit, and a `test_request_context` that is pushed, each
  of another visitor. What is sent there has that request, by plain `.delay()` none. Afterwards the
  task has its own again, and so has what it sends.
* Tasks that call themselves: 15 calls, directly and by `apply()`, in one request, with one `g`.
* Two apps of one key: half of the visits are to each. The task, and what it sends, has its own.
* A pushed app context: a task with a request has that, and one without an app context with an empty
  `g`. (With processes: what is pushed in one thread is not seen in another.)
* Decorated base classes, and a decorated `__call__`: what they do around the task has its request
  and its `g`, whether the task is decorated too or not.
* Handlers: `before_start`, `on_success`, `on_retry`, `on_failure`, `after_return` and receivers of
  `task_failure` restore the task's request, also after a hard time limit. Each call counts as a
  task."""


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("rules", NOTE)
    if not server_version("Redis"):
        report.leave_out("rules", "all", "no Redis")
        return
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(own_queue(create_celery, "Redis"))
        queue = app.conf.task_default_queue
        site = Site(BROKERS["Redis"], queue, apps=("shop", "second"))
        stack.enter_context(site)
        site.serve()
        errors: list[str] = []
        for pool in (PREFORK, THREADS):
            worker = site.work(*pool)
            errors += site.visit(kinds_of(scale, pool), progress, 0.3)
            site.settle(progress, 0.2)
            if not worker.end():
                errors.append(f"worker: it did not end:\n{worker.tail()}")
        tallies = {kind: site.tally(f"{kind}-") for kind in ROWS}
        errors += [line for line in site.reading.wrong if line.startswith("worker ")]
    for kind, row in ROWS.items():
        its = [error for error in errors if error.startswith((f"{kind}-", "worker"))]
        add_row(report, "rules", row, tallies[kind], its)


def kinds_of(scale: str, pool: tuple[str, ...]) -> list[str]:
    """As many tasks of each kind, well mixed."""
    each = TASKS[scale] / 2 / len(ROWS)
    kinds = [k for k in ROWS for _ in range(round(each / len(tasks_of(Visitor(k, 1)))))]
    if pool is PREFORK:
        kinds += ["handlers-hard"] * HARD[scale]
    else:
        kinds = [kind for kind in kinds if kind != "pushed"]
    random.Random(7).shuffle(kinds)
    return kinds
