"""What was found, as tables."""

from __future__ import annotations

import datetime
import typing as t
from pathlib import Path

from benchmarks.tables import table
from benchmarks.tables import versions

PACKAGES = (
    "flask-task-context",
    "Flask",
    "Werkzeug",
    "celery",
    "kombu",
    "billiard",
    "redis",
    "amqp",
    "SQLAlchemy",
    "cryptography",
    "gevent",
    "gunicorn",
    "waitress",
)
Figure = int | str


class Row(t.NamedTuple):
    part: str
    case: str
    figures: dict[str, Figure]
    problems: list[str]


class Report:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.left_out: list[str] = []
        self.notes: dict[str, str] = {}
        #: Seconds of each part.
        self.took: dict[str, float] = {}

    def add(
        self, part: str, case: str, problems: t.Sequence[str] = (), **figures: Figure
    ) -> None:
        """A row; with ``problems`` it does not hold, and the run fails."""
        self.rows.append(Row(part, case, figures, list(problems)))

    def leave_out(self, part: str, case: str, reason: str) -> None:
        self.left_out.append(f"{part}, {case}: {reason}")

    def note(self, part: str, text: str) -> None:
        """What stands above the part's table."""
        self.notes[part] = text

    @property
    def holds(self) -> bool:
        return not any(row.problems for row in self.rows)

    def text(self) -> str:
        parts = dict.fromkeys(row.part for row in self.rows)
        sections = [self._section(part) for part in parts]
        if self.left_out:
            lines = [f"* {line}" for line in self.left_out]
            sections.append("\n".join(["## Left out", "", *lines]))
        return "\n\n".join(sections)

    def _section(self, part: str) -> str:
        rows = [row for row in self.rows if row.part == part]
        columns = list(dict.fromkeys(name for row in rows for name in row.figures))
        lines = [["", *columns, "holds"]]
        for row in rows:
            figures = [_text(row.figures.get(name, "")) for name in columns]
            lines.append([row.case, *figures, "**no**" if row.problems else "yes"])
        problems = [
            f"* {row.case}: {problem}" for row in rows for problem in row.problems[:20]
        ]
        took = [f"{self.took[part]:.0f} seconds."] if part in self.took else []
        note = [self.notes[part]] if part in self.notes else []
        above = [" ".join([*took, *note])] if took or note else []
        found = ["\n".join(problems)] if problems else []
        heading = f"## {part.capitalize()}"
        return "\n\n".join([heading, *above, table(lines), *found])

    def write(self, brokers: dict[str, str], command: str, folder: Path) -> None:
        minutes = sum(self.took.values()) / 60
        today = datetime.datetime.now(tz=datetime.timezone.utc)
        how = f"`{command}` on {today:%d %B %Y}, {minutes:.0f} minutes:"
        text = [
            "# Under fire: load, faults, hostile input",
            f"{how} {versions(PACKAGES, brokers)}.",
            self.text(),
        ]
        (folder / "stress.md").write_text("\n\n".join(text) + "\n")


def _text(figure: Figure) -> str:
    return f"{figure:,}" if isinstance(figure, int) else figure
