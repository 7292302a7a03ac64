"""A checkpoint as a source of scenes: conditions -> DiT -> latent planes -> VAE -> ego-centred windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dyncity.anchoring import ego_windows
from dyncity.checkpoint import load_checkpoint, weights_digest
from dyncity.conditions import COMMANDS, Conditions, command_from_trajectory, poses_from_trajectory
from dyncity.config import Config
from dyncity.diffusion.flow import euler
from dyncity.diffusion.guidance import guided
from dyncity.errors import InputError
from dyncity.hexplane import planes_of, rollout_shape
from dyncity.models.attention import resolve_backend
from dyncity.models.conditioning import encode_conditions
from dyncity.scene import OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.trajectories import draw_trajectory

# How often each command occurs where none is asked for.
_COMMAND_SHARES = {"static": 0.15, "forward": 0.45, "left": 0.2, "right": 0.2}


class LatentDiffusion:
    """Scenes from a VAE and DiT checkpoint; implements ``SceneGenerator``.

    Every scene gets a trajectory: the given one, or one drawn for its command by its seed. With planes
    fixed to the world the trajectory is exact: the frames are windows cut out of the decoded volume
    along it.

    Args:
        checkpoint: a folder with VAE and DiT.
        steps, cfg_scale, micro_batch: override the checkpoint's sampling settings.
        attention: backend, ``dyncity.models.attention``.

    Raises:
        InputError: no such checkpoint, one without a DiT, or settings out of range.
    """

    name = "diffusion"

    def __init__(
        self,
        checkpoint: Path,
        steps: int | None = None,
        cfg_scale: float | None = None,
        micro_batch: int | None = None,
        attention: str = "auto",
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_checkpoint(checkpoint, self.device)
        if loaded.dit is None or loaded.scale is None:
            raise InputError(checkpoint, "holds a VAE but no DiT", "give a run of dyncity train dit")
        self.config: Config = loaded.config
        self.vae, self.dit = loaded.vae, loaded.dit
        if self.config.clip.planes != "world":
            raise InputError(
                checkpoint, "its planes move with the ego", "sample from a checkpoint with clip.planes=world"
            )
        self.dit.backend = resolve_backend(attention, self.device)
        sampling = self.config.sampling
        self.steps = sampling.steps if steps is None else steps
        self.cfg_scale = sampling.cfg_scale if cfg_scale is None else cfg_scale
        self.micro_batch = sampling.micro_batch if micro_batch is None else micro_batch
        for option, value, least in (("--steps", self.steps, 1), ("--micro-batch", self.micro_batch, 1)):
            if value < least:
                raise InputError(option, f"found {value}", f"give at least {least}")
        if not 0.0 <= self.cfg_scale <= 100.0:
            raise InputError("--cfg-scale", f"found {self.cfg_scale}", "give a scale from 0 to 100, 1 is none")
        self._latent = self.config.latent_shape
        self._mean, self._std = loaded.scale.maps(self._latent)
        self._digest, self._licence = weights_digest(checkpoint), loaded.licence

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs."""
        return {
            "checkpoint_sha256": self._digest,
            "steps": self.steps,
            "cfg_scale": self.cfg_scale,
            "sampler": "rectified flow, Euler",
            "attention": self.dit.backend,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "dtype": "float32",
            "torch": torch.__version__,
            "licence": self._licence,
        }

    def conditions(self, spec: SceneSpec) -> Conditions:
        """The conditions of a scene in full: a command and a trajectory that agree.

        Raises:
            InputError: a given trajectory has another number of frames than the checkpoint.
        """
        asked, frames = spec.conditions, self.config.clip.frames
        if asked.trajectory is not None:
            if len(asked.trajectory) != frames:
                raise InputError(
                    "--trajectory",
                    f"has {len(asked.trajectory)} rows",
                    f"give {frames}, one a frame of this checkpoint",
                )
            return Conditions(command_from_trajectory(asked.trajectory), asked.trajectory)
        rng = stream(spec.seed, spec.index, Purpose.CONDITIONS)
        drawn = rng.choice(COMMANDS, p=[_COMMAND_SHARES[c] for c in COMMANDS])
        command = asked.command or str(drawn)
        trajectory = draw_trajectory(command, frames, self.config.grid.frame_rate, rng)  # type: ignore[arg-type]
        return Conditions(command, trajectory)  # type: ignore[arg-type]

    @torch.inference_mode()
    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One scene a spec; a scene depends on its own spec alone (at this micro-batch)."""
        config, conditions = self.config, [self.conditions(spec) for spec in specs]
        shape = (config.vae.latent_channels, *rollout_shape(self._latent))
        noise = np.stack(
            [stream(s.seed, s.index, Purpose.LATENT_NOISE).standard_normal(shape, dtype=np.float32) for s in specs]
        )
        encoded = encode_conditions(
            [c.command for c in conditions],
            [c.trajectory for c in conditions],
            config.clip.frames,
            config.clip_grid,
            config.vae.downsample[1:3],
        ).to(self.device)
        denoiser = guided(self.dit, encoded, self.cfg_scale)
        rollouts = euler(denoiser, torch.from_numpy(noise).to(self.device), self.steps)
        planes = planes_of(rollouts * self._std + self._mean, self._latent)
        volumes = [
            self.vae.decode({p: plane[i : i + 1] for p, plane in planes.items()})[0].cpu().numpy()
            for i in range(len(specs))
        ]
        return [self._scene(s, c, v) for s, c, v in zip(specs, conditions, volumes, strict=True)]

    def _scene(self, spec: SceneSpec, conditions: Conditions, volume: np.ndarray) -> OccupancyScene:
        """A decoded volume ``[t, x, y, z]`` in the world-fixed grid -> ego-centred windows along the path."""
        config = self.config
        assert conditions.trajectory is not None
        frames, rate = config.clip.frames, config.grid.frame_rate
        fixed = OccupancyScene(
            scene_id=f"{self.name}-{spec.index:06d}",
            semantics=volume,
            poses=poses_from_trajectory(conditions.trajectory),
            grid=config.clip_grid,
            taxonomy=config.taxonomy,
            timestamps_us=np.round(np.arange(frames) * 1e6 / rate).astype(np.int64),
            conditions=conditions,
            anchor=frames // 2,
            provenance={"generator": self.name, "seed": spec.seed, "index": spec.index},
        )
        return ego_windows(fixed, config.grid)
