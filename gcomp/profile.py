"""Where a module spends its time: each step's share of a run, and how near it comes to what is possible."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .arguments import checked
from .compiler import Model, compile
from .data import synthetic
from .files import replacing
from .port import in_order
from .steps import Limits, StepFacts, Trace
from .stopwatch import share_done
from .target import Module
from .timing import tell
from .types import Array
from .watch import Decision

LEAST, MOST = 5, 500
"""Runs that are timed, whatever the time that is given."""
WARMUP_RUNS = 3


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step over the runs: the median, and the quartiles around it.

    `share` is its part of all steps' medians. `bound` says whether arithmetic or memory traffic limits the
    step, and `of_limit` is the least time that this allows, as a share of the median; both are None where
    the limits of the machine mean nothing.
    """

    step: StepFacts
    median: float
    low: float
    high: float
    share: float
    bound: Literal["compute", "memory"] | None
    of_limit: float | None

    @property
    def flop_rate(self) -> float | None:
        """Floating-point operations a second."""
        return self.step.flops / self.median if self.step.flops is not None and self.median else None

    @property
    def byte_rate(self) -> float | None:
        """Bytes a second, each operand and result counted once."""
        total = self.step.weight_bytes + self.step.data_bytes
        return total / self.median if self.median else None


@dataclass(frozen=True)
class Profile:
    """The steps of a module in order, with their times.

    `seconds` is the sum of the steps' medians; `undisturbed` is the median of runs in one go, timed in turn
    with those step by step. `typical` is the run step by step whose total is the median. `decisions` are the
    module's.
    """

    name: str
    steps: list[StepTime]
    seconds: float
    undisturbed: float
    runs: int
    limits: Limits | None
    typical: Trace
    decisions: Sequence[Decision] = ()

    def facts(self) -> dict[str, Any]:
        """Everything as JSON can hold it; rates are per second."""
        return {
            "name": self.name,
            "seconds": self.seconds,
            "undisturbed_seconds": self.undisturbed,
            "runs": self.runs,
            "limits": None
            if self.limits is None
            else {
                "flops": self.limits.flops,
                "bandwidth": [{"bytes": most, "rate": rate} for most, rate in self.limits.bandwidth],
            },
            "steps": [
                {
                    **asdict(one.step),
                    "seconds": {"median": one.median, "low": one.low, "high": one.high},
                    "share": one.share,
                    "flop_rate": one.flop_rate,
                    "byte_rate": one.byte_rate,
                    "bound": one.bound,
                    "of_limit": one.of_limit,
                }
                for one in self.steps
            ],
            "decisions": [asdict(decision) for decision in self.decisions],
        }

    def chrome_trace(self) -> dict[str, Any]:
        """The typical run in the format of Chrome's tracing and Perfetto; times in microseconds."""
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": self.name}}
        ]
        for number, event in enumerate(self.typical.events):
            events.append(
                {
                    "name": event.step.title,
                    "cat": event.step.code,
                    "ph": "X",
                    "ts": event.start * 1e6,
                    "dur": event.seconds * 1e6,
                    "pid": 1,
                    "tid": 1,
                    "args": {"step": number, **asdict(event.step)},
                }
            )
        return {"traceEvents": events, "displayTimeUnit": "ns"}

    @checked
    def save_trace(self, path: str | Path) -> None:
        """Writes `chrome_trace` for ui.perfetto.dev or chrome://tracing. Raises `BuildError`."""
        with replacing(path) as file:
            file.write(json.dumps(self.chrome_trace()).encode())


@checked
def profile(
    model: Module | Model,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    seconds: float = 2.0,
    **options: Any,
) -> Profile:
    """Times each step of `model`, the whole network running in order, for about `seconds`.

    `model` is a module, or what `compile` takes, with its `options`. `inputs` are arrays by name or in order,
    synthetic unless given. Raises `GcompError` as compiling and running do, and `UnsupportedError` for a
    module that cannot be run step by step.
    """
    module = model if isinstance(model, Module) else compile(model, **options)
    arrays = _arrays(module, inputs)
    module = module.at(*arrays)
    before = module.limits()
    for _ in range(WARMUP_RUNS):
        module.trace(*arrays)
        module(*arrays)
    traces: list[Trace] = []
    whole: list[float] = []
    begin = time.perf_counter()
    while len(traces) < LEAST or (len(traces) < MOST and time.perf_counter() - begin < seconds):
        share = share_done(len(traces), MOST, time.perf_counter() - begin, seconds)
        tell(f"{len(traces)} runs", share)
        traces.append(module.trace(*arrays))
        start = time.perf_counter()
        module(*arrays)
        whole.append(time.perf_counter() - start)
    after = module.limits()
    limits = before.or_better(after) if before and after else None
    return _summary(module, traces, float(np.median(whole)), limits)


def _arrays(module: Module, inputs: Mapping[str, Any] | Sequence[Any] | None) -> list[Any]:
    if inputs is None:
        inputs = synthetic(module.inputs, graph=module.graph)
    if not isinstance(inputs, Mapping):
        return list(inputs)
    return in_order("profile", module.inputs, inputs)


def _summary(module: Module, traces: list[Trace], whole: float, limits: Limits | None) -> Profile:
    spent: Array = np.array([[event.seconds for event in trace.events] for trace in traces], np.float64)
    lows, medians, highs = np.quantile(spent, [0.25, 0.5, 0.75], axis=0)
    totals = spent.sum(axis=1)
    typical = traces[int(np.argsort(totals)[len(totals) // 2])]
    steps = [event.step for event in typical.events]
    total = float(medians.sum())
    touched = sum(step.weight_bytes + step.data_bytes for step in steps)
    times = [
        StepTime(
            step,
            median,
            low,
            high,
            median / total if total else 0.0,
            *_against(limits, step, touched, median),
        )
        for step, low, median, high in zip(steps, *map(_floats, (lows, medians, highs)), strict=True)
    ]
    return Profile(module.graph.name, times, total, whole, len(traces), limits, typical, module.decisions)


def _floats(array: Array) -> list[float]:
    return [float(number) for number in array]


def _against(
    limits: Limits | None, step: StepFacts, touched: int, median: float
) -> tuple[Literal["compute", "memory"] | None, float | None]:
    """What limits the step, and its least time as a share of `median`."""
    if limits is None or step.code == "reference":
        return None, None
    compute, traffic = limits.bounds(step, touched)
    bound = "compute" if compute >= traffic else "memory"
    return bound, max(compute, traffic) / median if median else None
