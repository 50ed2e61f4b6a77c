"""``python -m stress``: load, faults and hostile input, with a table of what was found."""

from __future__ import annotations

import argparse
import sys
import time
import typing as t
from pathlib import Path

from tqdm import tqdm

from benchmarks.brokers import BROKERS
from benchmarks.brokers import server_version
from stress import faults
from stress import headers
from stress import hostile_requests
from stress import interrupts
from stress import isolation
from stress import rules
from stress.report import Report

#: Each is called with the scale (``"brief"``, ``"short"`` or ``"long"``), the report to
#: fill, and what to call with each fraction of the part that is done.
PARTS: dict[str, t.Callable[[str, Report, t.Callable[[float], None]], None]] = {
    "isolation": isolation.run,
    "rules": rules.run,
    "faults": faults.run,
    "headers": headers.run,
    "requests": hostile_requests.run,
    "interrupts": interrupts.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stress")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--brief", action="store_true", help="about a minute, for CI")
    scale.add_argument("--long", action="store_true", help="everything, in full")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="a folder for stress.md")
    options = parser.parse_args()
    chosen = "long" if options.long else "brief" if options.brief else "short"
    report = Report()
    try:
        run(chosen, options.only, report)
    finally:
        print(report.text())
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        found = {name: server_version(name) for name in BROKERS}
        brokers = {name: version for name, version in found.items() if version}
        flags = [] if chosen == "short" else [f"--{chosen}"]
        if options.only != list(PARTS):
            flags += ["--only", *options.only]
        arguments = f' ARGS="{" ".join(flags)}"' if flags else ""
        command = f"make stress{arguments}"
        report.write(brokers, command, options.output)
    if not report.holds:
        sys.exit("Not all of it holds.")


def run(scale: str, parts: t.Sequence[str], report: Report) -> None:
    with tqdm(total=len(parts), bar_format="{l_bar}{bar}| {elapsed}") as bar:
        for number, part in enumerate(parts, 1):
            bar.set_description(part)
            start = time.monotonic()
            PARTS[part](scale, report, bar.update)
            bar.update(number - bar.n)
            report.took[part] = time.monotonic() - start
            bar.write(f"{part}: {report.took[part]:.0f} seconds")


if __name__ == "__main__":
    main()
