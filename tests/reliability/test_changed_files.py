"""Files from outside with a value or a byte changed: read, or refused with one line; never a traceback, never NaN."""

import copy
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import small_config

from dyncity.checkpoint import build_dit, build_vae, load_checkpoint, save_checkpoint
from dyncity.config_file import config_json, override, to_dict
from dyncity.errors import InputError
from dyncity.layout_file import read_layout
from dyncity.presets import tiny
from dyncity.regions import read_region
from dyncity.training import loop
from dyncity.training.averaged import Averaged
from dyncity.training.latents import open_latents
from dyncity.training.run_folder import load_state, save_state
from dyncity.trajectory_file import read_trajectory
from exporters.cameras import read_cameras
from generators.sources import diffusion, procedural

# What no field is meant to hold; and numbers that fit no type, in JSON or in YAML.
ODD = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**400, -(10**400), 1e308, float("nan"), float("inf"), 1e-320),
    *("", "x", "1e999", "../x", "\0", "\x1b[2J\n", "x" * 10**5, [], {}, [[]], {"a": 1}, [0, 0, 0], [1e-30] * 3),
)
CONFIG = small_config()
AGENT = {"class": "vehicle", "size": [4.5, 1.9], "path": [[0, 10, 3, 0], [3, 11, 3, 0]]}
CAMERA = {"name": "front", "position": [1, 0, 1.5], "yaw": 0.0, "focal": 60.0, "width": 64, "height": 48}
REGION = {"boxes": [{"x": [0, 8], "y": [-2, 2]}], "polygons": [{"points": [[0, 0], [4, 0], [4, 4]]}], "frames": [2, 6]}
ROWS = [[float(k), 0.0, 0.0] for k in range(8)]
FILES: dict[str, tuple[Any, str, Callable[[Path], object]]] = {
    "configuration": (to_dict(tiny()), "c.yaml", lambda path: procedural("tiny", path, [], "ego", None).build()),
    "cameras": ([CAMERA], "c.json", read_cameras),
    "region": (REGION, "r.json", read_region),
    "agents": ({"agents": [AGENT]}, "l.json", lambda path: read_layout(path, tiny())),
    "trajectory": (ROWS, "t.json", lambda path: read_trajectory(path, 8, 5.0, 8)),
}
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside another."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(*above, key), *places(value[key], (*above, key))]]


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """A copy with another value at a place."""
    value = json.loads(json.dumps(value))
    node = value
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = odd
    return value


