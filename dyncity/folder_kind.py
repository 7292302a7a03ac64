"""What lies where something else was wanted: errors say that it is a checkpoint, a shard, a tree, not what it lacks."""

from __future__ import annotations

from pathlib import Path

from dyncity.errors import InputError

CORPUS, LATENTS, CHECKPOINT = "it is a corpus", "it holds latents", "it is a checkpoint"


def not_wanted(path: Path, missing: str, fix: str, wanted: str | None = None) -> InputError:
    """The error for a place that is not what was asked for.

    Args:
        path: what was named.
        missing: what is said of a folder that is nothing that dyncity wrote, e.g. ``there is no manifest.json in it``.
        fix: what to do; of a shard, or the folder of them, it is to give the corpus.
        wanted: the kind that was looked for. A run that begins may have made it one since, and that is not said.
    """
    if not path.exists():
        return InputError(path, "there is no such folder", fix)
    corpus = (
        path.parent if path.name == "shards" else next((p.parent for p in path.parents if p.name == "shards"), None)
    )
    if corpus is not None and (corpus / "manifest.json").is_file():
        return InputError(path, "it is a part of a corpus", f"give the corpus, {corpus}")
    if not path.is_dir():
        return InputError(path, "it is a file, not a folder", fix)
    found = kind_of(path)
    return InputError(path, missing if found is None or found == wanted else found, fix)


def kind_of(folder: Path) -> str | None:
    """``it is a corpus``, and so on, of a folder that dyncity wrote; None of any other."""
    if (folder / "manifest.json").is_file() and (folder / "shards").is_dir():
        return CORPUS
    if (folder / "latents.json").is_file():
        return LATENTS
    if (folder / "model.safetensors").is_file():
        return CHECKPOINT
    if (folder / "checkpoints").is_dir() and (folder / "config.json").is_file():
        return "it is a training run that has no weights yet"
    if folder.absolute().with_name(f"{folder.absolute().name}.scenes.json").is_file():
        return "it is an exported tree"
    return None
