"""Soft time limits at random moments: whatever a task is doing, nothing is left of it.

``python -m stress.interrupts --count 100000``. A timer's signal raises
``SoftTimeLimitExceeded`` in the main thread, as it does in a process of the prefork
pool; another thread raises it in a thread, as gevent and debuggers do.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import multiprocessing
import random
import signal
import sys
import threading
import time
import typing as t
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType

import flask
from celery._state import _task_stack
from celery.exceptions import SoftTimeLimitExceeded

import flask_task_context
from tests import interrupts

if t.TYPE_CHECKING:
    from stress.report import Report

#: The functions that tell where a task was when it was struck.
PLACES = {
    "work": "body",
    "preprocess_request": "hooks before",
    "process_response": "hooks after",
    "do_teardown_request": "teardown",
    "do_teardown_appcontext": "teardown",
    "pop": "teardown",
    "_unseal": "restore",
    "_decode": "restore",
    "_find_app": "restore",
    "_settings": "restore",
    "request_context": "restore",
    "restored": "restore",
    "push": "restore",
    "_restored_session": "restore",
    "_push": "restore",
    "_pop": "teardown",
    "__exit__": "teardown",
    "__enter__": "restore",
    "_restore": "restore",
    "_current_message": "before the restore",
    "run": "before the restore",
}


class Struck:
    """How often, where, and what was wrong then."""

    def __init__(self) -> None:
        self.tasks = self.hits = self.otherwise = 0
        self.places: Counter[str] = Counter()
        self.problems: list[str] = []

    def add(self, error: BaseException | None) -> None:
        """The task's error is the strike. Where Flask was about to push or to pop a
        context, it is one of Flask's own that follows from it."""
        self.hits += 1
        self.otherwise += not isinstance(error, SoftTimeLimitExceeded)
        first = error
        while not isinstance(error, SoftTimeLimitExceeded):
            if error is None:
                self.problems.append(f"another error: {first!r}")
                return
            error = error.__context__

    def add_all(self, other: Struck) -> None:
        self.tasks += other.tasks
        self.hits += other.hits
        self.otherwise += other.otherwise
        self.places += other.places
        self.problems += other.problems

    def add_unraisable(self, unraisable: t.Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, SoftTimeLimitExceeded):
            self.problems.append(f"nobody could catch: {error!r}")


def place_of(frame: FrameType | None) -> str:
    while frame is not None:
        if place := PLACES.get(frame.f_code.co_name):
            return place
        frame = frame.f_back
    return "elsewhere"


class Visit:
    """A task of a worker, called again and again with the message that it has."""

    def __init__(self) -> None:
        self.app = interrupts.create_app()
        # A second strike, while the first is logged, would keep the lock of logging.
        self.app.logger.disabled = True
        flask_task_context._apps.clear()
        flask_task_context.init_app(self.app)
        self.celery = interrupts.create_celery(broker_url="memory://")
        self.task = self.celery.tasks["work"]
        self.headers = [
            interrupts.capture(self.app, str(number)) for number in range(9)
        ]
        self.number = 0

    def begin(self) -> str:
        """A new message, as Celery's tracer puts it on; gives what is to be seen."""
        self.number = (self.number + 1) % len(self.headers)
        headers = self.headers[self.number]
        self.task.push_request(
            id="x", headers=headers, called_directly=False, is_eager=False
        )
        _task_stack.push(self.task)
        return f"/{self.number}"

    def end(self) -> None:
        _task_stack.pop()
        self.task.pop_request()

    def look(self, struck: Struck, seen: t.Any, expected: str) -> None:
        struck.tasks += 1
        left = interrupts.left()
        if left or flask.has_app_context():
            struck.problems.append(f"left: {left}")
        if seen not in (None, expected):
            struck.problems.append(f"{seen!r} in place of {expected!r}")


def strike_at_random(way: str, count: int, seed: int = 1) -> Struck:
    """``count`` tasks, and an exception at a random moment of each."""
    rng, struck = random.Random(seed), Struck()
    strike = _strike_by_signal if way == "signal" else _strike_in_thread
    # What Python can only print: an error in something that was closed too late, and
    # a late strike that ends the thread.
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = threading.excepthook = struck.add_unraisable
    try:
        strike(count, rng, struck)
    finally:
        sys.unraisablehook, threading.excepthook = hooks
    return struck


