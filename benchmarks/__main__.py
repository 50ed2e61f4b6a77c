"""``python -m benchmarks``: measure everything and compare it with its targets."""

from __future__ import annotations

import argparse
import functools
import time
import typing as t
from pathlib import Path

from tqdm import tqdm

from benchmarks import memory
from benchmarks import micro
from benchmarks import publish
from benchmarks import report
from benchmarks import sizes
from benchmarks import waiting
from benchmarks import worker
from benchmarks.brokers import BROKERS
from benchmarks.brokers import server_version

# How long each part takes, roughly, in seconds.
PARTS = {"micro": 30, "publish": 80, "sizes": 10, "memory": 120, "worker": 400}
#: Only where it is named.
LONG = {"waiting": 1800}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="rough numbers, to try it")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*PARTS, *LONG],
        default=list(PARTS),
        help=f"without it: {', '.join(PARTS)} (waiting takes half an hour)",
    )
    parser.add_argument(
        "--output", type=Path, help="a folder for results.md and .svg, or waiting.md"
    )
    options = parser.parse_args()
    complete = not options.quick and set(options.only) in (set(PARTS), set(LONG))
    output = options.output or (Path(__file__).parent if complete else None)
    if output:
        output.mkdir(parents=True, exist_ok=True)
    found = {name: server_version(name) for name in BROKERS}
    brokers = {name: version for name, version in found.items() if version}
    for name in found.keys() - brokers.keys():
        print(f"There is no {name} at {BROKERS[name]}: its rows are left out.")
    results = run(list(brokers), options.only, options.quick)
    print(report.details(results), report.summary(results), sep="\n\n")
    if output:
        command = "python -m benchmarks --quick" if options.quick else "make bench"
        if options.only == list(LONG):
            command += " --only waiting" if options.quick else ' ARGS="--only waiting"'
            report.write_waiting(results, brokers, command, output)
        else:
            report.write(results, brokers, command, output)


def run(brokers: list[str], parts: t.Sequence[str], quick: bool) -> report.Results:
    results = report.Results()
    measures: dict[str, t.Callable[..., None]] = {
        "micro": micro.measure,
        "publish": functools.partial(publish.measure, brokers=brokers),
        "sizes": sizes.measure,
        "memory": memory.measure,
        "worker": functools.partial(worker.measure, brokers=brokers),
        "waiting": waiting.measure,
    }
    seconds = {**PARTS, **LONG}
    total = sum(seconds[part] for part in parts)
    with tqdm(total=total, bar_format="{l_bar}{bar}| {elapsed}") as bar:
        for part in parts:
            bar.set_description(part)
            start = time.monotonic()
            measures[part](
                results,
                quick=quick,
                progress=lambda done, part=part: bar.update(done * seconds[part]),
            )
            bar.write(f"{part}: {time.monotonic() - start:.0f} seconds")
    return results


if __name__ == "__main__":
    main()
