"""Hostile headers: a fuzzer on ``restore_context``.

``python -m stress.headers --count 100000`` makes headers of every kind, restores each,
and uses the request where it was taken. Each input must be refused with a
``ContextError`` or give a request that behaves as Flask's own on the same environ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import re
import resource
import string
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import typing as t
from base64 import b64encode
from collections import Counter
from importlib.util import find_spec

import flask
from flask import g
from flask import request
from flask import session
from werkzeug.exceptions import HTTPException

import flask_task_context as library
from flask_task_context import ContextError
from flask_task_context import LeftOut
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import restore_context
from stress import ROOT

if t.TYPE_CHECKING:
    from stress.report import Report

HEADER = "flask_task_context"
#: Seconds of processor time for one input, and what each MiB of it may add.
SECONDS, SECONDS_PER_MIB = 0.25, 0.5
#: Bytes of memory for each character of an input, beyond a fixed part. Since Python 3.14
#: the depth of JSON ends with the stack of C, and each level of it is a list.
MEMORY, MEMORY_PER_CHARACTER = 500_000, 40 if sys.version_info < (3, 14) else 80
#: How much a process may grow over its whole run, in MiB.
GROWTH = 64

#: What capture may write, what every WSGI environ has, and what Flask adds to it.
ENVIRON = {
    *library._ALWAYS,
    *library._SOMETIMES,
    "wsgi.version",
    "wsgi.errors",
    "wsgi.input",
    "wsgi.input_terminated",
    "werkzeug.request",
}

#: How many of 1,000 inputs are of which kind.
KINDS = {
    "random values": 170,
    "mutated headers": 330,
    "hostile prefixes": 100,
    "signed hostile text": 120,
    "signed hostile values": 170,
    "encrypted hostile values": 50,
    "unsigned hostile values": 59,
    "bombs": 1,
}


# -- what is attacked --------------------------------------------------------------


def create_app(name: str = "shop", **config: t.Any) -> flask.Flask:
    app = flask.Flask(name)
    app.config.update(
        {"SECRET_KEY": "fuzzed key", "TASK_CONTEXT_G": ["tenant"], **config}
    )

    @app.route("/item/<int:number>", methods=["GET", "POST"])
    def item(number: int) -> t.Any:
        return ""

    @app.route("/", methods=["GET", "POST"])
    def index() -> t.Any:
        return ""

    return app


class Target:
    """An app of each kind, and requests that were really captured."""

    def __init__(self) -> None:
        self.apps = {
            "signed": create_app(),
            "encrypted": create_app(TASK_CONTEXT_ENCRYPT=True),
            "unsigned": create_app(SECRET_KEY=None),
        }
        library._apps.clear()
        init_app(self.apps["signed"])
        init_app(create_app("other", SECRET_KEY="other key"))
        self.headers = {kind: capture(app) for kind, app in self.apps.items()}
        self.payloads = [
            library._unseal(
                library._ParsedHeader(header), library._settings(self.apps[kind])
            )
            for kind, headers in self.headers.items()
            for header in headers
        ]
        self.parts = [json.loads(payload) for payload in self.payloads]
        self.every_header = [h for headers in self.headers.values() for h in headers]

    def seal(self, payload: str, kind: str, prefix: str | None = None) -> str:
        """A payload under the app's own key, as only the app itself could."""
        settings = library._settings(self.apps[kind])
        if prefix is None:
            return library._seal(payload, settings)
        text = f"{prefix}:{len(payload)}:{payload}"
        return f"{text}.{settings.keys[0].sign(text)}"


def capture(app: flask.Flask) -> list[str]:
    """Requests with and without a query, session, ``g``, forms, files and JSON."""
    visits: list[dict[str, t.Any]] = [
        {"path": "/item/3?q=1&q=%C3%A9", "headers": {"Accept-Language": "de"}},
        {"path": "/", "method": "POST", "json": {"a": [1, None, {"b": "é"}]}},
        {"path": "/", "method": "POST", "data": {"a": ["1", "2"], "b": "ł"}},
        {
            "path": "/",
            "method": "POST",
            "data": b"\xff\x00",
            "base_url": "https://[::1]",
        },
        {
            "path": "/none",
            "method": "POST",
            "data": {"f": (open_file(b"x" * 90_000), "f.txt"), "a": "1"},
        },
        {
            "path": "/",
            "method": "POST",
            "data": {"f": (open_file(b"x"), "f"), "a": "1"},
        },
    ]
    headers = []
    for visit in visits:
        with app.test_request_context(**visit):
            if app.secret_key:
                session.update(user=7, name="a", pair=(1, b"x"))
            g.tenant = ["north", {"a": 1}]
            if visit["path"] == "/":
                _ = request.form
            headers.append(capture_context()[HEADER])
    return headers


