"""The corpus that an edit is made of: does it fit the checkpoint, and what goes with what is made of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dyncity.config import Config
from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.regions import Region
from dyncity.scene import OccupancyScene

_LOOKED_AT = 16  # scenes


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
        raise InputError(region.where, found, "give another region")


def corpus_digest(corpus: Corpus) -> str:
    """sha256 of what the corpus holds."""
    return hashlib.sha256("".join(record.sha256 for record in corpus.manifest.shards).encode()).hexdigest()


def source_facts(source: OccupancyScene) -> dict[str, str]:
    """What the provenance of an edit says of the scene that it is made of: its name, and its terms if it has any."""
    terms = source.provenance.get("licence")
    return {"source": source.scene_id} | ({"licence": str(terms)} if terms else {})
