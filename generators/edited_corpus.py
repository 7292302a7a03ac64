"""The corpus that an edit is made of: does it fit the checkpoint, and what goes with what is made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyncity.config import Config
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.regions import Region
from dyncity.scene import OccupancyScene, SceneSpec

_LOOKED_AT = 16  # scenes
LEAVE_SOME = "leave some of it out, by boxes, polygons, classes or frames; dyncity generate makes whole scenes"


def corpus_to_edit(place: Path | ObjectPath) -> Corpus:
    """The corpus.

    Raises:
        InputError: no corpus, or one without scenes.
    """
    corpus = open_corpus(place)
    if not corpus.scene_ids:
        raise InputError(place, "it holds no scene", "give a corpus with scenes")
    return corpus


def check_fits(
    place: Path | ObjectPath, corpus: Corpus, config: Config, checkpoint: Path | ObjectPath, clips: bool = False
) -> None:
    """Raise InputError unless scenes of the corpus can be given to the checkpoint, voxel for voxel.

    Args:
        place: of the corpus, for messages.
        corpus: ego-centred scenes on the checkpoint's grid, or scenes fixed to the world on one at least as large as
            that of its clips.
        config, checkpoint: its configuration and place.
        clips: all scenes have to be as long as a clip.
    """
    if config.clip.planes != "world" or not config.dit.given:
        raise InputError(checkpoint, "it cannot be given voxels", "use a checkpoint trained with dit.given")
    if corpus.taxonomy != config.taxonomy:
        raise InputError(place, f"its label space is {corpus.taxonomy}", f"use a corpus with {config.taxonomy} labels")
    frames, clip, grid = config.clip.frames, config.clip_grid, corpus.grid
    if corpus.anchor is None and grid != config.grid:
        raise InputError(place, f"its grid is {grid}", f"use a corpus on this checkpoint's: {config.grid}")
    if corpus.anchor is not None:
        same = (grid.voxel_size, grid.shape[2], grid.origin[2], grid.frame_rate) == (
            clip.voxel_size, clip.shape[2], clip.origin[2], clip.frame_rate
        )  # fmt: skip
        small = any(n < m for n, m in zip(grid.shape[:2], clip.shape[:2], strict=True))
        if not same or small or corpus.anchor != frames // 2:
            fix = f"use scenes anchored at frame {frames // 2} on at least this checkpoint's: {clip}"
            raise InputError(place, f"its grid is {grid}, anchored at frame {corpus.anchor}", fix)
    for scene_id in corpus.scene_ids if clips else ():
        if (found := corpus.frames(scene_id)) != frames:
            raise InputError(place, f"scene {scene_id} has {found} frames", f"use scenes of {frames}")


def check_covers(region: Region, corpus: Corpus) -> None:
    """Look at scenes until the region covers something of one, to fail before anything is written.

    A scene in which it covers nothing, of a class that is not there for one, is kept as it is.

    Raises:
        InputError: the region covers nothing of any of the first scenes.
    """
    first = corpus.scene_ids[:_LOOKED_AT]
    if not any(region.mask(corpus.scene(scene_id)).any() for scene_id in first):
        found = f"covers nothing of {first[0] if len(first) == 1 else f'the first {len(first)} scenes'}"
        fix = "give one that holds voxels of them: metres from the ego of the first frame, x ahead, y left"
        raise InputError(region.where, found, fix)


def corpus_fingerprint(corpus: Corpus) -> dict[str, str]:
    """What the fingerprint of an edit says of its corpus: a digest of all that it holds."""
    digest = hashlib.sha256("".join(record.sha256 for record in corpus.manifest.shards).encode())
    return {"edited_corpus_sha256": digest.hexdigest()}


def scene_to_edit(corpus: Corpus, spec: SceneSpec) -> OccupancyScene:
    """The scene that an edit is made of; specs beyond the last one, which fill up a micro-batch too, begin anew."""
    return corpus.scene(corpus.scene_ids[spec.index % len(corpus.scene_ids)])


def inpainted(
    source: OccupancyScene,
    spec: SceneSpec,
    semantics: NDArray[np.uint8],
    region: Region,
    facts: Mapping[str, int] | None = None,
) -> OccupancyScene:
    """The source with other voxels inside a region, and what its provenance says of that."""
    return replace(
        source,
        semantics=semantics,
        conditions=replace(source.conditions, layout=None),  # the edit was not told of it
        instances=None,  # what is new has none
        boxes=None,
        provenance={
            "generator": "diffusion", "seed": spec.seed, "index": spec.index, "edit": "inpaint",
            "region": region.to_json(), **source_facts(source), **(facts or {}),
        },
    )  # fmt: skip


def source_facts(source: OccupancyScene) -> dict[str, str]:
    """What the provenance of an edit says of the scene that it is made of: its name, and its terms if it has any."""
    terms = source.provenance.get("licence")
    return {"source": source.scene_id} | ({"licence": str(terms)} if terms else {})