def survives(read: Callable[[Path], object], path: Path) -> None:
    """A file is read, or refused with one line of some length."""
    said = ""
    try:
        read(path)
    except InputError as error:
        said = str(error)
    assert len(said) < 1000
    assert "\n" not in said


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small checkpoint with fresh weights."""
    folder = tmp_path_factory.mktemp("changed") / "checkpoint"
    modules = {"vae": build_vae(CONFIG), "dit": build_dit(CONFIG)}
    tensors = {f"{part}.{name}": t for part, module in modules.items() for name, t in module.state_dict().items()}
    scale = {f"latent.{name}": torch.ones(6, CONFIG.vae.latent_channels) for name in ("mean", "std")}
    save_checkpoint(folder, CONFIG, tensors | scale, "# A card\n", "mit")
    return folder


@pytest.mark.parametrize("kind", FILES)
def test_a_value_that_no_field_is_meant_to_hold(kind, tmp_path):
    """Every odd value at every place of small files; of the configuration one in thirty."""
    content, name, read = FILES[kind]
    path = tmp_path / name
    every = [(place, odd) for place in places(content) for odd in ODD]
    for place, odd in every[:: max(1, len(every) // 120)]:
        value = changed(content, place, odd)
        path.write_text(yaml.safe_dump(value) if name.endswith("yaml") else json.dumps(value))
        survives(read, path)


@quick
@given(st.data())
def test_the_configuration_of_a_checkpoint(checkpoint, tmp_path, data):
    values = to_dict(CONFIG)
    value = changed(values, data.draw(st.sampled_from(places(values))), data.draw(st.sampled_from(ODD)))
    weights = tmp_path / "model.safetensors"
    if not weights.exists():
        weights.symlink_to(checkpoint / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(value))
    survives(lambda path: (load_checkpoint(path), diffusion(path, None, None, [], 1).build()), tmp_path)


@quick
@given(st.data())
def test_the_weights_of_a_checkpoint(checkpoint, tmp_path, data):
    """Bytes of the header or the body, types and shapes in the header."""
    content = (checkpoint / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        header = json.loads(content[8 : 8 + length])
        name = data.draw(st.sampled_from(sorted(header)))
        odd = {"dtype": ["I32", "F64", "BF16", "X"], "shape": [[], [0], [-1], [2**62, 4]], "data_offsets": [[0, 2**62]]}
        key = data.draw(st.sampled_from(sorted(odd)))
        header[name] = {**header[name], key: data.draw(st.sampled_from(odd[key]))}
        text = json.dumps(header).encode()
        content = struct.pack("<Q", len(text)) + text + content[8 + length :]
    else:
        place = data.draw(st.integers(0, len(content) - 4))
        content = content[:place] + data.draw(st.binary(max_size=4)) + content[place + 4 :]
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text(config_json(CONFIG))
    survives(load_checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: torch.where(torch.arange(t.numel()).view(t.shape) == 1, torch.nan, t), "not finite"),
        (lambda t: t.double() * 1e300, "not finite"),
        (lambda t: t.view(torch.int32), "is of torch.int32"),
    ],
)
def test_weights_that_are_no_numbers_are_told_before_a_scene_is_drawn(checkpoint, tmp_path, change, said):
    saved = load_checkpoint(checkpoint)
    tensors = {f"vae.{name}": tensor for name, tensor in saved.vae.state_dict().items()}
    name = next(name for name, tensor in tensors.items() if tensor.numel() > 1)
    save_checkpoint(tmp_path, CONFIG, {**tensors, name: change(tensors[name])}, "# A card\n", "mit")
    with pytest.raises(InputError, match=rf"model.safetensors: tensor {name} .*{said}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train_vae.lr=.nan", "train_vae.lr is nan; give a finite number"),
        ("train_vae.lr=1e999", "train_vae.lr is inf; give a finite number"),
        ("train_dit.lr=1" + "0" * 400, "give a finite number"),
        ("train_dit.seed=0x" + "f" * 5000, "train_dit.seed is a number of thousands of digits; give a whole number"),
        ("dit.heads=0", "dit.heads: found 0; give at least 1"),
        ("vae.downsample=[2, 0, 2, 2]", "vae.downsample: found .2, 0, 2, 2.; give at least 1"),
        ("train_dit.eval_every=0", "train_dit.eval_every: found 0; give at least 1"),
        ("train_dit.ema=1.5", "train_dit.ema: found 1.5; give at least 0, at most 1"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_refused_by_name(setting, said):
    with pytest.raises(InputError, match=said):
        override(tiny(), [setting])


def test_a_state_that_is_not_finite_is_passed_over(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    whole = {"weights.a": torch.arange(3.0)}
    save_state(tmp_path, 2, whole)
    save_state(tmp_path, 4, {"weights.a": torch.tensor([1.0, np.nan, 0.0])})
    step, tensors = load_state(tmp_path) or (0, {})
    assert step == 2
    assert torch.equal(tensors["weights.a"], whole["weights.a"])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rollout", lambda a: a[..., 0]),
        ("trajectory", lambda a: np.where(np.arange(a.size).reshape(a.shape) == 4, np.inf, a)),
        ("command", lambda a: a.astype(np.float64)),
        ("command", lambda a: a + np.uint8(200)),
        ("variance", lambda a: a.T),
        ("grid_yaw", lambda a: a[0]),
        ("layout", lambda a: a[:, :-1]),
        ("given", lambda a: a.astype(np.float32)),
    ],
)
def test_latents_whose_arrays_are_others(small_models, tmp_path, name, change):
    folder = tmp_path / "latents"
    shutil.copytree(small_models / "latents", folder)
    open_latents(folder)
    np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))
    with pytest.raises(InputError, match=r"make it (anew )?by dyncity encode") as refused:
        open_latents(folder)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t | {"optimizer.step.b": t["optimizer.step.b"].int()}, "see optimizer.step.b"),
        (
            lambda t: {name: tensor for name, tensor in t.items() if "exp_avg_sq" not in name},
            "see optimizer.exp_avg_sq.b",
        ),
        (lambda t: t | {"weights.b": t["weights.b"].int()}, "see weights.b"),
    ],
)
def test_a_state_of_another_model_is_refused_whole(tmp_path, change, said):
    module = torch.nn.ParameterDict({"b": torch.ones(2)})
    optimizer = torch.optim.AdamW(module.parameters())
    module["b"].sum().backward()
    optimizer.step()
    parameters = dict(module.named_parameters())
    averaged = Averaged(copy.deepcopy(module), parameters, torch.device("cpu"))
    tensors = loop._state(parameters, averaged, optimizer)
    (tmp_path / "checkpoints").mkdir()
    save_state(tmp_path, 3, tensors)
    assert loop._resume(tmp_path, parameters, averaged, optimizer) == 3
    save_state(tmp_path, 4, change(tensors))
    with pytest.raises(InputError, match=f"state of step 4 is of another model .{said}.; start over"):
        loop._resume(tmp_path, parameters, averaged, optimizer)
