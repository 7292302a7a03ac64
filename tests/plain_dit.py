"""The published diffusion transformer and its DDPM, written plainly, under the published parameter names.

The oracle for the optimised model at sizes that nobody recorded, and the baseline of its timing. The modulation
is computed for every token, guidance doubles the batch; it shares no code with ``dyncity.models``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from plain_vae import Mlp, Planes
from torch import Tensor, nn

from dyncity.config import Config


def plain_rollout(planes: Planes) -> Tensor:
    """Rows ``[x | t | z]``, columns ``[y | z | t]``: xy xz tx^T / ty tz 0 / yz^T 0 0."""
    t, z = planes["tz"].shape[-2:]
    corner = {pair: planes["tz"].new_zeros(*planes["tz"].shape[:2], *pair) for pair in ((t, t), (z, z), (z, t))}
    rows = [
        torch.cat([planes["xy"], planes["xz"], planes["tx"].mT], -1),
        torch.cat([planes["ty"], planes["tz"], corner[t, t]], -1),
        torch.cat([planes["yz"].mT, corner[z, z], corner[z, t]], -1),
    ]
    return torch.cat(rows, -2)


def plain_mask(latent: tuple[int, int, int, int]) -> Tensor:
    t, x, y, z = latent
    size = {"xy": (x, y), "xz": (x, z), "yz": (y, z), "tx": (t, x), "ty": (t, y), "tz": (t, z)}
    return plain_rollout({plane: torch.ones(1, 1, *shape) for plane, shape in size.items()})


def positions(width: int, rows: int, columns: int) -> Tensor:
    """``[1, rows columns, width]``: the first half of the channels says the column, the second the row."""
    frequency = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (column, row)]
    return torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], 1)[None].float()


class PatchEmbed(nn.Module):
    def __init__(self, inputs: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class CrossAttention(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.q, self.kv, self.proj = heads, nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        b, n, d = x.shape
        q = self.q(x).view(b, n, self.heads, d // self.heads).transpose(1, 2)
        k, v = self.kv(context).view(b, -1, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class Block(nn.Module):
    def __init__(self, d: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(d, heads), Mlp(d, 4 * d, "tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.x_attn = CrossAttention(d, heads) if cross else None

    def forward(self, x: Tensor, c: Tensor, context: Tensor | None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, -1)
        x = x + gate1 * self.attn(norm(x) * (1 + scale1) + shift1)
        if self.x_attn is not None:
            x = x + self.x_attn(norm(x), context)
        return x + gate2 * self.mlp(norm(x) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    def __init__(self, d: int, outputs: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, 2 * d))
        self.linear = nn.Linear(d, outputs)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        return self.linear(norm(x) * (1 + scale) + shift)


class Embedder(nn.Module):
    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder


class TimestepEmbedder(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))

    def forward(self, t: Tensor) -> Tensor:
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(128).float() / 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))


@dataclass
class Given:
    """Conditions of a batch, and for each sample whether it is given (1) or dropped (0)."""

    command: Tensor | None = None  # [b]
    trajectory: Tensor | None = None  # [b, t, 3], metres and radians
    previous: Tensor | None = None  # [b, c, h, w] rollout
    layout: Tensor | None = None  # [b, t, h, w]
    keep: dict[str, Tensor] | None = None  # [b] for each name

    def kept(self, name: str, x: Tensor) -> Tensor:
        if self.keep is None or name not in self.keep:
            return x
        return x * self.keep[name].view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


class PlainDiT(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        dit, d, self.patch, channels = config.dit, config.dit.width, config.dit.patch, config.vae.latent_channels
        self.latent = t, x, y, z = config.latent_shape
        self.rows, self.columns = (x + t + z) // self.patch, (y + z + t) // self.patch
        self.x_embedder, self.t_embedder = PatchEmbed(channels, d, self.patch), TimestepEmbedder(d)
        self.register_buffer("pos_embed", positions(d, self.rows, self.columns))
        if dit.command:
            self.cmd_emb = Embedder(nn.Embedding(4, d))
        if dit.trajectory:
            first = (nn.Linear(3 * config.clip.frames, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())
            self.traj_emb = Embedder(nn.Sequential(*first, nn.Linear(d, d)))
        if dit.previous:
            self.hex_emb = Embedder(PatchEmbed(channels, d, self.patch))
        if dit.layout:
            self.layout_emb = Embedder(PatchEmbed(config.clip.frames, 1, self.patch))
        self.blocks = nn.ModuleList(Block(d, dit.heads, dit.cross_attention) for _ in range(dit.depth))
        self.final_layer = FinalLayer(d, 2 * channels * self.patch**2)

    def forward(self, x: Tensor, step: Tensor, given: Given) -> Tensor:
        """Noisy rollout ``[b, c, h, w]``, steps ``[b]`` -> noise and variance ``[b, 2c, h, w]``."""
        inside = F.max_pool2d(plain_mask(self.latent), self.patch).flatten() > 0
        tokens = (self.x_embedder(x) + self.pos_embed)[:, inside]
        same = self.t_embedder(step)
        if hasattr(self, "traj_emb") and given.trajectory is not None:
            same = same + given.kept("trajectory", self.traj_emb.embedder(given.trajectory.flatten(1)))
        if hasattr(self, "cmd_emb") and given.command is not None:
            same = same + given.kept("command", self.cmd_emb.embedder(given.command))
        context = torch.zeros_like(tokens)
        if hasattr(self, "hex_emb"):
            previous = given.kept("previous", self.hex_emb.embedder(given.previous))
            context = context + (previous + self.pos_embed)[:, inside]
        if hasattr(self, "layout_emb"):
            _, height, width, _ = self.latent
            seen = F.interpolate(given.layout, (height, width), mode="nearest")
            seen = F.pad(seen, (0, x.shape[-1] - width, 0, x.shape[-2] - height))
            layout = given.kept("layout", self.layout_emb.embedder(seen)).expand(-1, -1, tokens.shape[-1])
            context = context + (layout + self.pos_embed)[:, inside]
        c = same[:, None] + context  # a vector a token
        for block in self.blocks:
            tokens = block(tokens, c, context)
        tokens = self.final_layer(tokens, c)
        square = tokens.new_zeros(len(x), self.rows * self.columns, tokens.shape[-1])
        square[:, inside] = tokens
        patches = square.view(len(x), self.rows, self.columns, self.patch, self.patch, -1)
        out = patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return out.contiguous()

    def guided(self, x: Tensor, step: Tensor, given: Given, scale: Tensor) -> Tensor:
        """The batch twice, the second time with every condition dropped; scales ``[b]``."""
        b = len(x)
        names = ("command", "trajectory", "previous", "layout")
        ones = torch.ones(b)
        keep = {n: torch.cat([(given.keep or {}).get(n, ones), torch.zeros(b)]) for n in names}
        twice = {n: v if (v := getattr(given, n)) is None else torch.cat([v, v]) for n in names}
        conditioned, without = self(torch.cat([x, x]), torch.cat([step, step]), Given(**twice, keep=keep)).chunk(2)
        c = x.shape[1]
        noise = without[:, :c] + scale.view(-1, 1, 1, 1) * (conditioned[:, :c] - without[:, :c])
        return torch.cat([noise, conditioned[:, c:]], 1)


def normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation, as in the diffusion code that DiT builds on."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class PlainDDPM:
    """Linear betas 1e-4 to 0.02, respaced to the given timesteps; float64 constants."""

    def __init__(self, timesteps: list[int] | None = None) -> None:
        whole = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
        self.timesteps = list(range(1000)) if timesteps is None else timesteps
        self.alpha = whole[self.timesteps]
        self.before = torch.cat([self.alpha.new_ones(1), self.alpha[:-1]])
        self.beta = 1 - self.alpha / self.before
        self.posterior = self.beta * (1 - self.before) / (1 - self.alpha)
        self.log_posterior = torch.cat([self.posterior[1:2], self.posterior[1:]]).log()

    def at(self, values: Tensor, i: Tensor) -> Tensor:
        return values[i].float()[:, None, None, None]

    def noisy(self, data: Tensor, noise: Tensor, i: Tensor) -> Tensor:
        return self.at(self.alpha.sqrt(), i) * data + self.at((1 - self.alpha).sqrt(), i) * noise

    def mean(self, data: Tensor, x: Tensor, i: Tensor) -> Tensor:
        """Of q(x_{i-1} | x_i, data)."""
        a = self.beta * self.before.sqrt() / (1 - self.alpha)
        b = (1 - self.before) * (1 - self.beta).sqrt() / (1 - self.alpha)
        return self.at(a, i) * data + self.at(b, i) * x

    def reverse(self, answer: Tensor, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p(x_{i-1} | x_i)."""
        noise, variance = answer.chunk(2, 1)
        data = self.at((1 / self.alpha).sqrt(), i) * x - self.at((1 / self.alpha - 1).sqrt(), i) * noise
        share = (variance + 1) / 2
        log_variance = share * self.at(self.beta.log(), i) + (1 - share) * self.at(self.log_posterior, i)
        return self.mean(data, x, i), log_variance

    def losses(self, answer: Tensor, data: Tensor, noise: Tensor, i: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A sample's masked squared error, and its variational term in bits."""
        x, (epsilon, variance) = self.noisy(data, noise, i), answer.chunk(2, 1)
        error = ((epsilon - noise) ** 2 * mask).sum((1, 2, 3)) / (mask.sum() * data.shape[1])
        mean, log_variance = self.reverse(torch.cat([epsilon.detach(), variance], 1), x, i)
        true, true_log = self.mean(data, x, i), self.at(self.log_posterior, i)
        gap = (true - mean) ** 2 * torch.exp(-log_variance)
        kl = 0.5 * (-1 + log_variance - true_log + torch.exp(true_log - log_variance) + gap)
        above, below = (normal_cdf((data + e - mean) * torch.exp(-0.5 * log_variance)) for e in (1 / 255, -1 / 255))
        above, below = torch.where(data > 0.999, 1.0, above), torch.where(data < -0.999, 0.0, below)
        likelihood = -(above - below).clamp(min=1e-12).log()
        bits = torch.where((i == 0)[:, None, None, None], likelihood, kl).mean((1, 2, 3)) / math.log(2)
        return error, bits

    def sample(self, model, start: Tensor, noise: Tensor) -> Tensor:
        """Ancestral; ``noise[k]`` is that of the k-th step."""
        x = start
        for k, i in enumerate(reversed(range(len(self.timesteps)))):
            at = torch.full((len(x),), i)
            step = torch.full((len(x),), self.timesteps[i])
            mean, log_variance = self.reverse(model(x, step), x, at)
            x = mean if i == 0 else mean + torch.exp(0.5 * log_variance) * noise[k]
        return x