def open_file(content: bytes) -> t.Any:
    return io.BytesIO(content)


# -- what must hold ----------------------------------------------------------------


class Broken(Exception):
    """A promise that an input has broken."""


USES: dict[str, t.Callable[[flask.Request], t.Any]] = {
    "method": lambda r: r.method,
    "url": lambda r: r.url,
    "path": lambda r: r.full_path,
    "host": lambda r: r.host,
    "root": lambda r: r.root_url,
    "args": lambda r: r.args.to_dict(flat=False),
    "headers": lambda r: list(r.headers),
    "user agent": lambda r: r.user_agent.string,
    "languages": lambda r: r.accept_languages.best_match(["de", "en"]),
    "cookies": lambda r: r.cookies.to_dict(),
    "authorization": lambda r: r.authorization,
    "type": lambda r: (r.mimetype, r.mimetype_params, r.content_length),
    "address": lambda r: (r.remote_addr, r.access_route, r.remote_user),
    "form": lambda r: r.form.to_dict(flat=False),
    "files": lambda r: [
        (n, f.filename, f.content_type, f.mimetype_params, f.content_length, f.read())
        for n, f in r.files.items(multi=True)
    ],
    "data": lambda r: r.get_data(),
    "json": lambda r: r.get_json(silent=True),
}


def use(app: flask.Flask) -> None:
    """Everything that a task does with its request, and what it may raise."""
    keys = {key for key in request.environ if key[:5] != "HTTP_"}
    if not keys <= ENVIRON or "HTTP_PROXY" in request.environ:
        raise Broken(f"the environ holds {keys - ENVIRON or 'HTTP_PROXY'}")
    for name, function in USES.items():
        try:
            function(request)
        except (LeftOut, HTTPException):
            pass
        except Exception as error:
            environ = {**request.environ, "wsgi.input": open_file(b"")}
            if type(error) is not outcome(function, app.request_class(environ)):
                raise Broken(f"request.{name} raised {error!r}") from error
    dict(session)
    session.get("user")
    list(g)
    _ = getattr(g, "tenant", None)
    # For a host that is none, Flask answers 400, and no view makes links.
    if getattr(request.routing_exception, "code", None) != 400:
        flask.url_for("index")


def outcome(function: t.Callable[[flask.Request], t.Any], own: flask.Request) -> t.Any:
    """What Flask's own request raises on the same environ."""
    try:
        function(own)
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return type(error)
    return None


def check(headers: t.Any, app: flask.Flask | None) -> bool:
    """Restore, use, and tell whether it was taken. :raises Broken: for a promise."""
    taken = False
    try:
        with restore_context(headers, app):
            taken = flask.has_request_context()
            if taken:
                use(app or flask.current_app)
    except ContextError as error:
        if taken:
            raise Broken(f"used, it raised {error!r}") from error
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"it raised {error!r}") from error
    if flask.has_app_context() or flask.has_request_context():
        raise Broken("a context stayed pushed")
    return taken


# -- hostile things ----------------------------------------------------------------

