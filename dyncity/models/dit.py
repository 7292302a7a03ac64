"""The diffusion transformer over padded rollouts (paper section 4; blocks as in DiT, Peebles & Xie 2023).

Letters: b samples, c latent channels, h w the rollout, n tokens that hold a plane, d width, p patch edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from dyncity.conditions import COMMANDS
from dyncity.config import DiTConfig
from dyncity.errors import InputError
from dyncity.hexplane import rollout_mask, rollout_shape
from dyncity.layout import layout_channels
from dyncity.models.attention import Backend, attend
from dyncity.models.conditioning import PATH_CHANNELS, ConditionBatch

TIME_SCALE = 1000.0
COARSE: Final = "coarse"  # the convolutions of dit.refine_coarse
Part = int | Literal["coarse"]  # what a weaker answer does without: a block, by its number, or those
_TIME_WAVES = 256
_LEAST_LEVEL = 0.05  # nearer to the data, dividing by the noise level would blow up what the network misses


class TimeEmbedding(nn.Module):
    """A diffusion time -> sinusoids (cosines first) -> MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_TIME_WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """``[b]`` on the scale 0 to 1000 -> ``[b, d]``."""
        half = _TIME_WAVES // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device) / half)
        angles = time[:, None].float() * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class CrossAttention(nn.Module):
    """Tokens look at a second set of tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor, backend: Backend) -> Tensor:
        """``[b, n, d]`` and ``[b, m, d]`` -> ``[b, n, d]``."""
        q = rearrange(self.q(x), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.kv(seen), "b m (s h d) -> s b h m d", s=2, h=self.heads)
        return self.out(rearrange(attend(q, k, v, backend), "b h n d -> b n (h d)"))


class Block(nn.Module):
    """A transformer block with adaLN-Zero: shift, scale, gate for attention, then for the MLP.

    With cross-attention, which has a layer norm of its own and no gate, tokens see the token conditions
    between the two.
    """

    def __init__(self, width: int, heads: int, cross_attention: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross = CrossAttention(width, heads) if cross_attention else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, seen: Tensor, backend: Backend) -> Tensor:
        """Tokens ``[b, n, d]``, condition ``[b, 1 or n, d]``, token conditions ``[b, m, d]`` -> ``[b, n, d]``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        y = self.norm1(x) * (1 + scale1) + shift1
        q, k, v = rearrange(self.qkv(y), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        y = rearrange(attend(q, k, v, backend), "b h n d -> b n (h d)")
        x = x + gate1 * self.out(y)
        if self.cross is not None:
            x = x + self.cross(self.norm1(x), seen, backend)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class LastLayer(nn.Module):
    """Modulated norm and the map from tokens to patches."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[b, n, d]`` -> ``[b, n, out]``."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.linear(self.norm(x) * (1 + scale) + shift)


class Refinement(nn.Module):
    """Convolutions at the resolution of the rollout: tokens say what is in a patch, these join it to its neighbours.

    A transformer over large patches leaves seams at their borders and blurs what is smaller than a patch; a last
    3x3 convolution mends that in U-ViT (Bao et al. 2023), and here three, which also see the noised rollout. With
    ``coarse`` channels, two residual pairs at half the resolution stand between them, told the noise level: they see
    as far as a car is long.
    """

    def __init__(self, seen: int, width: int, coarse: int, out: int, condition: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(seen, width, 1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.coarse = CoarsePart(width, coarse, condition) if coarse else None
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, square: Tensor, condition: Tensor, coarse: bool = True) -> Tensor:
        """``[b, seen, h, w]`` and the condition ``[b, d]`` -> ``[b, out, h, w]``, to be added to the answer.

        Without ``coarse`` its part at half the resolution is left out.
        """
        silu = nn.functional.silu
        x = self.stem(square)
        x = x + self.first(silu(x))
        if self.coarse is not None and coarse:
            x = x + self.coarse(x, condition)
        x = x + self.second(silu(x))
        return self.last(silu(x))


class CoarsePart(nn.Module):
    """Two residual pairs of 3x3 convolutions at half the resolution, shifted by the condition."""

    def __init__(self, width: int, channels: int, condition: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, channels, 2, stride=2)
        self.shift = nn.Linear(condition, channels)
        self.pairs = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(2)
        )
        self.up = nn.ConvTranspose2d(channels, width, 2, stride=2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[b, width, h, w]`` -> the same shape, to be added."""
        height, width = x.shape[-2:]
        y = self.down(nn.functional.pad(x, (0, width % 2, 0, height % 2))) + self.shift(condition)[..., None, None]
        for pair in self.pairs:
            y = y + pair(y)
        return self.up(y)[..., :height, :width]


class DiT(nn.Module):
    """Predicts the objective's target for a noised rollout under conditions.

    Time, command and trajectory are the same for all tokens of a sample, so their modulation is computed
    once a sample; the previous chunk and the layout differ from token to token, and only in a model that
    knows one of them is the modulation computed for each. Padding of the rollout has no tokens.

    Args:
        config: sizes and choices.
        channels: latent channels c.
        latent: (t, x, y, z) of the latent planes.
        frames: frames of a clip, the length of a trajectory and of a layout.
        factors: columns of the clip's grid in a latent cell, along x and y; what a layout says of a cell.

    Attributes:
        outputs: channels of the answer: c, or 2 c where the variance is learned (noise first).
    """

    def __init__(
        self,
        config: DiTConfig,
        channels: int,
        latent: tuple[int, int, int, int],
        frames: int,
        factors: tuple[int, int] = (2, 2),
    ) -> None:
        super().__init__()
        p, d = config.patch, config.width
        for axis, size in zip("txyz", latent, strict=True):
            if size % p:
                raise InputError("dit.patch", f"{p} does not divide the latent {axis} = {size}", "use one that does")
        if config.refine_coarse and not config.refine:
            raise InputError(
                "dit.refine_coarse", f"found {config.refine_coarse} without dit.refine", "set dit.refine too"
            )
        self.patch, self.channels, self.latent, self.path_plane = p, channels, latent, config.path_plane
        self.answers_data = config.objective == "flow" and config.predicts == "data"
        self.outputs = 2 * channels if config.objective == "ddpm" else channels
        self.backend: Backend = "sdpa"
        h, w = rollout_shape(latent)
        self.rows, self.columns = h // p, w // p
        # Conditions that are maps are further channels of the input.
        self.layout_channels = layout_channels(frames, factors) if config.layout_plane else 0
        self.given_channels = channels + 1 if config.given else 0
        maps = (PATH_CHANNELS if config.path_plane else 0) + self.layout_channels + self.given_channels
        self.embed = nn.Linear((channels + maps) * p * p, d)
        self.time = TimeEmbedding(d)
        # The last row of the table is "no command" and stays zero.
        self.command = nn.Embedding(len(COMMANDS) + 1, d, padding_idx=len(COMMANDS)) if config.command else None
        self.trajectory = (
            nn.Sequential(nn.Linear(3 * frames, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
            if config.trajectory
            else None
        )
        self.previous = nn.Linear(channels * p * p, d) if config.previous else None
        self.layout = nn.Linear(frames * p * p, 1) if config.layout else None
        self.blocks = nn.ModuleList(Block(d, config.heads, config.cross_attention) for _ in range(config.depth))
        self.last = LastLayer(d, (self.outputs + config.refine) * p * p)
        seen = channels + maps + self.outputs + config.refine
        self.refine = None
        if config.refine:
            self.refine = Refinement(seen, config.refine, config.refine_coarse, self.outputs, d)
        with torch.device("cpu"):  # how many there are is known by their values alone, also of a model without any
            mask = rearrange(rollout_mask(latent)[0, 0], "(h p) (w q) -> (h w) (p q)", p=p, q=p).amax(1)
            kept = mask.nonzero()[:, 0]
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("mask", rollout_mask(latent), persistent=False)
        positions = position_embedding(d, self.rows, self.columns)
        self.register_buffer("positions", positions[self.kept], persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.command is not None:
            nn.init.normal_(self.command.weight, std=0.02)
            with torch.no_grad():
                self.command.weight[-1].zero_()
        for layer in (self.time.mlp[0], self.time.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        for module in (*self.blocks, self.last):  # adaLN-Zero: every block starts as the identity
            nn.init.zeros_(module.modulation[1].weight)
        for block in self.blocks:
            if block.cross is not None:
                nn.init.zeros_(block.cross.out.weight)
        nn.init.zeros_(self.last.linear.weight)
        if self.refine is not None:
            nn.init.zeros_(self.refine.last.weight)
            nn.init.zeros_(self.refine.last.bias)
            if self.refine.coarse is not None:
                nn.init.zeros_(self.refine.coarse.up.weight)
                nn.init.zeros_(self.refine.coarse.up.bias)

    @property
    def conditional(self) -> bool:
        """Whether the model knows any condition; without, guidance has nothing to do."""
        known = (self.command, self.trajectory, self.previous, self.layout)
        maps = self.path_plane or self.layout_channels > 0 or self.given_channels > 0
        return maps or any(module is not None for module in known)

    def patches(self, square: Tensor) -> Tensor:
        """``[b, c, h, w]`` -> the patches that hold a plane, ``[b, n, (c p p)]``."""
        p = self.patch
        return rearrange(square, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)[:, self.kept]

    def token_conditions(self, conditions: ConditionBatch) -> Tensor | None:
        """Previous chunk plus layout, ``[b, n, d]``; None where the model knows neither.

        Each adds the positions, also where it is dropped: zero is the embedding, not the token.
        """
        b, total = len(conditions.command), None
        if self.previous is not None:
            total = self.positions.expand(b, -1, -1)
            if conditions.previous is not None and conditions.has_previous is not None:
                embedded = self.previous(self.patches(conditions.previous))
                total = total + embedded * conditions.has_previous[:, None, None]
        if self.layout is not None:
            total = self.positions + (0 if total is None else total)
            if conditions.layout is not None and conditions.has_layout is not None:
                x, y = self.latent[1:3]
                plane = nn.functional.interpolate(conditions.layout, size=(x, y))
                square = plane.new_zeros(*plane.shape[:2], self.rows * self.patch, self.columns * self.patch)
                square[:, :, :x, :y] = plane
                embedded = self.layout(self.patches(square))  # one value a token
                total = total + embedded * conditions.has_layout[:, None, None]
            total = total.expand(b, -1, -1)
        return total

    def condition_maps(self, x: Tensor, conditions: ConditionBatch) -> list[Tensor]:
        """The conditions that are maps, ``[b, m, h, w]`` each, for a rollout ``x``; zeros where there is none."""
        b, _, height, width = x.shape
        above = [conditions.path] if self.path_plane else []
        if self.layout_channels:
            shape = (b, self.layout_channels, *self.latent[1:3])
            above.append(x.new_zeros(shape) if conditions.layout_plane is None else conditions.layout_plane)
        # The xy plane is the upper left corner of the rollout.
        corner = (0, width - self.latent[2], 0, height - self.latent[1])
        maps = [nn.functional.pad(plane, corner) for plane in above]
        if self.given_channels:
            shape = (b, self.given_channels, height, width)
            maps.append(x.new_zeros(shape) if conditions.given is None else conditions.given)
        return maps

    def forward(self, x: Tensor, time: Tensor, conditions: ConditionBatch) -> Tensor:
        """``[b, c, h, w]`` rollout, ``[b]`` time (0 to 1000) -> ``[b, outputs, h, w]``, zero in the padding."""
        return self.answers(x, time, conditions, ())[0]

    def answers(
        self, x: Tensor, time: Tensor, conditions: ConditionBatch, weaker: Sequence[Part], rows: int | None = None
    ) -> list[Tensor]:
        """The answer, and for each of ``weaker`` what the model would answer without that part.

        They share what comes before the part, so they cost less than an evaluation each.

        Args:
            x, time, conditions: as for ``forward``.
            weaker: the parts to leave out, each by itself: a block, by its number, or ``COARSE``.
            rows: how many of the rows, from the first on, get weaker answers too; None: all.
        """
        condition = self.time(time)
        if self.command is not None:
            condition = condition + self.command(conditions.command)
        if self.trajectory is not None:
            condition = condition + self.trajectory(conditions.trajectory) * conditions.has_trajectory[:, None]
        whole, condition = condition, condition[:, None]  # [b, 1, d]
        seen = self.token_conditions(conditions)
        if seen is None:
            seen = torch.zeros_like(condition)
        else:
            condition = condition + seen  # [b, n, d]
        given = torch.cat([x, *self.condition_maps(x, conditions)], dim=1)
        tokens = self.embed(self.patches(given))
        before = [tokens + self.positions]  # [b, n, d] before each block, and after all
        for block in self.blocks:
            before.append(block(before[-1], condition, seen, self.backend))
        found = [self._answer(before[-1], condition, given, whole, x, time, coarse=True)]
        some = slice(rows)
        for part in weaker:
            tokens = before[-1 if part == COARSE else part][some]
            for block in () if part == COARSE else self.blocks[part + 1 :]:
                tokens = block(tokens, condition[some], seen[some], self.backend)
            inputs = (condition[some], given[some], whole[some], x[some], time[some])
            found.append(self._answer(tokens, *inputs, coarse=part != COARSE))
        return found

    def _answer(
        self,
        tokens: Tensor,
        condition: Tensor,
        given: Tensor,
        whole: Tensor,
        noised: Tensor,
        time: Tensor,
        coarse: bool,
    ) -> Tensor:
        """What comes after the blocks: tokens ``[b, n, d]`` -> ``[b, outputs, h, w]``."""
        p = self.patch
        out = self.last(tokens, condition)  # [b, n, (p q outputs)]
        square = out.new_zeros(len(out), self.rows * self.columns, out.shape[-1])
        square[:, self.kept] = out
        answer = rearrange(square, "b (h w) (p q c) -> b c (h p) (w q)", h=self.rows, p=p, q=p)
        if self.refine is not None:
            finer = self.refine(torch.cat([given, answer], dim=1), whole, coarse)
            answer = answer[:, : self.outputs] + finer * self.mask
        if not self.answers_data:
            return answer
        # On the straight line from data to noise, x = data + t velocity.
        level = (time / TIME_SCALE).clamp(min=_LEAST_LEVEL)[:, None, None, None]
        return (noised - answer) * self.mask / level


def position_embedding(width: int, rows: int, columns: int) -> Tensor:
    """Fixed 2D sin-cos positions ``[rows * columns, d]``: first half the column, second half the row."""
    quarter = width // 4
    frequencies = 1.0 / 10_000 ** (torch.arange(quarter, dtype=torch.float64) / quarter)

    def waves(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    column = waves(columns)[None].expand(rows, -1, -1)
    row = waves(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([column, row], dim=-1).reshape(rows * columns, width).float()
