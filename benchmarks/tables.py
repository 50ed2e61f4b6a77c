"""A table in Markdown, and what a report says of the machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import typing as t
from pathlib import Path


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        right = [cell.rjust(width) for cell, width in others]
        return f"| {' | '.join([first[0].ljust(first[1]), *right])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])


def versions(packages: t.Iterable[str], brokers: dict[str, str]) -> str:
    found = {name: importlib.metadata.version(name) for name in packages}
    servers = {f"{name} server": version for name, version in brokers.items()}
    everything = {"Python": platform.python_version(), **found, **servers}
    listed = ", ".join(f"{name} {version}" for name, version in everything.items())
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}; {listed}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
