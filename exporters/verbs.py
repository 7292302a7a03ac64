"""The verbs that read a corpus or a tree: export, verify, info, view."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dyncity.errors import InputError, one_line
from dyncity.options import Corpus, Out, Overwrite, Resume, check_file, closing, warn_unfinished
from dyncity.places import place
from exporters.formats import FORMATS, tree_format


def export(
    corpus: Corpus,
    out: Out,
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help=f"One of {', '.join(FORMATS)}.")],
    sequences: Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of the scenes in the tree.")] = None,
    scans: Annotated[bool, typer.Option("--scans/--no-scans", help="Write simulated LiDAR scans.")] = True,
    images: Annotated[bool, typer.Option("--images", help="KITTI's trees: write black image_2 placeholders.")] = False,
    cameras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a camera rig for masks and views.")
    ] = None,
    points: Annotated[bool, typer.Option("--points", help="rgbd: write point maps.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Processes that write; by default by the cores.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a corpus in the layout of a public data set.

    \b
    Examples:
      dyncity export corpus --format semantickitti --out kitti
      dyncity export corpus --format occ3d-nuscenes --out occ3d
      dyncity export corpus --format occ3d-nuscenes --out occ3d --workers 8 --resume
    """
    from dyncity.terminal import ProgressLine, show_table, size_text
    from exporters.cameras import read_cameras
    from exporters.native_tree import TreeOptions, read_numbers
    from exporters.trees import export_tree

    tree_format(kind)  # an option is looked at before the corpus is
    warn_unfinished(corpus)
    rig = read_cameras(cameras) if cameras else None
    options = TreeOptions(read_numbers(sequences) if sequences else None, scans, images, rig, points)
    with ProgressLine("export", "scenes") as progress:
        result = export_tree(
            *(corpus, kind, out),
            overwrite=overwrite,
            resume=resume,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            report=progress.update,
            options=options,
        )
    rows = [
        ("scenes", result.scenes),
        ("frames", result.frames),
        ("size", size_text(result.bytes)),
        *(("root", path) for path in result.paths),
        ("which is which", result.scene_list),
        *result.losses,
        *(("note", note) for note in result.notes),
    ]
    show_table(rows, title=str(out))
    closing("verify", out)


def verify(
    place: Annotated[Any, typer.Argument(metavar="CORPUS|TREE|LATENTS", parser=place, help="What to check.")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Read every scene of a corpus too: was its writer right?")
    ] = False,
) -> None:
    """Check every byte of a corpus, a tree or latents. One line a finding, at the speed of the disk.

    \b
    Examples:
      dyncity verify corpus
      dyncity verify corpus --decode
      dyncity verify kitti
      dyncity verify latents
    """
    from dyncity.terminal import ProgressLine
    from dyncity.training.latent_files import is_latents, verify_latents
    from exporters.tree_listing import is_tree, verify_tree
    from exporters.verification import is_repairable, verify_corpus

    latents = isinstance(place, Path) and is_latents(place)
    tree = isinstance(place, Path) and not latents and is_tree(place)
    with ProgressLine("verify", "files" if tree or latents else "shards") as progress:
        if latents:
            findings = verify_latents(place, progress.update)
        elif tree:
            findings = verify_tree(place, progress.update)
        else:
            findings = verify_corpus(place, decode=decode, compared=progress.update)
    for finding in findings:
        typer.echo(one_line(finding))
    if not findings:
        typer.echo(f"{place}: undamaged")
        return
    typer.echo(f"{place}: {len(findings)} {'finding' if len(findings) == 1 else 'findings'}")
    if not (tree or latents) and is_repairable(place, findings):
        closing("generate", "--repair", "--out", place)
    raise typer.Exit(1)


def info(
    folder: Annotated[
        Any, typer.Argument(metavar="CORPUS|TREE|CHECKPOINT|RUN", parser=place, help="What to describe, or its URI.")
    ],
) -> None:
    """Say what a folder holds.

    \b
    Example:
      dyncity info corpus
    """
    from dyncity.inventory import describe
    from dyncity.terminal import show_table
    from exporters.tree_listing import describe_tree, is_tree

    tree = isinstance(folder, Path) and is_tree(folder)
    show_table(describe_tree(folder) if tree else describe(folder), title=str(folder))


def view(
    corpus: Corpus,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .png, a .gif or a .html.")],
    scene: Annotated[str | None, typer.Option(metavar="ID", help="Which scene; by default the first.")] = None,
    scenes: Annotated[int | None, typer.Option(metavar="N", min=1, help="The first N scenes on one sheet.")] = None,
    beside: Annotated[
        Any, typer.Option(metavar="CORPUS", parser=place, help="As many of another corpus beside them.")
    ] = None,
    seen_from: Annotated[
        str, typer.Option("--from", metavar="outside|ego", help="From outside and above, or from behind the ego.")
    ] = "outside",
) -> None:
    """Draw a scene, or many. Frames side by side (.png), over time (.gif), a page to leaf through in a browser (.html).

    \b
    Examples:
      dyncity view corpus --out scene.png
      dyncity view corpus --out scene.gif
      dyncity view corpus --from ego --out drive.gif
      dyncity view corpus --scenes 16 --beside real --out sheet.gif
      dyncity view corpus --scenes 16 --out corpus.html
    """
    from exporters.behind import render_behind
    from exporters.page import draw_page
    from exporters.pictures import render_scene
    from exporters.sheets import draw_corpus, draw_scene

    if (kind := out.suffix.lower()) not in (".png", ".gif", ".html"):
        raise InputError("--out", f"found {out.name!r}", "name a .png, a .gif or a .html")
    check_file("--out", out)
    if scene is not None and (scenes is not None or beside is not None):
        raise InputError("--scene", "was given beside --scenes or --beside", "draw one scene, or many")
    if seen_from not in ("outside", "ego"):
        raise InputError("--from", f"found {seen_from!r}", "use one of outside, ego")
    if kind == ".html" and beside is not None:
        raise InputError("--beside", "was given for a page", "name a .png or a .gif, or make a page of each")
    for drawn_from in (corpus, beside):
        if drawn_from is not None:
            warn_unfinished(drawn_from)
    render = {"outside": render_scene, "ego": render_behind}[seen_from]
    many = scenes is not None or beside is not None
    if kind == ".html":
        drawn = draw_page(corpus, out, scenes or 16, scene, render)
    elif many:
        drawn = draw_corpus(corpus, out, scenes or 16, beside, render)
    else:
        drawn = draw_scene(corpus, out, scene, render)
    typer.echo(f"{drawn} drawn in {out}")
