"""What was measured, as tables and as a plot."""

from __future__ import annotations

import datetime
import statistics
import typing as t
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.tables import table
from benchmarks.tables import versions

PACKAGES = (
    "flask-task-context",
    "Flask",
    "Werkzeug",
    "celery",
    "kombu",
    "redis",
    "amqp",
    "cryptography",
    "Flask-CeleryExt",
    "pyperf",
)
TITLES = {
    "capture": "Capture: a request to a header, microseconds",
    "restore": "Restore: a header to a live request and out again, microseconds",
    "no context": "A message without a context, microseconds",
    "run": "A worker's whole work on a message, without a broker, microseconds",
    "publish": "Publish from inside a request, microseconds",
    "price": "What each way adds to a publish, microseconds",
    "pieces": "Where a capture's time goes in a view, microseconds",
    "worker": "Prefork worker, tasks in a second",
    "cpu": "A prefork worker's CPU time for a task, microseconds",
    "bytes": "Bytes of a request",
    "growth": "Bytes of what grows",
    "memory": "Resident size of a worker, MiB",
    "cycles": "Objects left to the garbage collector by 1,000 of them",
    "import": "Import beyond flask and celery, milliseconds",
    "waiting": "A million waiting messages",
}
NOTES = {
    "capture": "On a fresh request each time, whose view has read its session, form or"
    " JSON. The article's is the dict alone: before Celery makes JSON of it and writes it"
    ' once more for monitors. "What each way adds to a publish" has the whole.',
    "restore": "Flask itself opens and closes the same request from a ready environ.",
    "publish": '"A ready header" sends a header that was captured before.',
    "price": "The rows above less `bare`: capture, and what Celery does with it.",
    "pieces": "Each piece alone, in a browser's request, when a publish has just taken"
    " the processor's caches.",
    "worker": '"Flask itself" opens and closes a request from a ready environ, and'
    " reads no message: what any way to have a request must do at the least.",
    "cpu": "Worker, broker and benchmark share the machine's processors.",
    "bytes": "The article's is its JSON; it drops the body.",
    "growth": "A chain's step is what it adds to the chain's first message beyond the"
    " same step without a context. (The article's other steps have none.)",
    "cycles": "Werkzeug's router leaves eight with every request that it matches.",
    "memory": "Every second task is encrypted.",
    "waiting": "Reckoned from 100,000 copies of one message (`--quick`: 5,000), behind a"
    " tenth as many that a view has published: what a broker takes once is not in it. Each"
    " carries a browser's form of six fields and a session. `less` leaves out the body,"
    " the session but `_user_id`, and headers that the task does not need. `used` is what"
    " the broker counts itself, `resident` is its process. The rates are of the view, and"
    " of one consumer that takes and acknowledges, and runs no task. Redis writes nothing"
    " to disk.",
}
EXPLANATION = (
    "All ways are measured in the same run, in turns; every number is a median. What is"
    " `encrypted` is the same with `TASK_CONTEXT_ENCRYPT`."
)
Values = t.Mapping[str, float]


