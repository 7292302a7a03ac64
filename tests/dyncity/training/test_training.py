from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_models import make_checkpoint, make_city, small_config

from dyncity.checkpoint import halve_checkpoint, load_checkpoint
from dyncity.conditions import Conditions
from dyncity.config_file import read_config
from dyncity.errors import InputError
from dyncity.hexplane import PLANES, rollout
from dyncity.layout import layout_cells, layout_of
from dyncity.scene import SceneSpec
from dyncity.training.clips import Clips, batch_numbers
from dyncity.training.dit_loop import latent_scale
from dyncity.training.latents import encode_corpus, open_latents
from dyncity.training.launch import train_dit, train_vae
from dyncity.training.run_folder import sole_writer
from generators.diffusion import LatentDiffusion

RUN = ("train_vae.steps=6", "train_vae.eval_every=1", "train_vae.checkpoint_every=2", "train_vae.decoded_frames=2")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_city(tmp_path_factory.mktemp("city") / "corpus")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, city: Path) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models"), city)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over threads differ in the last bits between runs: one thread is exact, and kinder to neighbours."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_an_interrupted_run_resumes_to_the_same_weights(city: Path, tmp_path: Path) -> None:
    config = small_config(*RUN)
    train_vae(config, city, tmp_path / "whole")

    def stop(metrics: dict) -> None:
        if metrics["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_vae(config, city, tmp_path / "parts", report=stop)
    train_vae(config, city, tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6], "every step is logged once, though step 5 ran twice"


def test_training_reports_what_it_learns(city: Path, tmp_path: Path) -> None:
    seen: list[dict] = []
    config = small_config("train_vae.steps=40", "train_vae.lr=0.01", "train_vae.warmup=5", "train_vae.ema=0.8")
    train_vae(config, city, tmp_path / "run", report=seen.append)
    assert seen[-1]["step"] == 40
    assert seen[-1]["loss"] < 0.9 * seen[0]["loss"]
    assert 0 < seen[-1]["miou"] <= 1
    assert 0 < seen[-1]["miou_carlasc"] <= 1
    assert load_checkpoint(tmp_path / "run").dit is None


def test_an_existing_run_is_never_touched_unasked(city: Path, checkpoint: Path) -> None:
    run = checkpoint.with_name("vae")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="--resume or --overwrite"):
        train_vae(small_config("train_vae.steps=4"), city, run)
    with pytest.raises(InputError, match="another configuration"):
        train_vae(small_config("train_vae.steps=5"), city, run, resume=True)
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    foreign = run.parent / "thesis"
    foreign.mkdir()
    (foreign / "chapter1").write_text("words")
    with pytest.raises(InputError, match="not a training run"):
        train_vae(small_config(), city, foreign, overwrite=True)
    assert (foreign / "chapter1").read_text() == "words"


def test_a_run_goes_on_with_what_it_was_started_on(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", small_config("train_vae.steps=1")
    moved, other = (shutil.copytree(city, tmp_path / name) for name in ("moved", "other"))
    train_vae(config, city, run, start=checkpoint)
    card = other / "manifest.json"
    card.write_text(card.read_text().replace(" ", "  ", 1))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=f"--data: is not what {run} was started on"):
        train_vae(config, other, run, start=checkpoint, resume=True)
    with pytest.raises(InputError, match="--start-from: is not what"):
        train_vae(config, city, run, resume=True)
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    train_vae(config, moved, run, start=checkpoint, resume=True)


@pytest.mark.parametrize("change", ["name", "shape"])
def test_a_state_of_another_model_is_one_line(city: Path, checkpoint: Path, tmp_path: Path, change: str) -> None:
    run = shutil.copytree(checkpoint.with_name("vae"), tmp_path / "run")
    for path in run.glob("checkpoints/*/state.safetensors"):
        tensors = load_file(path)
        name = next(name for name in tensors if name.startswith("weights."))
        tensor = tensors.pop(name)
        save_file(tensors | ({"weights.other": tensor} if change == "name" else {name: tensor[:0]}), path)
        path.with_name("state.safetensors.sha256").unlink()
    config = read_config(run / "config.json")
    with pytest.raises(InputError, match=r"its state of step \d+ is of another model"):
        train_vae(config, city, run, resume=True)


