"""Before the work starts: do the conditions of a plan contradict themselves? A warning a contradiction, or an error."""

from __future__ import annotations

import sys

from dyncity.conditions import COMMANDS
from dyncity.contradictions import contradictions
from dyncity.errors import InputError
from dyncity.terminal import ProgressLine
from generators.base import Conditioned, SceneChecked, SceneGenerator
from generators.plan import CorpusPlan

# Scenes that are looked at unless --strict asks for all: each command comes up, and the work starts soon.
CHECKED = 16
_SHOWN = 8


def check_plan(plan: CorpusPlan, generator: SceneGenerator, strict: bool = False) -> int:
    """Print a line on stderr for each contradiction in the conditions of a plan; the number of such lines.

    Nothing is looked at where nothing can be contradicted: sources that draw no conditions, and plans without a layout
    unless the generator gives voxels. Given trajectories are looked at all the same: they may leave the grid.

    Args:
        plan: what is asked for.
        generator: what makes it.
        strict: look at all scenes, not the first 16, and refuse the plan at the first contradiction.

    Raises:
        InputError: ``strict`` and a contradiction; what ``generator.conditions`` or ``generator.check_scene`` refuses.
    """
    if isinstance(generator, SceneChecked):
        for index in range(min(len(COMMANDS), plan.num_scenes)):  # each command comes up
            generator.check_scene(plan.spec(index))
    if not isinstance(generator, Conditioned):
        return 0
    _check_known(plan, generator)
    if plan.layout is None and not generator.gives_voxels:
        if plan.trajectory is not None:
            _check_trajectories(plan, generator)
        return 0
    count = plan.num_scenes if strict else min(CHECKED, plan.num_scenes)
    found: dict[str, list[int]] = {}
    with ProgressLine("check", "scenes", count) as progress:
        for index in range(count):
            asked = generator.conditions(plan.spec(index))
            for one in contradictions(asked, generator.config.clip_grid, generator.config.taxonomy, generator.anchor):
                if strict:
                    fix = "change the layout, the path or the seed, or leave out --strict"
                    raise InputError(f"--strict, scene {index}", str(one), fix)
                found.setdefault(str(one), []).append(index)
            progress.update(index + 1)
    for line, scenes in list(found.items())[:_SHOWN]:
        print(f"warning: {_named(scenes)}: {line}", file=sys.stderr)  # noqa: T201
    if len(found) > _SHOWN:
        more = f"{len(found) - _SHOWN} more contradictions in the first {count} scenes"
        print(f"warning: {more}", file=sys.stderr)  # noqa: T201
    return len(found)


def _check_known(plan: CorpusPlan, generator: Conditioned) -> None:
    """Raise InputError where a command, a trajectory or a layout is asked of a checkpoint that was trained without."""
    dit = generator.config.dit
    follows = dit.trajectory or dit.path_plane
    for option, asked, known in (
        ("--trajectory", plan.trajectory is not None, follows),
        ("--layout", plan.layout is not None, dit.layout_plane),
        ("--command", plan.trajectory is None and plan.command in COMMANDS, follows or dit.command),
    ):
        if asked and not known:
            raise InputError(option, "this checkpoint was trained without it", "leave it out, or use one that knows it")


def _check_trajectories(plan: CorpusPlan, generator: Conditioned) -> None:
    """Raise InputError where the generator cannot take a given trajectory, by the scene where each has its own."""
    assert plan.trajectory is not None
    each = plan.trajectory.ndim == 3
    for index in range(plan.num_scenes if each else 1):
        try:
            generator.conditions(plan.spec(index))
        except InputError as error:
            raise InputError(f"{error.where}, scene {index}" if each else error.where, error.found, error.fix) from None


def _named(scenes: list[int]) -> str:
    """``scene 3``, ``scenes 0 to 15`` or ``scenes 0, 4, 8``."""
    if len(scenes) == 1:
        return f"scene {scenes[0]}"
    if scenes[-1] - scenes[0] == len(scenes) - 1:
        return f"scenes {scenes[0]} to {scenes[-1]}"
    return f"scenes {', '.join(map(str, scenes))}"
