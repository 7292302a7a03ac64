"""The plain models give the recorded numbers, so they may speak for the released ones at other sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_dit import Given, PlainDDPM, PlainDiT, plain_mask, plain_rollout
from plain_vae import PLANES, PlainVAE, class_loss, kl, lovasz
from recorded_numbers import PLACES, close, config_of, dit_config, dit_weights, folder_of
from safetensors.torch import load_file
from torch import Tensor

Values = dict[str, Tensor]


@pytest.fixture(params=PLACES, scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    return folder_of(request.param)


@pytest.fixture(scope="module")
def values(folder: Path) -> Values:
    return {**load_file(folder / "vae_values.safetensors"), **load_file(folder / "dit_values.safetensors")}


def dit_of(folder: Path, kind: str) -> PlainDiT:
    model = PlainDiT(dit_config(folder, kind)).eval()
    model.load_state_dict(load_file(dit_weights(folder, kind)))
    return model


@torch.inference_mode()
def test_vae(folder: Path, values: Values) -> None:
    config = config_of(folder)
    model = PlainVAE(config, config.vae.class_slots).eval()
    model.load_state_dict(load_file(folder / "vae_weights.safetensors"))
    planes, (mean, log_variance) = model.encoder(values["voxels"]), model.encode(values["voxels"])
    for p in PLANES:
        close(planes[p], values[f"encoder.{p}"])
        close(mean[p], values[f"mu.{p}"])
        close(log_variance[p], values[f"logvar.{p}"])
    means = {p: values[f"mu.{p}"] for p in PLANES}
    logits = model.decoder(means).movedim(2, -1)
    close(logits[:, : values["logits"].shape[1]], values["logits"])
    assert torch.equal(plain_rollout(means), values["rollout"])
    assert torch.equal(plain_mask(config.latent_shape), values["rollout_mask"])


def test_vae_losses(values: Values) -> None:
    if "loss.ce" not in values:
        pytest.skip("this subset holds the logits of one frame only")
    logits, ids = values["logits"].movedim(-1, 2), values["voxels"]
    close(class_loss(logits, ids, values["loss.ce_weight"])[None], values["loss.ce"])
    close(lovasz(logits, ids)[None], values["loss.lovasz"])
    close(kl(*({p: values[f"{n}.{p}"] for p in PLANES} for n in ("mu", "logvar")))[None], values["loss.kl"])


@torch.inference_mode()
def test_unconditional_dit_its_losses_and_samples(folder: Path, values: Values) -> None:
    model, x, t = dit_of(folder, "unconditional"), values["x"], values["t"]
    close(model(x, t, Given()), values["unconditional.out"])
    chain, data, noise = PlainDDPM(), values["train.x0"], values["train.noise"]
    mask = plain_mask(model.latent)
    mse, bits = chain.losses(model(chain.noisy(data, noise, t), t, Given()), data, noise, t, mask)
    close(mse, values["train.mse"])
    close(bits, values["train.vb"])
    close(mse + bits, values["train.loss"])
    short = PlainDDPM(values["schedule.timesteps_10"].tolist())
    torch.testing.assert_close(chain.alpha, values["schedule.alphas_cumprod_1000"], rtol=1e-12, atol=0)
    torch.testing.assert_close(short.beta, values["schedule.betas_10"], rtol=1e-9, atol=0)
    start, noise = values["sample.unconditional.init"], values["sample.unconditional.noise"]
    close(short.sample(lambda x, t: model(x, t, Given()), start, noise), values["sample.unconditional.out"])


@torch.inference_mode()
def test_conditional_dit_guidance_and_samples(folder: Path, values: Values) -> None:
    model, x, t = dit_of(folder, "conditional"), values["x"], values["t"]

    def given(rows: int, *dropped: str) -> Given:
        inputs = [values[f"cond.{name}"][:rows] for name in ("command", "trajectory", "hexplane", "layout")]
        return Given(*inputs, keep=dict.fromkeys(dropped, torch.zeros(rows)))

    close(model(x, t, given(2)), values["conditional.out"])
    rest = ("trajectory", "previous", "layout")
    close(model(x, t, given(2, "command", *rest)), values["conditional.out_drop_all"])
    close(model(x, t, given(2, *rest)), values["conditional.out_command_only"])
    scale, short = torch.tensor([4.0]), PlainDDPM(values["schedule.timesteps_10"].tolist())
    close(model.guided(x[:1], t[:1], given(1), scale)[0], values["guided.out"][0])
    start, noise = values["sample.guided.init"], values["sample.guided.noise"]
    sampled = short.sample(lambda x, t: model.guided(x, t, given(1), scale), start, noise)
    close(sampled, values["sample.guided.out"])
