"""Breaks the module in one place at a time, and sees whether a test notices.

``make mutants ARGS="--count 100 --seed 7"``. Each mutant runs in a copy of the checkout:
first the tests that are fast, then the others of ``make test``. What survives is a
missing test, code that nobody needs, or no change at all: then it stands in
``EQUIVALENT``.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULE = "flask_task_context.py"
IGNORED = shutil.ignore_patterns(".*cache", ".git", ".venv", ".tox", "*.egg-info")
#: Without a worker, or with one for many tests.
FAST = (
    "error_messages what_travels decorator eager keys session signals finding_the_app"
    " size credentials fidelity base_classes hooks what_the_task_sees"
)
#: Mutants that change nothing which can be seen: why, and function, how the line begins,
#: and what became of a part of it.
EQUIVALENT: dict[str, list[tuple[str, str, str]]] = {
    "it saves time alone": [
        ("_read_body", 'if environ["REQUEST_METHOD"] == "GET"', "('GETx')"),
        ("_may_name", "return False", "(True)"),
        (
            "_encode_exactly",
            "if ",
            "-> (_encode_raw(json.loads(text)) != _encode_raw(value))",
        ),
        ("_copied_context", "if ", "-> (_request_context() is not None)"),
        ("tag", "return value if plain", "-> ([self.tag(item) for item in value])"),
        ("tag", "return ", "-> ({k: self.tag(v) for k, v in value.items()})"),
    ],
    "as many or no more are looked at": [
        ("_configuration", "nearest = get_close_matches", "-> (2)"),
        ("_too_large", "variables = dict(zip(_ALWAYS", "(False)"),
    ],
    "one more or less of what is many": [
        ("__missing__", "if len(self) > 1000:", "(1001)"),
        ("__missing__", "if len(self) > 1000:", "(len(self) >= 1000)"),
        ("__missing__", "if len(name) < 100:", "(101)"),
        ("__missing__", "if len(name) < 100:", "(len(name) <= 100)"),
        ("_size", "if ", "-> (2)"),
        ("add", "names, name = ", "(61)"),
        ("add", "if name not in names", "(21)"),
        ("add", "if name not in names", "-> (len(names) <= 20)"),
    ],
    "as much as there is room for does not fit, with the JSON around it": [
        ("_read_body", "return cached if ", "(len(cached) < room)"),
        ("_read_ahead", "if announced > room:", "(announced >= room)"),
        ("_read_ahead", "if len(head) > room:", "(len(head) >= room)"),
        ("_head", "while ", "(len(buffer) < room)"),
        ("_head", "whole = ", "(len(buffer) < room)"),
        ("tells", "return ", "-> (len(self.head.getbuffer()) >= room)"),
        ("_encode_body", "if ", "(sum(map(len, chain(*body.fields))) >= room)"),
        ("_file_content", "content = ", "(size < limit)"),
        ("_capture_request", "if body := ", "-> (1)"),
    ],
    "it reads more than it needs, or once more at the end": [
        ("_head", "while ", "-> (2)"),
        ("_head", "while ", "(room + 1 + len(buffer))"),
        ("_head", "while ", "-> ((chunk := stream.read(room + 1 - len(buffer))))"),
        ("_head", "buffer += ", "-> (2)"),
    ],
    "that it is there is what counts": [
        ("_end", "setattr(context, _ENDED, True)", "(False)"),
        ("call", "message._protected = 1", "(2)"),
    ],
    "a request that is open here has always one, which a type checker cannot know": [
        ("_silenced", "_carried.set(outer and outer.silence)", "(outer.silence)"),
    ],
    "for Celery before 5.5; later ones do the same by themselves": [
        ("call", "if others or message is None", "-> (message.is_eager)"),
    ],
    "for Flask 3.2": [
        ("__init__", "own = ", "-> (not _MERGED)"),
        ("__init__", "own = ", "-> (snapshot is not None)"),
        ("__init__", "self.around = ", "(app.app_context())"),
    ],
    "for Werkzeug 3.2": [("_storage_class", "return ", "-> (own)")],
    "for Flask before 3.1.3": [("_session_of", "return ", "-> (context._session)")],
    "for type checkers": [
        ("_find_app", 'return t.cast("flask.Flask"', "('flask.Flaskx')"),
        ("_environ_from", 'length = len(t.cast("io.BytesIO"', "('io.BytesIOx')"),
    ],
    "Celery holds the function around it": [
        ("_for_each_celery_app", "lambda app: ", "-> (True)"),
    ],
    "32 bytes in base64 do not end in this letter": [("sign", "return ", "('=x')")],
    "a debugger shows it, and nothing else": [
        ("_session_copy_class", "return ", "('SessionCopyx')"),
    ],
}

OPPOSITES: dict[type, type] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


class Mutant(t.NamedTuple):
    function: str
    line: int
    #: The line as it was, and what became of the part that is changed.
    before: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.function}, line {self.line}: {self.change}\n    {self.before}"


# -- what can be broken ---------------------------------------------------------------


def replacements(node: ast.AST) -> t.Iterator[ast.AST]:
    """Other code for this node."""
    match node:
        case ast.Compare(left, [operator, *operators], values):
            if other := OPPOSITES.get(type(operator)):
                yield ast.Compare(left, [other(), *operators], values)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(OPPOSITES[type(operator)](), values)
            yield from values
        case ast.BinOp(left, operator, right) if type(operator) in OPPOSITES:
            yield ast.BinOp(left, OPPOSITES[type(operator)](), right)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(str() as value) if value:
            yield ast.Constant(f"{value}x")
        case ast.Return(value) if not isinstance(value, ast.Constant | None):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Assign() | ast.AugAssign() | ast.Expr(ast.Call()):
            yield ast.Pass()


def mutants() -> list[Mutant]:
    """All of them: docstrings, annotations and what Python imports stay."""
    source = (ROOT / MODULE).read_text()
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()
    found = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = node.name
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not is_left_alone(child, lines):
                    visit(child, function)
        if not function or not hasattr(node, "end_lineno"):
            return
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        for other in replacements(node):
            text = ast.unparse(ast.fix_missing_locations(other))
            text = text if isinstance(other, ast.stmt) else f"({text})"
            changed = (data[:start] + text.encode() + data[end:]).decode()
            was = " ".join(data[start:end].decode().split())
            try:
                compile(changed, MODULE, "exec")
            except SyntaxError:  # In a pattern, an f-string, and the like.
                continue
            before = lines[node.lineno - 1].strip()
            change = f"{was[:60]} -> {text[:60]}"
            found.append(Mutant(function, node.lineno, before, change, changed))

    visit(ast.parse(source), "")
    return found


def is_left_alone(node: ast.AST, lines: list[str]) -> bool:
    """Docstrings, annotations, f-strings, whose parts are nowhere before Python 3.12, and
    what the installed Flask does not run."""
    if "pragma: no cover" in lines[getattr(node, "lineno", 1) - 1]:
        return True
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.FunctionDef):
        return any("overload" in ast.unparse(d) for d in node.decorator_list)
    return isinstance(node, ast.AnnAssign) and node.value is None


# -- whether a test notices ------------------------------------------------------------


def run(folder: Path, mutant: Mutant, timeout: float) -> str:
    """``killed``, and by what, or ``survived``."""
    (folder / MODULE).write_text(mutant.source)
    fast = [f"tests/test_{name}.py" for name in FAST.split()]
    others = ["-n3", "--dist=loadfile", "--no-loadscope-reorder"]
    others += [f"--ignore={file}" for file in fast]
    for files in ([*fast, "-m", "not thorough"], others):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        process = subprocess.Popen(
            [*command, "--no-header", "--tb=no", "--timeout=100", *files],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "killed: it does not end"
        if process.returncode:
            noticed = [
                line for line in output.splitlines() if line[:5] in ("FAILE", "ERROR")
            ]
            return f"killed: {noticed[0] if noticed else output[-200:].strip()}"
    return "survived"


def why_equivalent(mutant: Mutant) -> str | None:
    for reason, places in EQUIVALENT.items():
        for function, line, change in places:
            same = function == mutant.function and mutant.before.startswith(line)
            if same and mutant.change.endswith(change):
                return reason
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds, for each")
    parser.add_argument("--function", help="only in this function or class")
    options = parser.parse_args()
    everything = mutants()
    chosen = [m for m in everything if options.function in (None, m.function)]
    random.Random(options.seed).shuffle(chosen)
    chosen = chosen[: options.count]
    print(
        f"{len(chosen)} of {len(everything)} mutants, seed {options.seed}", flush=True
    )
    folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
    counts: collections.Counter[str] = collections.Counter()

    def judge(mutant: Mutant) -> str:
        if reason := why_equivalent(mutant):
            return f"equivalent: {reason}"
        folder = folders.get()
        try:
            return run(folder, mutant, options.timeout)
        finally:
            folders.put(folder)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        for number in range(options.jobs):
            folder = Path(made, str(number))
            shutil.copytree(ROOT, folder, ignore=IGNORED)
            folders.put(folder)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, outcome in zip(chosen, pool.map(judge, chosen), strict=True):
                counts[outcome.partition(":")[0]] += 1
                print(f"{outcome}\n    {mutant}", flush=True)
    killable = counts["killed"] + counts["survived"]
    minutes = (time.monotonic() - began) / 60
    print(
        f"{counts['killed']} of {killable} killed ({counts['killed'] / killable:.1%}),"
        f" {counts['equivalent']} equivalent, {minutes:.0f} minutes"
    )
    return bool(counts["survived"])


if __name__ == "__main__":
    sys.exit(main())