def _length(visit: Visit) -> float:
    """How many seconds one task takes."""
    times = []
    for _ in range(30):
        visit.begin()
        start = time.perf_counter()
        visit.task.run()
        times.append(time.perf_counter() - start)
        visit.end()
    return sorted(times)[len(times) // 2]


def _strike_by_signal(count: int, rng: random.Random, struck: Struck) -> None:
    visit = Visit()

    def raise_here(number: int, frame: FrameType | None) -> None:
        struck.places[place_of(frame)] += 1
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, raise_here)
    try:
        longest = _length(visit) * 1.3
        for _ in range(count):
            expected, seen = visit.begin(), None
            try:
                try:
                    delay = rng.uniform(1e-6, longest)
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    seen = visit.task.run()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Exception as error:  # noqa: BLE001 - Celery catches it too
                struck.add(error)
            visit.end()
            visit.look(struck, seen, expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _strike_in_thread(count: int, rng: random.Random, struck: Struck) -> None:
    """A thread works, and this one strikes it. A strike may come late, so that it
    falls upon what stands around the task here: then the next one begins."""
    visit = Visit()

    def one() -> None:
        while _task_stack.stack:
            visit.end()
        expected, seen = visit.begin(), None
        try:
            seen = visit.task.run()
        except Exception as error:  # noqa: BLE001 - Celery catches it too
            struck.add(error)
        visit.look(struck, seen, expected)

    def work() -> None:
        while struck.tasks < count:
            with contextlib.suppress(SoftTimeLimitExceeded):
                while struck.tasks < count:
                    with contextlib.suppress(SoftTimeLimitExceeded):
                        one()

    longest = _length(visit) * 3
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    error = ctypes.py_object(SoftTimeLimitExceeded)
    while struck.tasks < count:
        # Once in a while a late strike ends the thread itself.
        thread = threading.Thread(target=work)
        thread.start()
        number = ctypes.c_ulong(thread.ident or 0)
        while thread.is_alive():
            time.sleep(rng.uniform(0, longest))
            frame = sys._current_frames().get(number.value)
            struck.places[place_of(frame)] += 1
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error)
        thread.join()
    sys.setswitchinterval(interval)


#: How many tasks a process has, and how many seconds before it counts as hung.
SHARE, HUNG = 10_000, 300


def strike_all(
    way: str,
    count: int,
    seed: int = 1,
    progress: t.Callable[[float], None] = lambda done: None,
) -> Struck:
    """``count`` tasks in processes of their own, where one that hangs is seen."""
    struck = Struck()
    shares = [min(SHARE, count - begun) for begun in range(0, count, SHARE)]
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        jobs = [
            pool.submit(_strike_or_end, way, share, seed * 1_000_000 + number)
            for number, share in enumerate(shares)
        ]
        for job, share in zip(jobs, shares, strict=True):
            try:
                struck.add_all(job.result())
            except BrokenProcessPool:
                struck.problems.append("its process hung or died: see standard error")
                break
            progress(share / count)
    return struck


def _strike_or_end(way: str, count: int, seed: int) -> Struck:
    """With a watchdog that prints where each thread is, and ends the process."""
    faulthandler.dump_traceback_later(HUNG, exit=True)
    try:
        return strike_at_random(way, count, seed)
    finally:
        faulthandler.cancel_dump_traceback_later()


COUNTS = {"brief": 3_000, "short": 30_000, "long": 500_000}
NOTE = (
    "Tasks that are struck by `SoftTimeLimitExceeded` at a random moment, by a timer's"
    " signal (prefork) or from another thread. After each, Flask has no context, the"
    " module's context variables are empty, and the next task sees its own request."
)


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("interrupts", NOTE)
    shares = {"signal": 0.8, "thread": 0.2}
    for way, share in shares.items():
        struck = strike_all(
            way,
            round(COUNTS[scale] * share),
            progress=lambda done, share=share: progress(done * share),
        )
        report.add(
            "interrupts",
            way,
            struck.problems,
            tasks=struck.tasks,
            struck=struck.hits,
            **{"another error for it": struck.otherwise},
            **struck.places,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.interrupts")
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems = []
    for way in ("signal", "thread"):
        start = time.monotonic()
        struck = strike_all(way, options.count, options.seed)
        problems += struck.problems
        print(
            f"{way:8} {struck.tasks:,} tasks, {struck.hits:,} struck"
            f" ({struck.otherwise} ended in an error that follows from it),"
            f" {len(struck.problems)} problems, {time.monotonic() - start:.0f} s,"
            f" {dict(struck.places.most_common())}"
        )
    print(*problems[:20], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
