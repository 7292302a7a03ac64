from __future__ import annotations

import pytest

from dyncity.conditions import COMMANDS, Conditions
from dyncity.metrics.likeness import Portrait, portrait_of
from dyncity.presets import tiny
from dyncity.scene import OccupancyScene, SceneSpec
from generators.procedural.city import ProceduralCity

SCENES = 16


def _city(seed: int) -> list[OccupancyScene]:
    city = ProceduralCity(tiny())
    specs = [SceneSpec(i, seed, Conditions(COMMANDS[i % 4])) for i in range(SCENES)]  # type: ignore[arg-type]
    return [city.generate([spec])[0] for spec in specs]


@pytest.fixture(scope="session")
def real() -> list[OccupancyScene]:
    """Sixteen simulated scenes, four of each command in turn: static, forward, left, right."""
    return _city(1001)


@pytest.fixture(scope="session")
def other_real() -> list[OccupancyScene]:
    """Sixteen more, of another seed."""
    return _city(2002)


@pytest.fixture(scope="session")
def truth(real: list[OccupancyScene]) -> Portrait:
    return portrait_of(real)


@pytest.fixture(scope="session")
def other(other_real: list[OccupancyScene]) -> Portrait:
    return portrait_of(other_real)
