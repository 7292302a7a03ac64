"""A checkpoint as a source of scenes: conditions -> DiT -> latent planes -> VAE -> ego-centred windows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyncity.anchoring import ego_windows, path_on_grid
from dyncity.checkpoint import load_checkpoint
from dyncity.conditions import COMMANDS, Conditions, Layout, command_from_trajectory, poses_from_trajectory
from dyncity.config import SAMPLERS, Config, SamplingConfig
from dyncity.contradictions import contradictions
from dyncity.diffusion.ddpm import ancestral, ddim, dpmpp_2m, respaced_schedule
from dyncity.diffusion.flow import ab2, euler, heun
from dyncity.diffusion.guidance import Denoiser, guided, guided_within, weaker_selves
from dyncity.diffusion.joining import Repeats, joined, known_cells
from dyncity.drivable import check_drivable, check_within
from dyncity.errors import InputError
from dyncity.fetched_checkpoint import fetched
from dyncity.hexplane import planes_of, rollout_shape
from dyncity.layout import encode_layout, layout_cells, layout_channels
from dyncity.models.attention import resolve_backend
from dyncity.models.conditioning import NO_ROUTE, ConditionBatch, Route, encode_conditions
from dyncity.models.given import encode_given, normalised_given
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from dyncity.trajectories import draw_grid_yaw, draw_trajectory
from generators.asked_agents import columns_held, with_asked
from generators.mending import leaving_the_ego, mended
from generators.sampling_checked import check_sampling
from generators.standing_still import with_given

# How often each command occurs where none is asked for.
_COMMAND_SHARES = {"static": 0.15, "forward": 0.45, "left": 0.2, "right": 0.2}


class LatentDiffusion:
    """Scenes from a VAE and DiT checkpoint; implements ``SceneGenerator``.

    Every scene gets a trajectory: the given one, or one drawn for its command by its seed. With planes
    fixed to the world the trajectory is exact: the frames are windows cut out of the decoded volume
    along it.

    Args:
        checkpoint: a folder with VAE and DiT, or a place in object storage.
        sampling: how to draw latents; None: as the checkpoint says.

    Raises:
        InputError: no such checkpoint, one without a DiT, or settings out of range or not for this device.
    """

    name = "diffusion"
    sampled = True
    gives_voxels = False

    def __init__(self, checkpoint: Path | ObjectPath, sampling: SamplingConfig | None = None) -> None:
        checkpoint = fetched(checkpoint)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_checkpoint(checkpoint, self.device)
        if loaded.dit is None or loaded.scale is None:
            raise InputError(checkpoint, "holds a VAE but no DiT", "give a run of dyncity train dit")
        self.sampling = check_sampling(sampling or loaded.config.sampling, loaded.config.dit.objective)
        self.config: Config = replace(loaded.config, sampling=self.sampling)
        self.micro_batch = self.sampling.micro_batch
        # The frame whose ego pose places layouts and given voxels, or None: each frame's own.
        self.anchor = loaded.config.clip.frames // 2 if loaded.config.clip.planes == "world" else None
        self.vae, self.dit = loaded.vae, loaded.dit
        self.dit.backend = resolve_backend(self.sampling.attention, self.device, self.sampling.precision)
        self._weaker = weaker_selves(self.sampling)
        self._latent = self.config.latent_shape
        self._mean, self._std = loaded.scale.maps(self._latent)
        self._digest, self._licence = loaded.sha256, loaded.licence

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {
            "checkpoint_sha256": self._digest,
            "steps": self.sampling.steps,
            "time_shift": self.sampling.time_shift,
            "cfg_scale": self.sampling.cfg_scale,
            "cfg_scale_layout": self.sampling.cfg_scale_layout,
            "cfg_interval": " to ".join(map(str, self.sampling.cfg_interval)),
            "weaker_selves": "; ".join(
                f"{w.part}: {w.scale} in {w.interval[0]} to {w.interval[1]}" for w in self._weaker
            ),
            "joining": f"{self.sampling.join_rounds} in {' to '.join(map(str, self.sampling.join_interval))}",
            "smallest_vehicle": " x ".join(map(str, self.sampling.smallest_vehicle)),
            "whole_vehicles": self.sampling.whole_vehicles,
            "smallest_piece": self.sampling.smallest_piece,
            "widest_gap": self.sampling.widest_gap,
            "longest_jog": self.sampling.longest_jog,
            "upright": self.sampling.upright,
            "draw_asked": self.sampling.draw_asked,
            "sampler": f"{self.config.dit.objective}, {self.sampling.sampler}",
            "attention": self.dit.backend,
            # Vector instructions of another length add up in another order.
            "device": torch.cuda.get_device_name()
            if self.device.type == "cuda"
            else f"cpu, {torch.backends.cpu.get_cpu_capability()}",
            "dtype": self.sampling.precision,
            "torch": torch.__version__,
            "licence": self._licence,
        }

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The conditions of a scene in full: a command and a trajectory that agree.

        Raises:
            InputError: a given trajectory has another number of frames than the checkpoint, a layout or given
                voxels lie on another grid, the trajectory leaves it or cannot be driven, or the checkpoint was
                trained without them.
        """
        asked, frames = spec.conditions, self.config.clip.frames
        self._check_maps(asked)
        asked = replace(asked, layout=self._placed(asked.layout))
        rng = stream(spec.seed, spec.index, Purpose.CONDITIONS)
        if asked.trajectory is not None:
            if len(asked.trajectory) != frames:
                raise InputError(
                    "--trajectory",
                    f"has {len(asked.trajectory)} rows",
                    f"give {frames}, one a frame of this checkpoint",
                )
            check_drivable(asked.trajectory, self.config.grid.frame_rate, "--trajectory")
            grid_yaw = self._grid_yaw(asked, asked.trajectory, rng)
            if self.anchor is not None:  # whichever way the grid then lies
                check_within(path_on_grid(asked.trajectory, self.anchor, 0.0), self.config.clip_grid, "--trajectory")
            return replace(asked, command=command_from_trajectory(asked.trajectory), grid_yaw=grid_yaw)
        drawn = rng.choice(COMMANDS, p=[_COMMAND_SHARES[c] for c in COMMANDS])
        command = asked.command or str(drawn)
        trajectory = draw_trajectory(command, frames, self.config.grid.frame_rate, rng)  # type: ignore[arg-type]
        grid_yaw = self._grid_yaw(asked, trajectory, rng)
        return replace(asked, command=command, trajectory=trajectory, grid_yaw=grid_yaw)  # type: ignore[arg-type]

    def _grid_yaw(self, asked: Conditions, trajectory: NDArray[np.float64], rng: np.random.Generator) -> float | None:
        """How the grid lies: as it is asked, as layouts and given voxels have it, else as streets may run."""
        if asked.grid_yaw is not None or self.anchor is None:
            return asked.grid_yaw
        if asked.layout is not None:
            return asked.layout.grid_yaw or 0.0
        return draw_grid_yaw(trajectory, rng) if asked.given is None else 0.0

    def _placed(self, layout: Layout | None) -> Layout | None:
        """The layout with the grid of this checkpoint's clips, which is where its maps lie."""
        if layout is None:
            return None
        grid, anchor = self.config.clip_grid, self.anchor
        if layout.grid is not None and (layout.grid, layout.anchor) != (grid, anchor):
            raise InputError("layout", "lies on another grid", "give one on the grid of this checkpoint's clips")
        return replace(layout, grid=grid, anchor=anchor)

    def _check_maps(self, asked: Conditions) -> None:
        given, classes = asked.given, len(taxonomy(self.config.taxonomy))
        if given is not None and (given.dtype != np.uint8 or ((given >= classes) & (given != UNKNOWN)).any()):
            raise InputError(
                "given", f"found {given.dtype} up to {given.max()}", f"give uint8 ids below {classes}, or 255"
            )
        shape = self.config.clip_shape
        for name, value, known, found in (
            ("layout", asked.layout, self.config.dit.layout_plane, asked.layout and asked.layout.maps.shape[1:]),
            ("given", asked.given, self.config.dit.given, asked.given is not None and asked.given.shape),
        ):
            if value is None:
                continue
            if not known:
                raise InputError(name, "this checkpoint was trained without it", "use one that knows it")
            wanted = shape[:3] if name == "layout" else shape
            if found != wanted:
                raise InputError(name, f"found shape {found}", f"give {wanted}, the grid of this checkpoint's clips")

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; a scene depends on its own spec alone (at this micro-batch)."""
        return self.scenes(specs, [self.conditions(spec) for spec in specs])

    def scenes(self, specs: list[SceneSpec], conditions: list[Conditions]) -> list[OccupancyScene]:
        """One scene a spec under ``conditions`` in full, as the method of that name makes them."""
        volumes = self.volumes(specs, conditions)
        return [self._scene(s, c, v) for s, c, v in zip(specs, conditions, volumes, strict=True)]

    def with_asked(self, volume: NDArray[np.uint8], asked: Conditions, route: Route = NO_ROUTE) -> NDArray[np.uint8]:
        """A volume of ``volumes`` with the agents of its layout (``generators.asked_agents``), but where the ego is."""
        if not self.sampling.draw_asked or asked.layout is None:
            return volume
        drawn = with_asked(volume, asked.layout, self.config.clip_grid, self.config.taxonomy, asked.given)
        return with_given(leaving_the_ego(drawn, asked, route, self.config), asked.given)

    def facts(self, conditions: Conditions) -> dict[str, int]:
        """What a scene's provenance says of its conditions: how many voxels were given, how much contradicts itself."""
        found = contradictions(conditions, self.config.clip_grid, self.config.taxonomy, self.anchor)
        facts = {} if conditions.given is None else {"given_voxels": int((conditions.given != UNKNOWN).sum())}
        return facts | ({"contradictions": len(found)} if found else {})

    @torch.inference_mode()
    def volumes(
        self, specs: list[SceneSpec], conditions: list[Conditions], routes: list[Route] | None = None, shared: int = 0
    ) -> list[NDArray[np.uint8]]:
        """Class ids ``[t, x, y, z]`` on the clip's grid, with all given voxels as they were given.

        Args:
            specs: decide the noise.
            conditions: in full, as ``conditions`` makes them.
            routes: where each leads beyond its clip, if it is known.
            shared: how many of the first frames are those of a clip that this one continues.

        Raises:
            FloatingPointError: a latent or a logit is not finite.
        """
        config = self.config
        shape = (config.vae.latent_channels, *rollout_shape(self._latent))
        noise = np.stack(
            [stream(s.seed, s.index, Purpose.LATENT_NOISE).standard_normal(shape, dtype=np.float32) for s in specs]
        )
        ways = [NO_ROUTE] * len(specs) if routes is None else routes
        encoded = replace(encoded_ways(conditions, ways, config).to(self.device), **self._maps(conditions))
        half = self.sampling.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            rollouts = self._solve(encoded, conditions, torch.from_numpy(noise).to(self.device), specs).float()
        latents = rollouts * self._std + self._mean
        _check_finite(latents, specs)
        planes = planes_of(latents, self._latent)
        volumes = [
            self.vae.decode({p: plane[i : i + 1] for p, plane in planes.items()})[0].cpu().numpy()
            for i in range(len(specs))
        ]
        made = zip(volumes, conditions, ways, strict=True)
        return [mended(volume, asked, way, shared, config) for volume, asked, way in made]

    def _denoiser(self, encoded: ConditionBatch, conditions: list[Conditions]) -> Denoiser:
        """The DiT under guidance; scenes with a layout obey more by more of it, and without weaker selves."""
        sampling = self.sampling
        free = [c.layout is None or not c.layout.given.any() for c in conditions]
        strength = torch.tensor(free, dtype=torch.float32, device=self.device)
        weaker = self._weaker if any(free) else ()
        scales = torch.where(strength > 0, sampling.cfg_scale, max(sampling.cfg_scale, sampling.cfg_scale_layout))
        return guided(self.dit, encoded, scales, sampling.cfg_interval, weaker, strength)

    def _maps(self, conditions: list[Conditions]) -> dict[str, Tensor]:
        """The conditions that are maps, for those scenes that have them; zeros for the others."""
        maps: dict[str, Tensor] = {}
        if any(c.layout is not None for c in conditions):
            factors, shape = self.config.vae.downsample[1:3], self.config.latent_shape[1:3]
            nothing = np.zeros((layout_channels(self.config.clip.frames, factors), *shape), np.float32)
            encoded = [
                nothing
                if c.layout is None
                else encode_layout(layout_cells(c.layout.maps, factors), c.layout.given, c.layout.reach)
                for c in conditions
            ]
            maps["layout_plane"] = torch.from_numpy(np.stack(encoded)).to(self.device)
        if any(c.given is not None for c in conditions):
            open_clip = np.full(self.config.clip_shape, UNKNOWN, np.uint8)
            ids = np.stack([open_clip if c.given is None else c.given for c in conditions])
            # One clip at a time: in bytes, a scene depends on its own alone.
            features = torch.cat(
                [encode_given(self.vae, row) for row in torch.from_numpy(ids).to(self.device).split(1)]
            )
            maps["given"] = normalised_given(features, self._mean, self._std)
        return maps

    def _solve(
        self, encoded: ConditionBatch, conditions: list[Conditions], noise: Tensor, specs: list[SceneSpec]
    ) -> Tensor:
        """Noise ``[b, c, h, w]`` -> normalised rollouts, by the sampler of this generator."""
        sampling, streams = self.sampling, [stream(s.seed, s.index, Purpose.SAMPLER_NOISE) for s in specs]

        def fresh(step: int) -> Tensor:
            drawn = np.stack([s.standard_normal(noise.shape[1:], dtype=np.float32) for s in streams])
            return torch.from_numpy(drawn).to(noise.device)

        denoiser = self._denoiser(encoded, conditions)
        if sampling.sampler in SAMPLERS["flow"]:
            known = repeats = None
            if encoded.given is not None and sampling.join_rounds:
                known = known_cells(encoded.given, self._latent)
                untold = self._denoiser(encoded.dropped(given=known.rows), conditions)
                denoiser = joined(denoiser, untold, known, sampling.join_interval[1])
                repeats = Repeats(known.rows, sampling.join_rounds, sampling.join_interval, fresh)
            flow = {
                "euler": partial(euler, repeats=repeats),
                "heun": heun,
                "ab2": partial(ab2, repeats=repeats, intervals=guided_within(sampling)),
            }[sampling.sampler]
            data = flow(denoiser, noise, sampling.steps, sampling.time_shift)
            return data if known is None else known.placed(data)
        schedule = respaced_schedule(sampling.steps)
        if sampling.sampler in ("ddim", "dpmpp_2m"):
            return (ddim if sampling.sampler == "ddim" else dpmpp_2m)(denoiser, noise, schedule)
        return ancestral(denoiser, noise, schedule, fresh)

    def _scene(self, spec: SceneSpec, conditions: Conditions, volume: NDArray[np.uint8]) -> OccupancyScene:
        """A decoded volume ``[t, x, y, z]`` -> ego-centred frames.

        Planes fixed to the world: windows cut out along the path, whose poses are exact. Planes that move
        with the ego: the volume itself; its poses are those that were asked for, not measured, and all
        the same where the model knows no trajectory.
        """
        config, held = self.config, columns_held(volume, conditions.layout, self.config.taxonomy)
        assert conditions.trajectory is not None
        frames, rate = config.clip.frames, config.grid.frame_rate
        fixed, told = config.clip.planes == "world", config.dit.trajectory
        poses = poses_from_trajectory(conditions.trajectory)
        scene = OccupancyScene(
            scene_id=f"{self.name}-{spec.index:06d}",
            semantics=self.with_asked(volume, conditions),
            poses=poses if fixed or told else np.repeat(np.eye(4)[None], frames, axis=0),
            grid=config.clip_grid,
            taxonomy=config.taxonomy,
            timestamps_us=np.round(np.arange(frames) * 1e6 / rate).astype(np.int64),
            conditions=conditions
            if fixed or told
            else Conditions(conditions.command if config.dit.command else None, layout=conditions.layout),
            anchor=self.anchor,
            provenance={
                "generator": self.name,
                "seed": spec.seed,
                "index": spec.index,
                **({} if fixed else {"poses": "as asked" if told else "unknown"}),
                **self.facts(conditions),
                **held,
            },
        )
        return ego_windows(scene, config.grid) if fixed else scene


def encoded_ways(conditions: list[Conditions], routes: list[Route], config: Config) -> ConditionBatch:
    """The conditions of some clips that say where the ego goes; those that are maps are left out."""
    return encode_conditions(
        [c.command for c in conditions],
        [c.trajectory for c in conditions],
        config.clip.frames,
        config.clip_grid,
        config.vae.downsample[1:3],
        [c.grid_yaw or 0.0 for c in conditions],
        routes,
    )


def _check_finite(latents: Tensor, specs: list[SceneSpec]) -> None:
    """Raise FloatingPointError where the latents ``[b, c, h, w]`` of a scene hold NaN or infinity."""
    odd = (~torch.isfinite(latents)).flatten(1).sum(1).tolist()
    found = [f"{count} latents of scene {s.index} are not finite" for s, count in zip(specs, odd, strict=True) if count]
    if found:
        raise FloatingPointError(found[0])
