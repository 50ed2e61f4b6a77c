"""Servers, workers and connections end at the worst moment: no task is lost, and none
runs in another's request."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import psutil

from benchmarks.servers import Process
from benchmarks.servers import RabbitMQ
from benchmarks.servers import Redis
from benchmarks.servers import Server
from benchmarks.servers import wait_until
from stress.report import Report
from stress.servers import Cutting
from stress.servers import SmallDisk
from stress.servers import may_mount
from stress.site import Site
from stress.site import Tally

POOL = ("--pool=prefork", "--concurrency=8")
ROUNDS = {"brief": 1, "short": 2, "long": 10}
VISITS = ["nap"] * 16 + ["one"] * 8 + ["retry", "chain", "family", "fail", "plain"] * 4
# Without tasks that send from their body, which fail when there is no broker.
RESTART = ["nap"] * 16 + ["one"] * 8 + ["chain", "fail", "plain"] * 4
SINGLE = ["nap"] * 20 + ["one"] * 20 + ["plain"] * 4
VISIBILITY = 3  # seconds, until Redis gives an abandoned message to another worker

#: So that messages survive, as Celery's documentation has it.
DURABLE = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # Celery's default. A worker without it that is busy when Redis goes away does not
    # notice, and never works again.
    "worker_enable_remote_control": True,
    "task_publish_retry_policy": {
        "max_retries": 100,
        "interval_start": 0.1,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
}
TRANSPORT: dict[type[Server], dict[str, t.Any]] = {
    Redis: {
        "visibility_timeout": VISIBILITY,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it restores keeps the others from it so long,
        # by default for 300 seconds.
        "unacked_mutex_expire": 2,
    },
    RabbitMQ: {"confirm_publish": True},
}
NOTE = (
    "Tasks are sent over HTTP, as above, while the fault happens, some times over; they"
    " have late acknowledgement, and RabbitMQ confirms what is published. The brokers are"
    ' the run\'s own. "In flight" were being worked on when it happened; "redelivered"'
    " were begun again (which late acknowledgement is for). A visit that is answered with"
    ' an error is made again ("refused"). "Wrong" are tasks that saw another request than'
    " their own, or left something of it.\n\n"
    "Celery's worker may end by itself when Redis goes away while it works; it is started"
    ' again, as a supervisor does ("revived"). Some rows may lose messages, at most one'
    " each time, and what they would have led to: with early acknowledgement the task whose"
    " process is killed, as Celery documents; and, when Redis goes away or its worker ends"
    " other than warmly, the message that Redis had handed to the worker's open `BRPOP` and"
    " that it never read (kombu's issue 305)."
)


class Fault:
    """One case: a site, and how often what was in flight."""

    def __init__(
        self, stack: contextlib.ExitStack, servers: dict[type[Server], Server]
    ) -> None:
        self.stack, self.servers = stack, servers
        self.errors: list[str] = []
        self.times = 0
        self.in_flight = 0
        self.abandoned: set[tuple[str, int]] = set()
        self.may_lose = 0  # messages
        self.revived = 0
        self.random = random.Random(7)

    def open(
        self,
        server: type[Server],
        *,
        url: str = "",
        web_broker: str = "",
        **celery: t.Any,
    ) -> None:
        transport = TRANSPORT.get(server, {})
        conf = {**DURABLE, "broker_transport_options": transport, **celery}
        url = url or self.servers[server].url
        queue = f"stress-{os.urandom(6).hex()}"
        site = Site(url, queue, web_broker=web_broker, celery=conf)
        self.site = self.stack.enter_context(site)
        self.site.serve()
        self.worker = self.work()

    def folder(self) -> Path:
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def work(self) -> Process:
        return self.site.work(*POOL)

    def rounds(
        self,
        number: int,
        act: t.Callable[[], None],
        visits: t.Sequence[str] = VISITS,
        attempts: int = 100,
    ) -> None:
        """As often, ``act`` while the clients make their visits."""
        for _ in range(number):
            kinds = self.random.sample(visits, len(visits))

            def load(kinds: t.Sequence[str] = kinds) -> None:
                self.errors += self.site.visit(kinds, attempts=attempts)

            clients = threading.Thread(target=load)
            clients.start()
            wait_until(self.met, 30, "a task in flight", 0.01)
            time.sleep(self.random.uniform(0.1, 0.5))
            self.in_flight += len(self.met())
            act()
            self.abandoned = self.site.reading.in_flight()
            self.times += 1
            clients.join()
        self.site.settle(patience=20, meanwhile=self.keep_working)

    def keep_working(self) -> None:
        """Start a worker that has ended by itself again, as a supervisor does."""
        if self.worker.process.poll() is not None:
            self.worker.kill()
            self.worker = self.work()
            self.revived += 1

    def met(self) -> set[tuple[str, int]]:
        """What is in flight, without what waits since an earlier fault."""
        self.keep_working()
        return self.site.reading.in_flight() - self.abandoned

    def wait_for_redelivery(self, server: type[Server]) -> None:
        """Until Redis has given everything that was abandoned to a worker again."""
        quiet = time.monotonic()
        while server is Redis and time.monotonic() - quiet < VISIBILITY + 2:
            if self.site.reading.read():
                quiet = time.monotonic()
            time.sleep(0.2)

    def must_not_have_begun(self) -> None:
        """What is lost was lost on its way to the worker."""
        begun = self.site.reading.seen["began"].keys()
        lost = begun & self.site.reading.missing(self.site.names)
        self.errors += [f"{name} began and did not end" for name in lost]

    def end(self) -> Tally:
        if self.worker.process.poll() is None and not self.worker.end():
            self.errors.append(f"the worker did not end:\n{self.worker.tail()}")
        return self.site.tally()


# -- the faults --------------------------------------------------------------------


def worker_killed(fault: Fault, rounds: int, server: type[Server]) -> None:
    fault.open(server)

    def act() -> None:
        fault.worker.kill()
        # The message that Redis has handed to the worker's waiting BRPOP, while it had
        # no room for one more, is in neither's hands.
        fault.may_lose += 1 if server is Redis else 0
        fault.worker = fault.work()

    fault.rounds(rounds, act)
    fault.wait_for_redelivery(server)
    fault.must_not_have_begun()


def child_killed(fault: Fault, rounds: int, late: bool) -> None:
    fault.open(Redis, task_acks_late=late)

    def act() -> None:
        for _ in range(3):
            children = psutil.Process(fault.worker.pid).children()
            fault.random.choice(children).kill()
            # Its task is lost, as Celery says, when it was acknowledged before.
            fault.may_lose += 0 if late else 1
            time.sleep(0.2)

    fault.rounds(rounds, act, VISITS if late else ["nap"] * 40)
    fault.times *= 3


def broker_restarted(
    fault: Fault, rounds: int, server: type[Server], kill: bool
) -> None:
    fault.open(server)
    broker = fault.servers[server]

    def act() -> None:
        (broker.program.kill if kill else broker.stop)()
        time.sleep(0.5)
        broker.start()

    fault.rounds(rounds, act, RESTART)
    fault.wait_for_redelivery(server)
    fault.may_lose += fault.times + fault.revived if server is Redis else 0
    fault.must_not_have_begun()


def connection_cut(fault: Fault, rounds: int, server: type[Server]) -> None:
    broker = fault.servers[server]
    proxy = Cutting(broker.port, 1_000, 40_000)
    fault.stack.callback(proxy.close)
    through = broker.url.replace(str(broker.port), str(proxy.port))
    fault.open(server, web_broker=through)
    fault.rounds(rounds, lambda: None, VISITS * 3)
    fault.times = proxy.cuts


def results_away(fault: Fault, rounds: int) -> None:
    results = Redis(fault.folder())
    fault.stack.callback(results.close)
    fault.open(
        Redis,
        result_backend=results.url,
        result_backend_always_retry=True,
        task_ignore_result=False,
    )

    def act() -> None:
        results.stop()
        time.sleep(2)
        results.start()

    fault.rounds(rounds, act)


def disk_full(fault: Fault, rounds: int) -> None:
    disk = SmallDisk(fault.folder() / "disk", "1m")
    fault.stack.callback(disk.close)
    url = f"sqla+sqlite:///{disk.folder / 'queue.db'}"
    fault.open(Server, url=url)

    def act() -> None:
        web = fault.site.folder / "web.log"
        full = "database or disk is full"
        wait_until(lambda: full in web.read_text(errors="replace"), 60, full)
        time.sleep(2)
        disk.grow("64m")

    fault.errors += fault.site.visit(["nap"] * 20)
    fault.rounds(1, act, SINGLE * 8)


def shut_down(fault: Fault, rounds: int, server: type[Server], number: int) -> None:
    fault.open(server)
    cold = number == signal.SIGQUIT

    def act() -> None:
        # A cold shutdown of Celery's now and then ends no more, and is killed then.
        if not fault.worker.end(number, 10 if cold else 60) and not cold:
            fault.errors.append(f"the worker did not end:\n{fault.worker.tail()}")
        fault.may_lose += 1 if cold and server is Redis else 0
        fault.worker = fault.work()

    fault.rounds(rounds, act)
    fault.wait_for_redelivery(server)
    fault.must_not_have_begun()


class Case(t.NamedTuple):
    run: t.Callable[..., None]
    servers: tuple[type[Redis | RabbitMQ], ...]
    how: dict[str, t.Any]
    in_brief: bool = False


REDIS, RABBITMQ = (Redis,), (RabbitMQ,)
CASES = {
    "worker killed (SIGKILL), Redis": Case(
        worker_killed, REDIS, {"server": Redis}, in_brief=True
    ),
    "worker killed (SIGKILL), RabbitMQ": Case(
        worker_killed, RABBITMQ, {"server": RabbitMQ}
    ),
    "pool child killed": Case(child_killed, REDIS, {"late": True}, in_brief=True),
    "pool child killed, early acknowledgement": Case(
        child_killed, REDIS, {"late": False}
    ),
    "Redis restarted": Case(
        broker_restarted, REDIS, {"server": Redis, "kill": False}, in_brief=True
    ),
    "Redis killed and started": Case(
        broker_restarted, REDIS, {"server": Redis, "kill": True}
    ),
    "RabbitMQ restarted": Case(
        broker_restarted, RABBITMQ, {"server": RabbitMQ, "kill": False}
    ),
    "connection cut in a publish, Redis": Case(
        connection_cut, REDIS, {"server": Redis}, in_brief=True
    ),
    "connection cut in a publish, RabbitMQ": Case(
        connection_cut, RABBITMQ, {"server": RabbitMQ}
    ),
    "result backend away": Case(results_away, REDIS, {}),
    "disk full under the embedded broker": Case(disk_full, (), {}),
    "warm shutdown (SIGTERM), Redis": Case(
        shut_down, REDIS, {"server": Redis, "number": signal.SIGTERM}
    ),
    "warm shutdown (SIGTERM), RabbitMQ": Case(
        shut_down, RABBITMQ, {"server": RabbitMQ, "number": signal.SIGTERM}
    ),
    "cold shutdown (SIGQUIT), Redis": Case(
        shut_down, REDIS, {"server": Redis, "number": signal.SIGQUIT}
    ),
    "cold shutdown (SIGQUIT), RabbitMQ": Case(
        shut_down, RABBITMQ, {"server": RabbitMQ, "number": signal.SIGQUIT}
    ),
}


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("faults", NOTE)
    cases = {
        name: case for name, case in CASES.items() if scale != "brief" or case.in_brief
    }
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[type[Server], Server] = {}
        for name, case in cases.items():
            missing = next(filter(None, (kind.missing() for kind in case.servers)), "")
            if case.run is disk_full and not may_mount():
                missing = "only root can make a small disk"
            if missing:
                report.leave_out("faults", name, missing)
            else:
                for kind in case.servers:
                    if kind not in servers:
                        servers[kind] = kind(folder / kind.__name__)
                        stack.callback(servers[kind].close)
                one(name, case, servers, ROUNDS[scale], report)
            progress(1 / len(cases))


def one(
    name: str,
    case: Case,
    servers: dict[type[Server], Server],
    rounds: int,
    report: Report,
) -> None:
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        fault = Fault(stack, servers)
        try:
            case.run(fault, rounds, **case.how)
        except RuntimeError as error:  # what was waited for did not come
            fault.errors.append(str(error))
        tally = fault.end()
    lost = [f"{name} did not end" for name in tally.missing]
    problems = [*fault.errors, *tally.wrong]
    # A message that is lost takes all that its visit would have led to along.
    if len({re.split(r"\D", name)[0] for name in tally.missing}) > fault.may_lose:
        problems += lost
    if not fault.in_flight or not fault.times:
        problems.append("the fault met no task")
    report.add(
        "faults",
        name,
        problems,
        times=fault.times,
        **{"in flight": fault.in_flight},
        sent=tally.sent,
        ended=tally.ended,
        lost=len(lost),
        redelivered=tally.again,
        revived=fault.revived,
        refused=fault.site.refused,
        wrong=len(tally.wrong),
        seconds=round(time.monotonic() - start),
    )