def test_overwriting_a_run_says_what_goes_and_waits_for_who_trains_it(
    city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dyncity.training.run_folder._SECONDS_OF_ORPHANS", 0.0)
    run, config = tmp_path / "run", small_config("train_vae.steps=1")
    train_vae(config, city, run)
    files = [p for p in run.rglob("*") if p.is_file() and p.name != ".lock"]
    before, said = {p: p.read_bytes() for p in files}, []
    with sole_writer(run, patience=0.0), pytest.raises(InputError, match="another process is training this run"):
        train_vae(config, city, run, overwrite=True, say=said.append)
    assert said == []
    assert before == {p: p.read_bytes() for p in files}
    (run / "checkpoints" / "of-the-old-run").write_text("x")
    (run / "notes").mkdir()
    (run / "notes" / "mine.txt").write_text("mine")
    train_vae(config, city, run, overwrite=True, say=said.append)
    assert (run / "notes" / "mine.txt").read_text() == "mine"
    size = sum(map(len, before.values())) + 1
    assert said == [f"--overwrite deletes {run}: a run of {len(files) + 1} files, {size} bytes"]
    assert not (run / "checkpoints" / "of-the-old-run").exists()


def test_bad_requests_leave_nothing_behind(city: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="voxel_size"):
        train_vae(small_config("grid.voxel_size=[0.4, 0.4, 0.4]"), city, tmp_path / "run")
    with pytest.raises(InputError, match="--workers"):
        train_vae(small_config(), city, tmp_path / "run", workers=(3, 3))
    with pytest.raises(InputError, match="no scene has 16 frames"):
        train_vae(small_config("clip.frames=16"), city, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_latents_are_the_means_of_every_clip(city: Path, checkpoint: Path) -> None:
    latents = open_latents(checkpoint.with_name("latents"))
    clips = Clips(city, latents.config)
    assert len(latents.rollout) == len(clips) == 6
    np.testing.assert_allclose(latents.trajectory[2], clips[2].trajectory)
    vae = load_checkpoint(checkpoint).vae
    with torch.inference_mode():
        posteriors = [vae.encode(torch.from_numpy(clips[i].ids)[None]) for i in range(6)]
    np.testing.assert_allclose(latents.rollout[2], rollout(posteriors[2].mean)[0], rtol=1e-2, atol=1e-3)
    variance = np.mean([p.log_variance["tx"].exp().mean(dim=(0, 2, 3)).numpy() for p in posteriors], axis=0)
    np.testing.assert_allclose(latents.variance[PLANES.index("tx")], variance, rtol=1e-4)
    assert set(latents.train).isdisjoint(latents.held)


def test_training_goes_on_from_a_checkpoint(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    """With a rate of nothing the weights stay those of the checkpoint; a fresh run has others."""
    still = ("train_vae.lr=0.0", "train_dit.lr=0.0", "train_vae.steps=2", "train_dit.steps=2")
    train_vae(small_config(*still), city, tmp_path / "vae", start=checkpoint)
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "vae"))
    for name, weights in after.items():
        np.testing.assert_array_equal(weights, before[name])
    folders = checkpoint.with_name("latents"), checkpoint.with_name("vae")
    train_dit(small_config(*still), *folders, tmp_path / "dit", start=checkpoint)
    after = load_file(tmp_path / "dit" / "model.safetensors")
    for name, weights in before.items():
        np.testing.assert_array_equal(weights, after[name])


def test_a_checkpoint_to_start_from_has_to_fit(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has shape"):
        train_vae(small_config("vae.channels=8"), city, tmp_path / "run", start=checkpoint)
    folders = checkpoint.with_name("latents"), checkpoint.with_name("vae")
    with pytest.raises(InputError, match="holds no dit"):
        train_dit(small_config(), *folders, tmp_path / "run", start=checkpoint.with_name("vae"))
    assert not (tmp_path / "run").exists()


def test_latents_hold_what_the_map_conditions_need(city: Path, checkpoint: Path) -> None:
    latents = open_latents(checkpoint.with_name("latents"))
    clips = Clips(city, latents.config)
    assert latents.layout is not None
    assert latents.given is not None
    cells = layout_cells(layout_of(clips[3].ids, "native").maps, latents.config.vae.downsample[1:3])
    np.testing.assert_allclose(latents.layout[3] / 255, cells, atol=1 / 255)
    share = latents.given[:, -1]
    assert ((share >= 0) & (share <= 1)).all()
    assert all(s.max() > 0 for s in share)


def test_latents_without_them_are_refused_by_a_model_that_wants_them(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.with_name("latents").iterdir():
        if file.name not in ("given.npy", "latents.json.sha256"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads((tmp_path / "latents.json").read_text())
    del facts["sha256"]["given.npy"]
    (tmp_path / "latents.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"without what dit\.given needs"):
        train_dit(small_config(), tmp_path, checkpoint.with_name("vae"), tmp_path / "dit")
    assert not (tmp_path / "dit").exists()


def test_a_channel_that_varies_less_than_its_noise_is_not_scaled_up(checkpoint: Path) -> None:
    latents = open_latents(checkpoint.with_name("latents"))
    noisy = replace(latents, variance=latents.variance + 100.0)
    np.testing.assert_allclose(latent_scale(noisy).std, 10.0, rtol=0.1)
    assert (latent_scale(replace(latents, variance=0 * latents.variance)).std < 5).all()


def test_latents_of_another_vae_are_refused(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    train_vae(small_config("train_vae.steps=2", "train_vae.seed=1"), city, tmp_path / "other")
    with pytest.raises(InputError, match="another VAE"):
        train_dit(small_config(), checkpoint.with_name("latents"), tmp_path / "other", tmp_path / "dit")
    assert not (tmp_path / "dit").exists()
    with pytest.raises(InputError, match="already exists"):
        encode_corpus(city, tmp_path / "other", checkpoint.with_name("latents"))


def test_overwriting_latents_says_what_goes(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    out, said = shutil.copytree(checkpoint.with_name("latents"), tmp_path / "latents"), []
    sizes = [path.stat().st_size for path in out.iterdir()]
    encode_corpus(city, checkpoint, out, overwrite=True, say=said.append)
    assert said == [f"--overwrite deletes {out}: latents of {len(sizes)} files, {sum(sizes)} bytes"]
    encode_corpus(city, checkpoint, tmp_path / "fresh", overwrite=True, say=said.append)
    assert len(said) == 1, "nothing was there"


def test_overwriting_latents_leaves_the_files_of_others(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = shutil.copytree(checkpoint.with_name("latents"), tmp_path / "latents")
    (out / "notes").mkdir()
    (out / "notes" / "why.txt").write_text("mine")
    (out / "curve.npy").write_bytes(b"mine too")
    encode_corpus(city, checkpoint.with_name("vae"), out, overwrite=True)
    assert (out / "notes" / "why.txt").read_text() == "mine"
    assert (out / "curve.npy").read_bytes() == b"mine too"
    fresh = checkpoint.with_name("latents")
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in fresh.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]


@pytest.mark.parametrize("moment", ["writing", "replaced", "placed"])
def test_an_encode_that_was_killed_loses_nothing_and_leaves_nothing(
    city: Path, checkpoint: Path, tmp_path: Path, moment: str
) -> None:
    """What it leaves beside the place at each moment, as its own code names it."""
    fresh, out, partial = checkpoint.with_name("latents"), tmp_path / "latents", tmp_path / ".latents.partial"
    partial.mkdir()
    shutil.copytree(fresh, partial / "replaced" if moment == "replaced" else out)
    shutil.copytree(fresh, partial / ("replaced" if moment == "placed" else "made"), dirs_exist_ok=True)
    (partial / "replaced" if moment == "replaced" else out).joinpath("mine.txt").write_text("mine")
    encode_corpus(city, checkpoint.with_name("vae"), out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"mine.txt": b"mine"} | {
        path.name: path.read_bytes() for path in fresh.iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]


def test_two_encodes_to_one_place_do_not_meet(city: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / ".latents.partial").mkdir()
    with (
        sole_writer(tmp_path / ".latents.partial", 0.0),
        pytest.raises(InputError, match="another process is encoding to it"),
    ):
        encode_corpus(city, checkpoint, tmp_path / "latents")
    assert not (tmp_path / "latents").exists()


def test_latents_fit_every_checkpoint_that_holds_their_vae(checkpoint: Path, tmp_path: Path) -> None:
    """The run of the DiT has the VAE too; which file it lies in is nothing that latents depend on."""
    train_dit(small_config("train_dit.steps=1"), checkpoint.with_name("latents"), checkpoint, tmp_path / "dit")
    assert (tmp_path / "dit" / "model.safetensors").is_file()


@pytest.mark.parametrize("damage", ["truncate", "missing", "reshape"])
def test_damaged_checkpoints_are_named(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    weights = tmp_path / "model.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["dit"]["width"] = 64
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path)


def test_half_precision_halves_the_file_and_hardly_changes_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    halve_checkpoint(checkpoint, tmp_path / "half")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (checkpoint, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    whole, half = load_checkpoint(checkpoint).vae.state_dict(), load_checkpoint(tmp_path / "half").vae.state_dict()
    for name, value in whole.items():
        np.testing.assert_allclose(half[name], value, rtol=2e-3, atol=1e-6)


def test_clips_of_ego_frames_become_world_fixed(tmp_path: Path) -> None:
    """The same scenes, written ego-centred, train the same model; what no frame saw is unknown."""
    config = small_config()
    fixed = Clips(make_city(tmp_path / "world", 2), config)
    moving = Clips(make_city(tmp_path / "ego", 2, frame="ego"), config)
    for i in range(2):
        np.testing.assert_allclose(fixed[i].trajectory, moving[i].trajectory, atol=1e-6)
        known = moving[i].ids != 255
        assert known.mean() > 0.4
        assert (moving[i].ids[known] == fixed[i].ids[known]).mean() > 0.85


def test_held_out_clips_share_no_frame_with_training_clips(tmp_path: Path) -> None:
    config = small_config()
    clips = Clips(make_city(tmp_path / "ego", 3, frame="ego"), small_config("clip.frames=2"))
    train, held = clips.split()
    frames = {(clips._clips[i][0], clips._clips[i][1] + k) for i in train for k in range(2)}
    for i in held:
        scene, start = clips._clips[i]
        assert not {(scene, start), (scene, start + 1)} & frames
    assert config.clip.frames == 4


def test_every_clip_is_seen_once_an_epoch() -> None:
    order = np.random.default_rng(0).permutation(10)
    seen = np.concatenate([batch_numbers(order, step, 4) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


PUBLISHED = (
    "clip.planes=ego",
    "clip.margin=[0, 0]",
    "vae.encoder=frames",
    "vae.projection=attention",
    "vae.fusion=product",
    "dit.objective=ddpm",
    "dit.path_plane=false",
    "sampling.sampler=dpmpp_2m",
)


def test_the_published_form_trains_and_generates(city: Path, tmp_path: Path) -> None:
    settings = (*PUBLISHED, "train_vae.steps=2", "train_dit.steps=60", "train_dit.batch=4", "train_dit.lr=0.01")
    config, seen = small_config(*settings), []
    ego = make_city(tmp_path / "ego", frame="ego")
    train_vae(config, ego, tmp_path / "vae")
    encode_corpus(ego, tmp_path / "vae", tmp_path / "latents")
    train_dit(config, tmp_path / "latents", tmp_path / "vae", tmp_path / "dit", report=seen.append)
    assert seen[-1]["mse"] < 0.9 * seen[0]["mse"]
    source = LatentDiffusion(tmp_path / "dit")
    scene = source.generate([SceneSpec(0, 3, Conditions("forward")), SceneSpec(1, 3)])[0]
    assert scene.grid == config.grid
    assert scene.provenance["poses"] == "as asked"


@pytest.mark.parametrize(
    "choice",
    ["train_vae.precision=bfloat16", pytest.param("train_vae.compile=true", marks=pytest.mark.slow)],
)
def test_faster_arithmetic_learns_alike(city: Path, tmp_path: Path, choice: str) -> None:
    if "compile" in choice and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    losses = []
    for i, settings in enumerate([(), (choice,)]):
        seen: list[dict] = []
        train_vae(small_config(*RUN, *settings), city, tmp_path / str(i), report=seen.append)
        losses.append([metrics["loss"] for metrics in seen if "loss" in metrics])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