CHARACTERS = string.printable + "\x00\x7f\x80éł\ud800\udfff\U0001f600\r\n:.%"
TEXTS = (
    "",
    "a\r\nSet-Cookie: x=1",
    "\x00",
    "\ud800",
    "ł",
    "é",
    "%00",
    "..",
    "[",
    "]:80",
    "a:b:c",
    "9" * 5000,
    "-1",
    "\uff11\uff12",
    "javascript",
    "multipart/form-data; boundary=e",
    "multipart/form-data",
    "application/x-www-form-urlencoded; charset=\x00",
    "application/json; charset=utf-99",
    "chunked",
    "Basic \xff",
    "Digest a=",
    "Wed, 99 Foo 9999999999 99:99:99 +9999",
    "bytes=-",
    "__class__",
    "=?utf-8?b?//8=?=",
    'a="\\',
)
KEYS = (
    "wsgi.input",
    "wsgi.errors",
    "wsgi.file_wrapper",
    "werkzeug.request",
    "werkzeug.socket",
    "werkzeug.proxy_fix.orig",
    "flask._preserve_context",
    "HTTP_PROXY",
    "HTTP_",
    "HTTP_HOST",
    "HTTP_COOKIE",
    "HTTP_AUTHORIZATION",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_CONTENT_LENGTH",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_RANGE",
    "HTTP_\r\nX",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "REMOTE_USER",
    "PATH",
    "SECRET_KEY",
    "__class__",
    "__dict__",
    "get",
    "session",
    "g",
    "signals",
    "limits",
    "form",
    "files",
    "raw",
    "text",
    "base64",
    "left_out",
    "body",
    "server",
    "environ",
    "max_form_parts",
    " d",
    " u",
    " b",
    " m",
    " t",
    " di",
    "tenant",
    "",
)
NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
)


def text(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    return "".join(rng.choices(CHARACTERS, k=rng.choice((1, 3, 12, 60))))


def value(rng: random.Random, depth: int = 0) -> t.Any:
    """JSON of any type, and now and then one of Flask's tags with a wrong content."""
    kind = rng.random()
    if kind < 0.4 or depth > 3:
        return text(rng)
    if kind < 0.55:
        return rng.choice(NUMBERS)
    if kind < 0.65:
        return rng.choice((None, True, False))
    if kind < 0.8:
        return [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 5, 12)))]
    if kind < 0.9:
        return {rng.choice(KEYS[38:44]): value(rng, depth + 1)}
    return {
        rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 4)))
    }


def mutate(rng: random.Random, whole: t.Any) -> t.Any:
    """A copy in which something, somewhere, is put in, taken out or exchanged."""
    if isinstance(whole, dict) and (whole and rng.random() < 0.9):
        copy = dict(whole)
        key = rng.choice(list(copy))
        if (kind := rng.random()) < 0.7:
            copy[key] = mutate(rng, copy[key])
        elif kind < 0.85:
            copy[rng.choice(KEYS)] = value(rng)
        elif kind < 0.95:
            del copy[key]
        else:
            copy[rng.choice(KEYS)] = copy.pop(key)
        return copy
    if isinstance(whole, list) and (whole and rng.random() < 0.9):
        copies = list(whole)
        at = rng.randrange(len(copies))
        if (kind := rng.random()) < 0.8:
            copies[at] = mutate(rng, copies[at])
        elif kind < 0.9:
            copies.insert(at, value(rng))
        else:
            del copies[at]
        return copies
    return value(rng)


