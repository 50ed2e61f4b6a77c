"""Measure ways side by side: call by call, in one process, in a new order each time,
so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import typing as t
from time import perf_counter


class Contest(t.NamedTuple):
    """``timed`` is called inside ``around``, whose own time does not count, with
    what that gives."""

    timed: t.Callable[[t.Any], t.Any]
    around: t.Callable[[], contextlib.AbstractContextManager[t.Any]] = (
        contextlib.nullcontext
    )


def alternate(
    contests: dict[str, Contest],
    values: int,
    calls: int,
    between: t.Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """For each way ``values`` times the median of ``calls`` calls, in seconds. One
    value before them is not counted."""
    gc.collect()
    gc.freeze()
    found: dict[str, list[float]] = {way: [] for way in contests}
    for _ in range(values + 1):
        seconds: dict[str, list[float]] = {way: [] for way in contests}
        for _ in range(calls):
            for way in random.sample(list(contests), len(contests)):
                timed, around = contests[way]
                with around() as argument:
                    start = perf_counter()
                    timed(argument)
                    seconds[way].append(perf_counter() - start)
        for way, all_calls in seconds.items():
            found[way].append(statistics.median(all_calls))
        between()
    return {way: medians[1:] for way, medians in found.items()}