class Results:
    """Numbers by part, case and way: the median of all that were added."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, part: str, case: str, way: str, *values: float) -> None:
        self._values.setdefault((part, case, way), []).extend(values)

    def table(self, part: str) -> dict[str, dict[str, float]]:
        cases: dict[str, dict[str, float]] = {}
        for (a_part, case, way), values in self._values.items():
            if a_part == part:
                cases.setdefault(case, {})[way] = statistics.median(values)
        return cases

    def parts(self) -> list[str]:
        return [part for part in TITLES if self.table(part)]


# -- targets -------------------------------------------------------------------


class Target(t.NamedTuple):
    """A limit for the worst case of a part: of a ratio to another way, of a difference
    from one (``beyond``), or of the number itself."""

    part: str
    text: str
    limit: float
    to: str = ""
    beyond: str = ""
    at_least: bool = False
    way: str = "ours"

    def of(self, values: Values) -> float | None:
        if self.way not in values or (self.to and self.to not in values):
            return None
        if self.to:
            return values[self.way] / values[self.to]
        return values[self.way] - values.get(self.beyond, 0)

    def worst(self, results: Results) -> float | None:
        found = [self.of(values) for values in results.table(self.part).values()]
        numbers = [number for number in found if number is not None]
        return (min if self.at_least else max)(numbers, default=None)

    def holds(self, results: Results) -> bool | None:
        worst = self.worst(results)
        if worst is None:
            return None
        return worst >= self.limit if self.at_least else worst <= self.limit


TARGETS = [
    Target("restore", "restore : Flask's own open and close", 0.85, "Flask itself"),
    Target(
        "restore",
        "restore, encrypted : the same",
        0.95,
        "Flask itself",
        way="encrypted",
    ),
    Target("price", "in a view, beyond `delay` : the article's", 0.45, "article"),
    Target("price", "the same : four computed arguments", 1, "arguments"),
    Target(
        "worker", "tasks a second : Flask itself", 0.95, "Flask itself", at_least=True
    ),
    Target("no context", "no context: µs beyond `app_context()`", 5, beyond="docs"),
    Target("memory", "worker's growth over 180,000 tasks, MiB", 1),
    Target("cycles", "objects in cycles beyond Flask's own", 0, beyond="Flask itself"),
    Target("import", "import, ms", 2),
]


# -- text ----------------------------------------------------------------------


def summary(results: Results) -> str:
    rows = [["worst case of", "target", "measured", "holds"]]
    for target in TARGETS:
        sign = "at least" if target.at_least else "at most"
        holds = {True: "yes", False: "**no**", None: "not measured"}
        verdict = holds[target.holds(results)]
        measured = _number(target.worst(results))
        rows.append([target.text, f"{sign} {target.limit:g}", measured, verdict])
    return table(rows)


def details(results: Results) -> str:
    return "\n\n".join(_section(results, part) for part in results.parts())


def _section(results: Results, part: str) -> str:
    cases = results.table(part)
    ways = list(dict.fromkeys(way for values in cases.values() for way in values))
    ratios = [target for target in TARGETS if target.part == part and target.to]
    rows = [["", *ways, *(f"{target.way} : {target.to}" for target in ratios)]]
    for case, values in cases.items():
        numbers = [_number(values.get(way)) for way in ways]
        rows.append([case, *numbers, *(_number(r.of(values)) for r in ratios)])
    note = [NOTES[part]] if part in NOTES else []
    return "\n\n".join([f"## {TITLES[part]}", *note, table(rows)])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def _measured(command: str, brokers: dict[str, str]) -> str:
    today = datetime.datetime.now(tz=datetime.timezone.utc)
    return f"`{command}` on {today:%d %B %Y}: {versions(PACKAGES, brokers)}."


def write(
    results: Results, brokers: dict[str, str], command: str, folder: Path
) -> None:
    text = [
        "# Benchmark",
        _measured(command, brokers),
        EXPLANATION,
        summary(results),
        "![Every way as a ratio, the median of its cases](results.svg)",
        details(results),
    ]
    (folder / "results.md").write_text("\n\n".join(text) + "\n")
    plot(results, folder / "results.svg")


def write_waiting(
    results: Results, brokers: dict[str, str], command: str, folder: Path
) -> None:
    text = ["# Waiting messages", _measured(command, brokers), details(results)]
    (folder / "waiting.md").write_text("\n\n".join(text) + "\n")


# -- plot ----------------------------------------------------------------------

GREY = "#808080"  # readable on white and on black
TARGET = "#d9534f"
#: What is written, in the page's colours.
THEMES = f"""
text:not([style*="{TARGET}"]) {{ fill: #1f2328 !important }}
@media (prefers-color-scheme: dark) {{
  text:not([style*="{TARGET}"]) {{ fill: #f0f6fc !important }}
}}
"""
COLORS = {"ours": "#2f9e6e", "encrypted": "#7a9c3a"}
BARS = {
    "price": ("article", "what a view pays beyond delay"),
    "restore": ("Flask itself", "restore a request"),
    "worker": ("Flask itself", "tasks a second"),
}


def plot(results: Results, file: Path) -> None:
    """Every way, as the ratio to the one that the target names. It is narrow, for a
    phone."""
    style = {
        "text.color": GREY,
        "axes.labelcolor": GREY,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "svg.fonttype": "none",
        "svg.hashsalt": "flask-task-context",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    parts = [part for part in BARS if results.table(part)]
    if not parts:
        return
    with mpl.rc_context(style):
        figure, axes = pyplot.subplots(
            len(parts), 1, figsize=(5, 2.0 * len(parts)), squeeze=False
        )
        for axis, part in zip(axes[:, 0], parts, strict=True):
            _bars(axis, results.table(part), part)
        figure.tight_layout()
        figure.savefig(file, transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    drawing = file.read_text()
    file.write_text(drawing.replace("</style>", f"{THEMES}</style>", 1))


def _bars(axis: t.Any, cases: dict[str, dict[str, float]], part: str) -> None:
    base, title = BARS[part]
    # One of them costs nothing.
    ways = [way for way in next(iter(cases.values())) if way != "a ready header"]
    ratios = [
        statistics.median(v[way] / v[base] for v in cases.values()) for way in ways
    ]
    colors = [COLORS.get(way, GREY) for way in ways]
    bars = axis.barh(ways, ratios, color=colors, height=0.7)
    axis.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    limit = next(x for x in TARGETS if x.part == part and x.to == base).limit
    axis.axvline(limit, color=TARGET, linestyle="--", linewidth=1)
    axis.text(limit, -0.9, f"target {limit:g}", color=TARGET, ha="center", size=8)
    axis.set_title(f"{title} ({base} = 1)", loc="left", size=10, pad=20)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.patch.set_alpha(0)
