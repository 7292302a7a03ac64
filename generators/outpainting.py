"""Scenes of a corpus made larger: tiles around what is known, each given what it overlaps of all before it.

The planes are fixed to the world, so a tile is a clip's grid at another place, moved by whole voxels: what it shares
with the others is given to it voxel for voxel and comes out the same. A scene is held once, however many tiles it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import anchored
from dyncity.bounded_files import LARGEST
from dyncity.conditions import Conditions
from dyncity.config import SamplingConfig
from dyncity.errors import InputError
from dyncity.grid import GridSpec
from dyncity.object_storage import ObjectPath
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from generators.best_joined import best_joined
from generators.diffusion import LatentDiffusion
from generators.edited_corpus import check_fits, corpus_fingerprint, corpus_to_edit, scene_to_edit, source_facts
from generators.street_tiles import Tile, tile_at

_LARGEST_STEP = 0.75  # of a tile: at least a quarter of it is known when it is made
_LARGEST_SIDE = 4096  # voxels


@dataclass(frozen=True)
class Margins:
    """How much is added on each side, metres; x is ahead, y left, in the frame of the clip's middle pose."""

    ahead: float = 0.0
    behind: float = 0.0
    left: float = 0.0
    right: float = 0.0

    def __str__(self) -> str:
        return ",".join(f"{name}={getattr(self, name):g}" for name in self.__dataclass_fields__)

    def enlarged(self, grid: GridSpec, factors: tuple[int, int]) -> GridSpec:
        """The grid with these margins, rounded up to whole cells of ``factors`` voxels along x and y.

        Raises:
            InputError: a side becomes longer than 4096 voxels.
        """
        dx, dy, _ = grid.voxel_size
        fx, fy = factors
        ahead, behind = (fx * math.ceil(metres / dx / fx) for metres in (self.ahead, self.behind))
        left, right = (fy * math.ceil(metres / dy / fy) for metres in (self.left, self.right))
        x, y, z = grid.shape[0] + ahead + behind, grid.shape[1] + left + right, grid.shape[2]
        if max(x, y) > _LARGEST_SIDE:
            raise InputError("--outpaint", f"makes a grid of {x}x{y} voxels", f"stay below {_LARGEST_SIDE} a side")
        ox, oy, oz = grid.origin
        return replace(grid, shape=(x, y, z), origin=(ox - behind * dx, oy - right * dy, oz))


def read_margins(text: str) -> Margins:
    """Margins from ``60`` (all sides) or ``ahead=60,left=20``.

    Raises:
        InputError: something else stands there, or nothing would be added.
    """
    fix = "give metres, e.g. 60, or ahead=60,behind=0,left=20,right=20"
    sides: dict[str, float] = {}
    try:
        if "=" not in text:
            sides = dict.fromkeys(Margins.__dataclass_fields__, float(text))
        else:
            for part in text.split(","):
                name, _, value = part.strip().partition("=")
                if name not in Margins.__dataclass_fields__ or name in sides:
                    raise ValueError
                sides[name] = float(value)
    except ValueError:
        raise InputError("--outpaint", f"found {text!r}", fix) from None
    if not all(0 <= metres <= LARGEST for metres in sides.values()) or not any(sides.values()):
        raise InputError("--outpaint", f"found {text!r}", fix)
    return Margins(**sides)


def tile_starts(size: int, tile: int) -> list[int]:
    """Where tiles begin along an axis: from one end to the other in equal steps of at most 3/4 of a tile."""
    steps = math.ceil((size - tile) / (_LARGEST_STEP * tile))
    return [round(k * (size - tile) / steps) for k in range(steps + 1)] if steps else [0]