def mutate_text(rng: random.Random, whole: str) -> str:
    """A string with characters, pieces or a whole end exchanged."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(whole) + 1)
        end = min(len(whole), at + rng.choice((0, 1, 1, 2, 8, 50)))
        kind = rng.random()
        if kind < 0.4:
            new = rng.choice(CHARACTERS)
        elif kind < 0.6:
            new = ""
        elif kind < 0.8:
            new = whole[at:end] * 2
        else:
            new = text(rng)
        whole = whole[:at] + new + whole[end:]
    return whole


def bomb(rng: random.Random) -> str:
    """A payload that is large, deep, or both."""
    size = rng.choice((1_000, 20_000, 300_000))
    shape = rng.randrange(9)
    if shape == 0:
        inner = "[" * size + "]" * size
    elif shape == 1:
        inner = '{"a":' * size + "1" + "}" * size
    elif shape == 2:
        inner = "9" * size
    elif shape == 3:
        inner = json.dumps({" b": b64encode(b"x" * size).decode()})
    elif shape == 4:
        inner = "{" + ",".join(f'"HTTP_{n}":"x"' for n in range(size // 10)) + "}"
    elif shape == 5:
        inner = json.dumps({" d": "Wed, " + "1 " * size})
    elif shape == 6:
        inner = '{" t":[' * (size // 50) + "]}" * (size // 50)
    elif shape == 7:
        inner = "[" + ",".join(["9" * 4000] * (size // 4000)) + "]"
    else:
        inner = json.dumps({" u": "-" * size})
    part = rng.choice(("session", "g", "signals", "environ", "body", "limits"))
    server = '["GET","","/","","h","80","HTTP/1.1",null,"http",false,false,false]'
    environ = "" if part == "environ" else '"environ":{},'
    if part == "body":
        inner = f'{{"form":[["a",{inner}]],"files":[["f","f",[],null,{inner}]]}}'
    elif part in ("session", "g", "signals", "limits"):
        inner = f'{{"max_form_parts":{inner}}}'
    return f'{{"server":{server},{environ}"{part}":{inner}}}'


def prefix(rng: random.Random, key_id: str) -> str:
    version = rng.choice(
        ("1", "1", "1", "1", "0", "2", "01", "9" * 5000, "-1", " 1", "")
    )
    kind = rng.choice(
        ("signed", "signed", "signed", "unsigned", "encrypted", "Signed", "")
    )
    name = rng.choice(
        ("shop", "other", "", "%00", "%", "%zz", "%ED%A0%80", "x" * 3000, "a/b", "../x")
    )
    key = rng.choice((key_id, key_id, key_id, "", "AAAAAA", "\r\n", "x" * 3000))
    return f"{version}:{kind}:{name}:{key}"


def random_value(rng: random.Random) -> t.Any:
    kind = rng.random()
    if kind < 0.5:
        return "".join(rng.choices(CHARACTERS, k=rng.randrange(1, 120)))
    if kind < 0.6:
        return rng.randbytes(rng.randrange(80))
    if kind < 0.8:
        return ":".join(text(rng) for _ in range(rng.randrange(1, 9)))
    return value(rng)


def dump(whole: t.Any) -> str:
    return json.dumps(whole, separators=(",", ":"))


def duplicated(rng: random.Random, payload: str) -> str:
    """A second ``environ`` or ``server``, before or after the first."""
    more = f'"{rng.choice(KEYS)}":{dump(value(rng))}'
    if rng.random() < 0.5:
        return "{" + more + "," + payload[1:]
    return payload[:-1] + "," + more + "}"


def make(
    rng: random.Random, kind: str, target: Target
) -> tuple[t.Any, flask.Flask | None]:
    """One input: the headers of a message, and the app that takes them."""
    apps = target.apps
    if kind == "random values":
        app = apps[rng.choice(("signed", "unsigned"))]
        return {HEADER: random_value(rng)}, app
    if kind == "mutated headers":
        mutated = mutate_text(rng, rng.choice(target.every_header))
        if mutated in target.every_header:
            mutated += "="
        return {HEADER: mutated}, apps[rng.choice(("signed", "encrypted", "unsigned"))]
    if kind == "hostile prefixes":
        key_id = library._settings(apps["signed"]).keys[0].id
        payload = rng.choice(target.payloads)
        # Which of the registered apps it is for, the name in the prefix says.
        return {HEADER: target.seal(payload, "signed", prefix(rng, key_id))}, None
    if kind == "signed hostile text":
        payload = rng.choice(target.payloads)
        payload = (duplicated if rng.random() < 0.3 else mutate_text)(rng, payload)
        payload = payload.encode("ascii", "backslashreplace").decode("ascii")
        return {HEADER: target.seal(payload, "signed")}, apps["signed"]
    if kind == "bombs":
        return {HEADER: target.seal(bomb(rng), "signed")}, apps["signed"]
    parts = rng.choice(target.parts)
    for _ in range(rng.choice((1, 1, 2, 4))):
        parts = mutate(rng, parts)
    how = {"signed": "signed", "encrypted": "encrypted", "unsigned": "unsigned"}
    chosen = how[kind.partition(" ")[0]]
    return {HEADER: target.seal(dump(parts), chosen)}, apps[chosen]


# -- running -----------------------------------------------------------------------


class Tally:
    """What was seen: inputs and taken ones of each kind, and the worst of them."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.seconds_per_mib = 0.0
        self.memory_per_character = 0.0
        self.growth = 0.0
        self.broken: list[str] = []

    def add(self, other: Tally) -> None:
        self.inputs += other.inputs
        self.taken += other.taken
        for kind, seconds in other.slowest.items():
            self.slowest[kind] = max(seconds, self.slowest.get(kind, 0))
        for name in ("seconds_per_mib", "memory_per_character", "growth"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.broken += other.broken


def fuzz(count: int, seed: int) -> Tally:
    """``count`` inputs in this process."""
    rng, target, tally = random.Random(seed), Target(), Tally()
    kinds, weights = list(KINDS), list(KINDS.values())
    grown = None
    for number, kind in enumerate(rng.choices(kinds, weights, k=count)):
        if number == min(20_000, count // 2):
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        headers, app = make(rng, kind, target)
        start = time.thread_time()
        try:
            taken = check(headers, app)
            tally.taken[kind] += taken
            if (
                taken
                and kind == "mutated headers"
                and app is not target.apps["unsigned"]
            ):
                raise Broken("a changed header was taken")
        except Broken as error:
            where = "".join(traceback.format_exception(error)[-8:])
            tally.broken.append(f"{kind}: {error}\n{str(headers)[:2000]}\n{where}")
        seconds = time.thread_time() - start
        tally.inputs[kind] += 1
        if seconds > tally.slowest.get(kind, 0):
            tally.slowest[kind] = seconds
            mib = len(str(headers[HEADER])) / 2**20
            if seconds > SECONDS + mib * SECONDS_PER_MIB:
                tally.broken.append(f"{kind}: {seconds:.3f} s: {str(headers)[:300]}")
        if len(tally.broken) > 20:
            break
    if grown is not None:
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tally.growth = (now - grown) / 1024
        if tally.growth > GROWTH:
            tally.broken.append(f"a process has grown by {tally.growth:.0f} MiB")
    return tally


def weigh(count: int, seed: int) -> Tally:
    """Bombs of every shape, with the time and memory that each takes."""
    rng, target, tally = random.Random(seed), Target(), Tally()
    for _ in range(count):
        payload = bomb(rng)
        headers = {HEADER: target.seal(payload, "signed")}
        size = len(headers[HEADER])
        start = time.thread_time()
        check(headers, target.apps["signed"])
        seconds = time.thread_time() - start
        tracemalloc.start()
        check(headers, target.apps["signed"])
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if size > 100_000:
            per_mib = seconds * 2**20 / size
            tally.seconds_per_mib = max(tally.seconds_per_mib, per_mib)
            per_character = memory / size
            tally.memory_per_character = max(tally.memory_per_character, per_character)
        if memory > MEMORY + size * MEMORY_PER_CHARACTER:
            tally.broken.append(f"{memory} bytes for {size} characters {payload[:200]}")
        if seconds > SECONDS + size / 2**20 * SECONDS_PER_MIB:
            tally.broken.append(
                f"{seconds:.2f} s for {size} characters {payload[:200]}"
            )
    return tally


COUNTS = {"brief": 20_000, "short": 100_000, "long": 10_000_000}
#: How many of libFuzzer's.
GUIDED = {"brief": 5_000, "short": 50_000, "long": 500_000}
NOTE = (
    "Inputs to `restore_context`, by kind: each is refused with a `ContextError`, or is"
    " taken and its request then behaves as Flask's own on the same environ, which holds"
    " no key that capture does not write. Nothing stays pushed. Sealed inputs bear the"
    " app's own key. Processor time includes making the input's request and using it."
)


def run(scale: str, report: Report, progress: t.Callable[[float], None]) -> None:
    report.note("headers", NOTE)
    count, guided = COUNTS[scale], GUIDED[scale]
    tally = fuzz_all(count, progress=lambda done: progress(done / count * 0.8))
    for kind in KINDS:
        problems = [text for text in tally.broken if text.startswith(f"{kind}:")]
        slowest = f"{tally.slowest.get(kind, 0) * 1000:.1f} ms"
        inputs, taken = tally.inputs[kind], tally.taken[kind]
        report.add(
            "headers", kind, problems, inputs=inputs, taken=taken, slowest=slowest
        )
    others = [b for b in tally.broken if b.partition(":")[0] not in KINDS]
    report.add(
        "headers",
        "all",
        others,
        inputs=tally.inputs.total(),
        taken=tally.taken.total(),
        **{
            "seconds per MiB": f"{tally.seconds_per_mib:.2f}",
            "memory per character": f"{tally.memory_per_character:.0f} bytes",
            "growth of a process": f"{tally.growth:.1f} MiB",
        },
    )
    fuzz_guided(guided, report, lambda done: progress(done / guided * 0.2))


def fuzz_guided(
    count: int, report: Report, progress: t.Callable[[int], None] = lambda done: None
) -> None:
    """``count`` inputs by libFuzzer, which goes on from those that reach new code."""
    case = "guided by what they reach (atheris)"
    if find_spec("atheris") is None:
        reason = "no atheris, which is for Linux on x86-64 and Python 3.11 to 3.13"
        report.leave_out("headers", case, reason)
        return
    command = [sys.executable, "-m", "stress.headers_guided", f"-runs={count}"]
    limits = ["-timeout=10", "-rss_limit_mb=1024", "-seed=1", "-print_final_stats=1"]
    begun, lines = 0, []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*command, *limits, f"-artifact_prefix={folder}/"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
        ) as process,
    ):
        for line in process.stdout or ():
            lines.append(line)
            if found := re.match(r"#(\d+)\t", line):
                progress(int(found[1]) - begun)
                begun = int(found[1])
    text = "".join(lines)
    edges = re.findall(r"cov: (\d+)", text)
    runs = re.findall(r"number_of_executed_units: (\d+)", text)
    tried = int(runs[-1]) if runs else 0
    problems = [] if not process.returncode and tried >= count else [text[-5000:]]
    report.add(
        "headers",
        case,
        problems,
        inputs=tried,
        **{"edges reached": int(edges[-1]) if edges else 0},
    )


