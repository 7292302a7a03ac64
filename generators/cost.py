"""What a run costs: worker hours from a rate of scenes, money from prices an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dyncity.errors import InputError

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid for, and how fast a worker is thought to be.

    Attributes:
        gpu_hour: of one GPU for an hour, in any currency; None where it is not asked for.
        cpu_hour: of one CPU for an hour.
        scenes_per_second: of one worker, e.g. as an earlier run showed it; None: as the dry run measures it.

    Raises:
        InputError: a price below 0, a rate that is not above it, or one that is no finite number.
    """

    gpu_hour: float | None = None
    cpu_hour: float | None = None
    scenes_per_second: float | None = None

    def __post_init__(self) -> None:
        for option, price in (("--price-per-gpu-hour", self.gpu_hour), ("--price-per-cpu-hour", self.cpu_hour)):
            if price is not None and not 0 <= price < math.inf:
                raise InputError(option, f"found {price}", "give a number from 0")
        rate = self.scenes_per_second
        if rate is not None and not 0 < rate < math.inf:
            raise InputError("--scenes-per-second", f"found {rate}", "give a number above 0")

    def of_worker(self, cpus: int, gpus: float) -> float | None:
        """What one worker costs for an hour, or None where no price was given.

        Raises:
            InputError: a price for GPUs where workers have none.
        """
        if self.gpu_hour is not None and not gpus:
            raise InputError("--price-per-gpu-hour", "workers have no GPU", "give --gpus-per-worker as well")
        if self.gpu_hour is None and self.cpu_hour is None:
            return None
        return (self.gpu_hour or 0.0) * gpus + (self.cpu_hour or 0.0) * cpus


def run_cost(scenes: int, rate: float, workers: tuple[int, int], hourly: float | None) -> dict[str, str | float]:
    """Rows about the hours and the money of a run.

    The worker hours are those of the scenes alone: neither what nodes take to start nor what they idle. They do
    not depend on the number of workers, and neither does the money.

    Args:
        scenes: how many.
        rate: scenes a second of one worker.
        workers: fewest and most.
        hourly: what a worker costs for an hour; None leaves the money out.
    """
    hours = scenes / rate / _HOUR
    spans = [f"{hours / n:.2f} with {n}" for n in sorted({max(1, n) for n in workers})]
    rows: dict[str, str | float] = {"worker hours, about": round(hours, 2), "hours, about": ", ".join(spans)}
    if hourly is not None:
        rows["cost, about"] = round(hours * hourly, 2)
    return rows
