"""Enlarged scenes, generated anew inside a region: in tiles of the clip's grid that hold it, known all around."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import path_on_grid
from dyncity.conditions import Conditions, trajectory_from_poses
from dyncity.config import SamplingConfig
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.regions import Region
from dyncity.scene import UNKNOWN, OccupancyScene, SceneSpec
from dyncity.seeding import Purpose, stream
from generators.best_joined import best_joined
from generators.diffusion import LatentDiffusion
from generators.edited_corpus import (
    LEAVE_SOME,
    check_covers,
    check_fits,
    corpus_fingerprint,
    corpus_to_edit,
    inpainted,
    scene_to_edit,
)
from generators.ego_space import clear_of_movers
from generators.outpainting import tile_starts
from generators.street_tiles import Tile, street_tile, tile_at


def tiles_around(made: NDArray[np.bool_], shape: tuple[int, ...]) -> list[Tile]:
    """Tiles as large as ``shape`` that cover columns ``[x, y]``: one with them in its middle, or several next to it."""
    starts = []
    covered = (np.asarray(made.any(axis=1)), np.asarray(made.any(axis=0)))
    for columns, tile in zip(covered, shape, strict=False):
        first, last = np.flatnonzero(columns)[[0, -1]]
        span = max(tile, int(last + 1 - first))
        begin = min(max(0, int(first + last + 1 - span) // 2), len(columns) - span)
        starts.append([begin + start for start in tile_starts(span, tile)])
    return [tile_at(x, y, shape) for x, y in product(*starts)]


class LargeInpainting:
    """Inpainting of scenes that are fixed to the world, as ``--outpaint`` makes them; implements ``SceneGenerator``.

    Tiles are made without command and trajectory, as those of ``Outpainting``; movers in the space of the ego are taken
    out.

    Args:
        checkpoint, sampling: of the diffusion.
        corpus: scenes fixed to the world on a grid at least as large as that of a clip, as long as one.
        region: what to generate.

    Raises:
        InputError: as ``Outpainting``.
    """

    name = "diffusion"
    sampled = True

    def __init__(
        self, checkpoint: Path | ObjectPath, sampling: SamplingConfig, corpus: Path | ObjectPath, region: Region
    ) -> None:
        self.corpus = corpus_to_edit(corpus)
        self.diffusion = LatentDiffusion(checkpoint, sampling)
        self.region, self.micro_batch = region, self.diffusion.micro_batch
        config = self.diffusion.config
        check_fits(corpus, self.corpus, config, checkpoint, clips=True)
        self.config = replace(config, grid=self.corpus.grid, clip=replace(config.clip, margin=(0, 0)))

    @property
    def scenes(self) -> int:
        """How many scenes there are to edit."""
        return len(self.corpus.scene_ids)

    def fingerprint(self) -> dict[str, str | int | float]:
        """What decides the bytes besides the specs: the checkpoint, the corpus, the region, the draws of it."""
        return {
            **self.diffusion.fingerprint(),
            **corpus_fingerprint(self.corpus),
            "region": repr(self.region),
            "join_draws": self.diffusion.sampling.join_draws,
        }

    def check(self) -> None:
        """Raise InputError where the region covers nothing of the first scenes (``check_covers``)."""
        check_covers(self.region, self.corpus)

    def generate(self, specs: list[SceneSpec]) -> list[OccupancyScene]:
        """One edited scene a spec; one of which the region covers nothing is as it was.

        Raises:
            InputError: a region that covers all of a scene.
        """
        sources = [scene_to_edit(self.corpus, spec) for spec in specs]
        holes = [self._hole(source) for source in sources]
        volumes = [np.where(h, UNKNOWN, s.semantics).astype(np.uint8) for h, s in zip(holes, sources, strict=True)]
        tiles = [self._tiles(volume, hole) for volume, hole in zip(volumes, holes, strict=True)]
        count = max(map(len, tiles))
        seeds = [stream(s.seed, s.index, Purpose.LATENT_NOISE).integers(2**62, size=count) for s in specs]
        for number in range(count):
            # Rows of scenes that need no more tiles are made and not used: a scene does not depend on its company.
            here = [places[min(number, len(places) - 1)] for places in tiles]
            drawn = [SceneSpec(s.index, int(k[number])) for s, k in zip(specs, seeds, strict=True)]
            asked = [Conditions(given=volume[tile].copy()) for volume, tile in zip(volumes, here, strict=True)]
            open_ = [np.asarray(conditions.given == UNKNOWN) for conditions in asked]
            filled = best_joined(self.diffusion, drawn, asked, open_)
            for volume, places, new in zip(volumes, tiles, filled, strict=True):
                if number < len(places):
                    volume[places[number]] = new
        made = [
            np.where(hole, self._cleared(source, volume), source.semantics).astype(np.uint8)
            for source, hole, volume in zip(sources, holes, volumes, strict=True)
        ]
        edited = zip(sources, specs, made, strict=True)
        return [inpainted(source, spec, semantics, self.region) for source, spec, semantics in edited]

    def _hole(self, source: OccupancyScene) -> NDArray[np.bool_]:
        hole = self.region.mask(source)
        if hole.all():
            raise InputError(self.region.where, f"covers everything of scene {source.scene_id}", LEAVE_SOME)
        return hole

    def _tiles(self, volume: NDArray[np.uint8], hole: NDArray[np.bool_]) -> list[Tile]:
        """The tile that lies best of those that hold a region, or several that cover one larger than a tile."""
        grid, made = self.diffusion.config.clip_grid, np.asarray(hole.any(axis=(0, 3)))
        if not made.any():
            return [tile_at(0, 0, grid.shape)]
        if one := street_tile(volume, made, grid, self.config.taxonomy):
            return [one]
        return tiles_around(made, grid.shape)

    def _cleared(self, source: OccupancyScene, volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The volume without movers in the space of the ego."""
        path = path_on_grid(trajectory_from_poses(source.poses), source.anchor, source.conditions.grid_yaw)
        return clear_of_movers(volume, path, 0, source.grid, source.taxonomy)
