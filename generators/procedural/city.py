"""ProceduralCity: the generator. A spec becomes a city, its traffic, and the voxels of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import (
    Command,
    Conditions,
    check_trajectory,
    command_from_trajectory,
    poses_from_trajectory,
)
from dyncity.config import Config
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.scene import Boxes, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from generators.procedural.agents import Agents, compatible
from generators.procedural.bystanders import on_the_road, park, walk
from generators.procedural.ego import SIZE as EGO_SIZE
from generators.procedural.ego import EgoPlan, draw_command, follow, misfit, plan_ego, swept
from generators.procedural.lots import Lots
from generators.procedural.roadmap import Floats, RoadMap, draw_roadmap
from generators.procedural.static import CLASS, StaticWorld
from generators.procedural.streetscape import furnish_streets, pave_streets
from generators.procedural.traffic import SUBSTEP, Simulation, spawn
from generators.procedural.voxelise import draw_agents, draw_static

# Raised whenever the same spec would give other bytes.
VERSION = 2
ATTEMPTS = 40
TOP_SPEED = 14.0
# Seconds that a clip has to last for its ego to do so: a metre, 10 degrees. In less no city of many serves.
LEAST_SECONDS: dict[Command, float] = {"static": 0.0, "forward": 0.2, "left": 0.3, "right": 0.3}
# A given trajectory may start at any of this many places; the one that fits it best is taken.
CANDIDATES = 8


@dataclass(frozen=True, eq=False)
class BuiltCity:
    """One scene before it becomes voxels, in real coordinates.

    Attributes:
        city: the map.
        world: what never moves.
        agents: everybody but the ego.
        ego: ``[t, 3]`` x, y, yaw of the ego in each frame.
        trajectory: ``[t, 3]`` the same relative to the first frame.
        grid_yaw: from the ego's heading in frame t // 2 to the street's (``Conditions.grid_yaw``).
    """

    city: RoadMap
    world: StaticWorld
    agents: Agents
    ego: Floats
    trajectory: Floats
    grid_yaw: float


class ProceduralCity:
    """The procedural city as a source of scenes (``generators.base.SceneGenerator``).

    Args:
        config: frames, frame rate and grid.
        frame: "ego": each frame in ``config.grid`` placed by its own ego pose; "world": all frames in
            ``config.clip_grid`` placed by the pose of frame t // 2 (``anchor``), turned to the street.
        micro_batch: specs a call; a scene depends on its own spec alone.
    """

    name = "procedural"

    def __init__(self, config: Config, frame: Literal["ego", "world"] = "ego", micro_batch: int = 1) -> None:
        if frame not in ("ego", "world"):
            raise InputError("frame", f"found {frame!r}", "use ego or world")
        low, high = config.grid.origin[2], config.grid.upper[2]
        if not low < -0.01 < high:
            raise InputError("grid.origin", f"z runs from {low} to {high}", "let the grid hold the ground at z = 0")
        self.config = config
        self.frame = frame
        self.micro_batch = micro_batch

    def fingerprint(self) -> dict[str, str | int | float]:
        """The version of the city and the frame that its grids are in."""
        return {"city": VERSION, "frame": self.frame}

    def check_scene(self, spec: SceneSpec) -> None:
        """Raise InputError where clips are too short for the command of a spec."""
        command, rate = spec.conditions.command, self.config.grid.frame_rate
        if command is not None and spec.conditions.trajectory is None and not self._lasts(command):
            frames = self.config.clip.frames
            raise InputError(
                "clip.frames",
                f"{frames} at {rate:g} Hz are too short for --command {command}",
                f"give at least {int(np.ceil(LEAST_SECONDS[command] * rate - 1e-9)) + 1}, or --command static",
            )

    def _lasts(self, command: Command) -> bool:
        """Whether a clip is long enough for a command."""
        return (self.config.clip.frames - 1) / self.config.grid.frame_rate >= LEAST_SECONDS[command] - 1e-9

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec, in order.

        Raises:
            InputError: a trajectory that has another number of frames than a clip; as ``check``.
            RuntimeError: none of ``ATTEMPTS`` cities of the spec's streams could serve it.
        """
        return [self._scene(spec) for spec in specs]

    def build(self, spec: SceneSpec) -> BuiltCity:
        """The city and the traffic of a spec; see ``generate`` for what is raised."""
        frames = self.config.clip.frames
        given = spec.conditions.trajectory
        if given is not None and len(given) != frames:
            raise InputError(
                "--trajectory", f"found {len(given)} rows", f"give one row for each of the {frames} frames"
            )
        self.check_scene(spec)
        streams = [stream(spec.seed, spec.index, p) for p in (Purpose.CITY, Purpose.TRAFFIC, Purpose.EGO)]
        command = spec.conditions.command if given is None else command_from_trajectory(given)
        if command is None:
            command = draw_command(streams[2])
            command = command if self._lasts(command) else "static"
        for attempt in range(ATTEMPTS):
            built = self._attempt(command, given, attempt, *streams)
            if built is not None:
                return built
        raise RuntimeError(
            f"scene {spec.index} of seed {spec.seed}: none of {ATTEMPTS} cities serves command {command!r}"
        )

    def _attempt(
        self,
        command: Command,
        given: Floats | None,
        attempt: int,
        city_rng: np.random.Generator,
        traffic_rng: np.random.Generator,
        ego_rng: np.random.Generator,
    ) -> BuiltCity | None:
        frames, rate = self.config.clip.frames, self.config.grid.frame_rate
        duration = (frames - 1) / rate
        reach = _reach(self.config.clip_grid)
        extent = reach + TOP_SPEED * duration + 75.0
        # Long clips on curved streets may turn without being told to: later attempts go straight.
        city = draw_roadmap(city_rng, extent, curved=attempt % 4 < 2)
        plan = self._plan(city, command, given, ego_rng, duration)
        if plan is None:
            return None
        fixed = None if given is None else follow(given, plan)
        world = self._world(city, plan, fixed, duration)
        pave_streets(world, city)
        lots = Lots(world, city_rng)
        lots.fill(city)
        furnish_streets(world, city, city_rng)
        world.plant()
        if fixed is not None:
            world.clear(city.warp.to_canonical(swept(fixed)), EGO_SIZE[1] / 2 + 0.3)
        substeps = max(1, int(np.ceil(1 / rate / SUBSTEP - 1e-9)))
        step = 1 / rate / substeps
        parked = park(city, world, lots.parked, traffic_rng)
        walking, steps = walk(city, world, traffic_rng, frames, substeps, step)
        path = None
        if fixed is not None:
            at = np.arange((frames - 1) * substeps + 1) / substeps
            path = np.stack([np.interp(at, np.arange(frames), c) for c in fixed.T], axis=1)
        driving = Simulation(plan, spawn(city, plan, world, traffic_rng), steps, path, step).run(frames, substeps)
        ego = driving.pose[0]
        trajectory = check_trajectory(ego) if given is None else given
        if command_from_trajectory(trajectory) != command:
            return None
        legal = on_the_road(city, world, driving)
        if given is None and not legal[0]:
            return None
        legal[0] = True
        parked = parked.keep(on_the_road(city, world, parked)).held(frames)
        everyone = driving.keep(legal).joined(parked).joined(walking)
        keep = compatible(everyone.pose, everyone.size, 0.1)
        keep[0] = False
        grid_yaw = plan.grid_yaw(float(ego[frames // 2, 2]))
        return BuiltCity(city, world, everyone.keep(keep), ego, trajectory, grid_yaw)

    def _plan(
        self, city: RoadMap, command: Command, given: Floats | None, rng: np.random.Generator, duration: float
    ) -> EgoPlan | None:
        if given is None:
            return plan_ego(city, command, rng, duration)
        plans = [plan_ego(city, command, rng, duration) for _ in range(CANDIDATES)]
        usable = [p for p in plans if p is not None]
        return min(usable, key=lambda p: misfit(given, p)) if usable else None

    def _world(self, city: RoadMap, plan: EgoPlan, fixed: Floats | None, duration: float) -> StaticWorld:
        """An empty static world that covers the clip's grid wherever the ego may be."""
        grid = self.config.clip_grid
        travel = 0.0 if plan.still else (plan.speed + 1.0 * duration) * duration
        poses = plan.pose(plan.start + np.linspace(0, min(travel, TOP_SPEED * duration), 7)) if fixed is None else fixed
        corners = np.array([(x, y) for x in (grid.origin[0], grid.upper[0]) for y in (grid.origin[1], grid.upper[1])])
        corners = np.concatenate([corners, corners * (1, 0), corners * (0, 1)])
        if plan.path.turn is not None:  # the grid may be turned by up to 45 degrees
            quarter = np.sqrt(0.5) * np.array([[1.0, 1.0], [-1.0, 1.0]])
            corners = np.concatenate([corners, corners @ quarter, corners @ quarter.T])
        cos, sin = np.cos(poses[:, 2, None]), np.sin(poses[:, 2, None])
        x = poses[:, 0, None] + cos * corners[:, 0] - sin * corners[:, 1]
        y = poses[:, 1, None] + sin * corners[:, 0] + cos * corners[:, 1]
        uv = city.warp.to_canonical(np.stack([x, y], axis=-1)).reshape(-1, 2)
        return StaticWorld(grid, uv.min(axis=0) - 4.0, uv.max(axis=0) + 4.0)

    def _scene(self, spec: SceneSpec) -> OccupancyScene:
        built = self.build(spec)
        config, frames = self.config, self.config.clip.frames
        anchor = frames // 2 if self.frame == "world" else None
        grid = config.grid if anchor is None else config.clip_grid
        placed = built.ego[frames // 2] + (0.0, 0.0, built.grid_yaw)
        where = built.ego if anchor is None else np.repeat(placed[None], frames, axis=0)
        world, warp = built.world, built.city.warp
        if anchor is None:
            semantics = np.stack([draw_static(world, warp, grid, pose) for pose in where])
        else:
            semantics = np.repeat(draw_static(world, warp, grid, where[0])[None], frames, axis=0)
        instances = np.zeros(semantics.shape, np.uint16)
        draw_agents(semantics, instances, grid, world.layers.ground, built.agents, where)
        trajectory = np.array(built.trajectory, np.float64)
        return OccupancyScene(
            scene_id=f"city-{spec.seed}-{spec.index:08d}",
            semantics=semantics,
            poses=poses_from_trajectory(trajectory),
            grid=grid,
            taxonomy="native",
            timestamps_us=np.round(np.arange(frames) * 1e6 / grid.frame_rate).astype(np.int64),
            conditions=Conditions(command_from_trajectory(trajectory), trajectory, grid_yaw=built.grid_yaw),
            anchor=anchor,
            instances=instances,
            boxes=_boxes(built, grid, where, instances),
            provenance={"generator": self.name, "seed": spec.seed, "index": spec.index, "style": built.city.style},
        )


def _reach(grid: GridSpec) -> float:
    """Metres from the ego to the farthest corner of a grid."""
    x, y = (max(abs(grid.origin[k]), abs(grid.upper[k])) for k in (0, 1))
    return float(np.hypot(x, y))


def _boxes(built: BuiltCity, grid: GridSpec, where: Floats, instances: NDArray[np.uint16]) -> Boxes:
    """Boxes of agents whose centre is in the grid's range or who have voxels, in the frame of the first ego pose."""
    agents = built.agents
    n = len(agents.kind)
    cos, sin = np.cos(where[:, 2]), np.sin(where[:, 2])
    dx, dy = agents.pose[..., 0] - where[:, 0], agents.pose[..., 1] - where[:, 1]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    low, high = grid.origin, grid.upper
    seen = ((x >= low[0]) & (x < high[0]) & (y >= low[1]) & (y < high[1])).T
    seen |= np.array([np.bincount(numbers.ravel(), minlength=n + 1)[1:] > 0 for numbers in instances])
    frame, who = np.nonzero(seen)
    x0, y0, yaw0 = built.ego[0]
    dx, dy = agents.pose[who, frame, 0] - x0, agents.pose[who, frame, 1] - y0
    cos0, sin0 = np.cos(yaw0), np.sin(yaw0)
    size = agents.size[who] if n else np.zeros((0, 3))
    center = np.stack([cos0 * dx + sin0 * dy, cos0 * dy - sin0 * dx, size[:, 2] / 2], axis=1)
    yaw = np.remainder(agents.pose[who, frame, 2] - yaw0 + np.pi, 2 * np.pi) - np.pi
    labels = np.array([CLASS[k] for k in agents.kind], np.uint8)
    return Boxes(
        frame.astype(np.int32),
        (who + 1).astype(np.int32),
        labels[who],
        center.astype(np.float32),
        size.astype(np.float32),
        yaw.astype(np.float32),
    )