def fuzz_all(
    count: int,
    seed: int = 1,
    processes: int = 2,
    progress: t.Callable[[int], object] = lambda done: None,
    tally: Tally | None = None,
) -> Tally:
    """``count`` inputs in several processes; ``progress`` is called with how many
    have been tried since the last call."""
    tally = tally or Tally()
    tally.add(weigh(max(20, min(200, count // 1000)), seed))
    share = min(25_000, max(1, count // processes))
    shares = [share] * (count // share) + [count % share] * bool(count % share)
    jobs = [(part, seed * 1_000_000 + number) for number, part in enumerate(shares)]
    spawning = multiprocessing.get_context("spawn")
    with spawning.Pool(processes) as pool:
        for part in pool.imap_unordered(_fuzz_share, jobs):
            tally.add(part)
            progress(part.inputs.total())
            if len(tally.broken) > 50:
                break
    return tally


def _fuzz_share(job: tuple[int, int]) -> Tally:
    return fuzz(*job)


def rows(tally: Tally) -> list[tuple[str, str]]:
    """What was seen, as names and figures for a table."""
    seen = []
    for kind in KINDS:
        inputs, taken = tally.inputs[kind], tally.taken[kind]
        slowest = tally.slowest.get(kind, 0) * 1000
        figures = f"{inputs:,} inputs, {taken:,} taken, slowest {slowest:.1f} ms"
        seen.append((kind, figures))
    return [
        *seen,
        ("all", f"{tally.inputs.total():,} inputs, {tally.taken.total():,} taken"),
        ("processor time", f"at most {tally.seconds_per_mib:.2f} s per MiB"),
        ("memory", f"at most {tally.memory_per_character:.1f} bytes per character"),
        ("growth of a process", f"at most {tally.growth:.1f} MiB"),
        ("broken promises", str(len(tally.broken))),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.headers")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    start, done = time.monotonic(), 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        print(f"{done:,} of {options.count:,}", flush=True)

    tally = Tally()
    with contextlib.suppress(KeyboardInterrupt):  # what was seen until then
        fuzz_all(options.count, options.seed, options.processes, progress, tally)
    for name, figures in rows(tally):
        print(f"{name:26} {figures}")
    print(f"{time.monotonic() - start:.0f} s")
    for broken in tally.broken[:20]:
        print("BROKEN", broken, sep="\n")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