class Outpainting:
    """Keeps a scene voxel for voxel and generates what lies around it; implements ``SceneGenerator``.

    The scenes it makes are fixed to the world at the pose of their middle frame, so it can enlarge its own again.
    Nobody drives through most tiles, so they are made without command and trajectory.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: ego-centred scenes on the checkpoint's grid, or scenes fixed to the world on one at least as large as
            that of its clips; as long as a clip.
        margins: what to add.

    Raises:
        InputError: another label space, voxel size, height or length, or a checkpoint that does not know given voxels.
    """

    name = "diffusion"
    sampled = True

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, margins: Margins
    ) -> None:
        self.corpus = corpus_to_edit(corpus)  # first: it is refused before weights are read
        self.diffusion = LatentDiffusion(checkpoint, sampling)
        self.margins, self.micro_batch = margins, self.diffusion.micro_batch
        config = self.diffusion.config
        check_fits(corpus, self.corpus, config, checkpoint, clips=True)
        base = config.clip_grid if self.corpus.anchor is None else self.corpus.grid
        self.grid = margins.enlarged(base, config.vae.downsample[1:3])
        self._place = tuple(
            round((b - o) / s)
            for b, o, s in zip(base.origin[:2], self.grid.origin[:2], base.voxel_size[:2], strict=True)
        )
        self._base = base
        self.config = replace(config, grid=self.grid, clip=replace(config.clip, margin=(0, 0)))

    @property
    def scenes(self) -> int:
        """How many scenes there are to enlarge."""
        return len(self.corpus.scene_ids)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: the checkpoint, the corpus, the margins, the draws of a tile."""
        return {
            **self.diffusion.fingerprint(),
            **corpus_fingerprint(self.corpus),
            "outpaint": str(self.margins),
            "join_draws": self.diffusion.sampling.join_draws,
        }

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One enlarged scene a spec; a tile of all of them at a time, from the known ones outwards."""
        sources = [scene_to_edit(self.corpus, spec) for spec in specs]
        volumes = [self.begun(source) for source in sources]
        tiles = self.tiles()
        seeds = [stream(s.seed, s.index, Purpose.LATENT_NOISE).integers(2**62, size=len(tiles)) for s in specs]
        for number, window in enumerate(tiles):
            if not any((volume[window] == UNKNOWN).any() for volume in volumes):
                continue
            drawn = [SceneSpec(s.index, int(k[number])) for s, k in zip(specs, seeds, strict=True)]
            given = [volume[window].copy() for volume in volumes]
            asked = [Conditions(given=known) for known in given]
            made = best_joined(self.diffusion, drawn, asked, [known == UNKNOWN for known in given])
            for volume, tile in zip(volumes, made, strict=True):
                volume[window] = tile
        return [
            replace(
                source,
                scene_id=f"{self.name}-{spec.index:06d}",
                semantics=volume,
                grid=self.grid,
                anchor=source.frames // 2,
                conditions=replace(source.conditions, layout=None, given=None),  # the edit was not told of them
                instances=None,  # what is new has none
                boxes=None,
                mask_lidar=None,
                mask_camera=None,
                provenance={
                    "generator": self.name, "seed": spec.seed, "index": spec.index, "edit": "outpaint",
                    "margins": str(self.margins), **source_facts(source),
                },
            )
            for spec, source, volume in zip(specs, sources, volumes, strict=True)
        ]  # fmt: skip

    def tiles(self) -> list[Tile]:
        """The windows that cover the large grid, in the order in which they are made."""
        nx, ny, _ = self.diffusion.config.clip_grid.shape
        starts = product(tile_starts(self.grid.shape[0], nx), tile_starts(self.grid.shape[1], ny))
        return [tile_at(x, y, (nx, ny)) for x, y in sorted(starts, key=self._distance)]

    def _distance(self, tile: tuple[int, int]) -> float:
        """From the centre of a tile to that of what is known at first, voxels."""
        shape = self.diffusion.config.clip_grid.shape
        known = [p + n / 2 for p, n in zip(self._place, self._base.shape[:2], strict=True)]
        return math.hypot(*(t + n / 2 - k for t, n, k in zip(tile, shape[:2], known, strict=True)))

    def begun(self, source: OccupancyScene) -> NDArray[np.uint8]:
        """uint8 ``[t, x, y, z]`` on the large grid: what is known of a scene, 255 around it."""
        known = source if source.anchor is not None else anchored(source, self._base)
        volume = np.full((source.frames, *self.grid.shape), UNKNOWN, np.uint8)
        (x, y), (nx, ny, _) = self._place, self._base.shape
        volume[:, x : x + nx, y : y + ny] = known.semantics
        return volume
