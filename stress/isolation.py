"""Every task sees its own request, in every pool, and leaves nothing of it."""

from __future__ import annotations

import contextlib
import random
import time
import typing as t

from benchmarks.brokers import BROKERS
from benchmarks.brokers import delete_keys
from benchmarks.brokers import own_queue
from benchmarks.brokers import server_version
from stress.report import Report
from stress.shop import create_celery
from stress.site import Site
from stress.site import Tally

# How many of a thousand visits are of a kind.
MIX = {
    "one": 480,
    "plain": 100,
    "bare": 40,
    "fail": 80,
    "retry": 80,
    "chain": 80,
    "chord": 80,
    "nest": 50,
    "soft": 5,
    "hard": 5,
}


class Case(t.NamedTuple):
    broker: str
    options: tuple[str, ...]
    share: float  # of all tasks
    without: tuple[str, ...] = ()  # what Celery does not have in this pool
    pause: float = 0
    encrypt: bool = False


NO_LIMITS = ("soft", "hard")
CASES = {
    "prefork (4)": Case("Redis", ("--pool=prefork", "-c4"), 0.3),
    "threads (16)": Case("Redis", ("--pool=threads", "-c16"), 0.2, NO_LIMITS, 0.002),
    "gevent (200)": Case("Redis", ("--pool=gevent", "-c200"), 0.2, ("soft",), 0.01),
    "solo": Case("Redis", ("--pool=solo",), 0.1, NO_LIMITS),
    "prefork (4), RabbitMQ, encrypted": Case(
        "RabbitMQ", ("--pool=prefork", "-c4"), 0.2, encrypt=True
    ),
}
TASKS = {"brief": 1_000, "short": 14_000, "long": 102_000}
NOTE = (
    "Eight clients send distinct visits over HTTP to gunicorn (2 processes of 4 threads)."
    " Every task compares its whole request with what its visitor sent. Of a thousand"
    f" visits: {', '.join(f'{count} {kind}' for kind, count in MIX.items())}. (`plain`"
    " and `bare` carry no request; `nest` sends nine tasks, three deep, by plain"
    " `.delay()`; `soft` and `hard` are time limits, in the pools that have them.)"
    ' "Left" counts what stayed pushed before or after a task.'
)


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("isolation", NOTE)
    for case, how in CASES.items():
        missing = [n for n in {how.broker, "Redis"} if not server_version(n)]
        if missing:
            report.leave_out("isolation", case, f"no {missing[0]}")
            progress(how.share)
            continue
        one(case, how, TASKS[scale] * how.share, report, progress)


def kinds_of(how: Case, tasks: float, seed: int) -> list[str]:
    """Kinds of visits that lead to so many tasks, well mixed."""
    mix = {kind: count for kind, count in MIX.items() if kind not in how.without}
    sent = {"fail": 2, "retry": 3, "chain": 3, "chord": 3, "nest": 9, "hard": 2}
    each = sum(count * sent.get(kind, 1) for kind, count in mix.items())
    kinds = [
        kind
        for kind, count in mix.items()
        for _ in range(max(1, round(count * tasks / each)))
    ]
    random.Random(seed).shuffle(kinds)
    return kinds


def one(
    case: str,
    how: Case,
    tasks: float,
    report: Report,
    progress: t.Callable[[float], None],
) -> None:
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(own_queue(create_celery, how.broker))
        queue = app.conf.task_default_queue
        results = {
            "result_backend": BROKERS["Redis"],
            "result_backend_transport_options": {"global_keyprefix": f"{queue}-"},
            "result_expires": 3600,
        }
        site = stack.enter_context(
            Site(
                BROKERS[how.broker],
                queue,
                celery=results,
                flask={"TASK_CONTEXT_ENCRYPT": how.encrypt},
                pause=how.pause,
            )
        )
        app.conf.update(results)
        stack.callback(lambda: delete_keys(app.backend.client, queue))
        site.serve()
        worker = site.work(*how.options)
        errors = site.visit(kinds_of(how, tasks, 7), progress, how.share / 2)
        site.settle(progress, how.share / 2)
        if not worker.end():
            errors.append(f"the worker did not end:\n{worker.tail()}")
        tally = site.tally()
    seconds = round(time.monotonic() - start)
    add_row(report, "isolation", case, tally, errors, seconds=seconds)


def add_row(
    report: Report, part: str, case: str, tally: Tally, errors: list[str], **more: int
) -> None:
    lost = [f"{name} did not end" for name in tally.missing]
    if tally.again:
        lost.append(f"{tally.again} tasks ran more than once")
    left = sum("left behind" in line for line in tally.wrong)
    report.add(
        part,
        case,
        [*errors, *tally.wrong, *lost],
        sent=tally.sent,
        ended=tally.ended,
        again=tally.again,
        mismatches=len(tally.wrong) - left,
        left=left,
        **more,
    )
