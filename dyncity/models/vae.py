"""The HexPlane VAE (paper section 3): a clip of voxels <-> six latent planes.

Letters: b clips, t frames, x y z voxels (lower-case sizes after the halving where it matters),
c encoder channels, q channels of Expansion & Squeeze, k classes, f decoded frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from dyncity.config import VAEConfig
from dyncity.hexplane import PLANES, Planes
from dyncity.models.blocks import InstanceNorm, Pointwise, ResidualPair, conv3, frames_at_once, recomputed
from dyncity.models.projection import Projection

Shape = tuple[int, int, int, int]
_FIRST_LOG_VARIANCE = -5.0


@dataclass(frozen=True)
class Posterior:
    """The encoder's answer: mean and log variance of each latent plane, ``[b, latent, h, w]``."""

    mean: Planes
    log_variance: Planes

    def sample(self, noise: Planes) -> Planes:
        """The mean plus noise (standard normal, same shapes) times the standard deviation."""
        return {p: self.mean[p] + noise[p] * torch.exp(0.5 * self.log_variance[p]) for p in PLANES}


class FrameEncoder(nn.Module):
    """Each frame by itself: class embeddings -> features at the halved resolution (published)."""

    def __init__(self, config: VAEConfig, frames: int, tells_time: bool) -> None:
        super().__init__()
        c, factors = config.channels, config.downsample[1:]

        def pair() -> ResidualPair:
            return ResidualPair(conv3(c, c, "replicate"), conv3(c, c, "replicate"), c, nn.Identity())

        self.first = conv3(c, c, "replicate")
        halving = [nn.Conv3d(c, c, factors, stride=factors), InstanceNorm(c), pair()] if max(factors) > 1 else []
        self.rest = nn.Sequential(pair(), *halving)
        # One-hot frame channels in the input, under replicated borders, are one bias a frame here.
        self.time_bias = nn.Parameter(torch.zeros(frames, c)) if tells_time else None

    def first_of_classes(self, embedding: Tensor) -> Tensor:
        """The kernel of ``first`` for one-hot classes, given their embedding ``[k, c]``: ``[c, k, 3, 3, 3]``."""
        return torch.einsum("oc..., kc -> ok...", self.first.weight, embedding)


class FramesToFeatures(nn.Module):
    """The published encoder: one FrameEncoder for the spatial planes, whose time is then projected
    away, and one for the temporal planes.

    The class embedding and the first layers of both are linear: one convolution of the one-hot classes.
    """

    def __init__(self, config: VAEConfig, size: dict[str, int], classes: int) -> None:
        super().__init__()
        c = config.channels
        self.recompute = config.recompute
        self.embedding = nn.Embedding(classes, c)
        self.spatial = FrameEncoder(config, size["t"], tells_time=False)
        self.temporal = FrameEncoder(config, size["t"], tells_time=True)
        self.over_time = Projection(config, "txyz", "xyz", size)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, None]:
        """``[b, t, x, y, z]`` -> ``[b, c, x', y', z']`` for the spatial planes, with t for the temporal, and None."""
        b, t = ids.shape[:2]
        weight = torch.cat([e.first_of_classes(self.embedding.weight) for e in (self.spatial, self.temporal)])
        temporal_bias = self.temporal.first.bias + self.temporal.time_bias
        bias = torch.cat([self.spatial.first.bias.expand(t, -1), temporal_bias], dim=1).repeat(b, 1)  # [b t, 2 c]
        n = frames_at_once(ids.device)
        parts = [
            recomputed(self.recompute, self._features, frames, weight, frame_bias)
            for frames, frame_bias in zip(ids.flatten(0, 1).split(n), bias.split(n), strict=True)
        ]
        spatial, temporal = (torch.cat(part).unflatten(0, (b, t)) for part in zip(*parts, strict=True))
        return self.over_time(rearrange(spatial, "b t c x y z -> b t x y z c")), temporal, None

    def _features(self, ids: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """``[n, x, y, z]`` -> twice ``[n, c, x', y', z']``."""
        one_hot = torch.eye(weight.shape[1], dtype=weight.dtype, device=ids.device)
        classes = nn.functional.embedding(ids, one_hot).movedim(-1, 1)  # [n, k, x, y, z]
        hidden = nn.functional.conv3d(nn.functional.pad(classes, (1,) * 6, mode="replicate"), weight)
        spatial, temporal = (hidden + bias[..., None, None, None]).chunk(2, dim=1)
        return self.spatial.rest(spatial), self.temporal.rest(temporal)


class ChangeToFeatures(nn.Module):
    """The clip's mean over time for the spatial planes, each frame's difference from it for the temporal.

    A cell of the halved resolution is embedded whole: each of its voxels looks up what it adds, which is
    a class embedding under a convolution with kernel = stride, without the full-resolution volume. Voxels
    that nobody observed add nothing, and frames in which a cell was not observed do not count in its mean.
    """

    def __init__(self, config: VAEConfig, frames: int, classes: int) -> None:
        super().__init__()
        self.classes, self.factors = classes, config.downsample[1:]
        c, voxels = config.channels, math.prod(self.factors)
        self.table = nn.Parameter(torch.randn(voxels * classes, c) * voxels**-0.5)
        self.schedule = nn.Sequential(nn.Linear(frames * c, 2 * c), nn.LeakyReLU(0.1), nn.Linear(2 * c, c))
        self.refine = ResidualPair(conv3(c, c, "replicate"), conv3(c, c, "replicate"), c, nn.Identity())
        observed = torch.arange(voxels * classes) % classes < classes - 1
        self.register_buffer("observed", observed[:, None], persistent=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[b, t, x, y, z]`` -> ``[b, c, x', y', z']`` for the spatial planes, with t for the temporal, and what
        each cell sees when, ``[b, c, x', y', z']``.
        """
        fx, fy, fz = self.factors
        cells = rearrange(ids, "b t (x fx) (y fy) (z fz) -> b t x y z (fx fy fz)", fx=fx, fy=fy, fz=fz)
        rows = cells + self.classes * torch.arange(cells.shape[-1], dtype=ids.dtype, device=ids.device)
        summed = nn.functional.embedding_bag(rows.flatten(0, 4), self.table * self.observed, mode="sum")
        frames = rearrange(summed.view(*cells.shape[:-1], -1), "b t x y z c -> b t c x y z")
        seen = (cells < self.classes - 1).any(-1)[:, :, None].to(frames.dtype)  # [b, t, 1, x', y', z']
        mean = frames.sum(1) / seen.sum(1).clamp(min=1)
        change = (frames - mean[:, None]) * seen
        schedule = self.schedule(rearrange(change, "b t c x y z -> b x y z (t c)"))
        return self.refine(mean), change, schedule.movedim(-1, 1)


class Encoder(nn.Module):
    """Class ids ``[b, t, x, y, z]`` -> feature planes ``[b, c, h, w]``.

    With ``encoder = change`` the xy plane has 2 c channels: what stands, and what passes when. The temporal planes
    say that only for a whole row of cells, so where several movers pass they could not tell who is where.
    """

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        ft, c = config.downsample[0], config.channels
        size = {a: n // (1 if a == "t" else f) for a, n, f in zip("txyz", shape, config.downsample, strict=True)}
        # One id more: voxels that nobody observed.
        self.classes = classes + 1
        published = config.encoder == "frames"
        self.features = (
            FramesToFeatures(config, size, self.classes)
            if published
            else ChangeToFeatures(config, shape[0], self.classes)
        )
        self.project = nn.ModuleDict({p: Projection(config, "txyz" if "t" in p else "xyz", p, size) for p in PLANES})
        self.project_schedule = None if published else Projection(config, "xyz", "xy", size)
        self.halve_time = nn.ModuleDict(
            {p: nn.Conv2d(c, c, (ft, 1), stride=(ft, 1)) if ft > 1 else nn.Identity() for p in PLANES if "t" in p}
        )
        self.channels = {p: c if published or p != "xy" else 2 * c for p in PLANES}

    def forward(self, ids: Tensor) -> Planes:
        """``[b, t, x, y, z]`` -> planes; ids of ``classes`` or more count as not observed."""
        still, moving, schedule = self.features(ids.clamp(max=self.classes - 1).int())
        still = rearrange(still, "b c x y z -> b x y z c")
        moving = rearrange(moving, "b t c x y z -> b t x y z c")
        planes = {}
        for p in PLANES:
            plane = self.project[p](moving if "t" in p else still)  # [b, c, h, w]
            planes[p] = self.halve_time[p](plane) if "t" in p else plane
        if self.project_schedule is not None:
            passing = self.project_schedule(rearrange(schedule, "b c x y z -> b x y z c"))
            planes["xy"] = torch.cat([planes["xy"], passing], dim=1)
        return planes


class PlaneDecoder(nn.Module):
    """One latent plane -> Q channels at its full resolution in t (a residual block, then upsampling)."""

    def __init__(self, latent: int, q: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(latent, q, 3, padding=1), nn.Conv2d(q, q, 3, padding=1)
        self.norm = InstanceNorm(q, affine=True, eps=1e-6)
        self.shortcut = nn.Conv2d(latent, q, 1)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(q, q, factor, stride=factor),
            InstanceNorm(q),
            nn.LeakyReLU(0.1),
            nn.Conv2d(q, q, 3, padding=1),
            InstanceNorm(q),
            nn.LeakyReLU(0.1),
        )
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, plane: Tensor) -> Tensor:
        """``[b, latent, h', w]`` -> ``[b, q, h, w]``."""
        plane = plane.contiguous()
        hidden = self.conv2(nn.functional.silu(self.norm(self.conv1(plane))))
        return self.up(hidden + self.shortcut(plane))


class VoxelDecoder(nn.Module):
    """Each frame by itself: the product of the planes -> class logits at full resolution."""

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        low, high, factors = config.hidden_low, config.hidden_high, config.downsample[1:]
        joined = config.query_channels * (1 if config.fusion == "product" else 4)
        self.expand = nn.Sequential(Pointwise(joined, low), nn.LeakyReLU(0.1, inplace=True))
        self.mix = nn.Sequential(
            ResidualPair(conv3(low, low, "zeros"), conv3(low, low, "zeros"), low, nn.LeakyReLU(0.1)),
            ResidualPair(Pointwise(low, low), Pointwise(low, low), low, nn.LeakyReLU(0.1)),
        )
        self.up = nn.ConvTranspose3d(low, high, factors, stride=factors)
        self.to_class = Pointwise(high, classes)
        self.positions = nn.ParameterList(
            nn.Parameter(0.1 * torch.randn(classes, 2 * len(_FREQUENCIES))) for _ in "txyz"
        )
        self.head = nn.Sequential(InstanceNorm(classes), nn.LeakyReLU(0.1), Pointwise(classes, classes))
        for axis, size in zip("txyz", shape, strict=True):
            self.register_buffer(f"waves_{axis}", _waves(size), persistent=False)

    def forward(self, volume: Tensor, frames: Tensor) -> Tensor:
        """The joined planes ``[n, q or 4 q, x', y', z']``, the frame ``[n]`` of each -> ``[n, k, x, y, z]``."""
        hidden = self.mix(self.expand(volume)).movedim(1, -1)
        # Nothing but linear maps from here to the head, and kernel = stride: one matrix from a cell's
        # features to the classes of its voxels.
        fx, fy, fz = self.up.kernel_size
        weight = torch.einsum("l h i j m, k h -> i j m k l", self.up.weight, self.to_class.weight)
        cells = nn.functional.linear(hidden, weight.flatten(0, 3))
        logits = rearrange(cells, "n x y z (fx fy fz k) -> n (x fx) (y fy) (z fz) k", fx=fx, fy=fy, fz=fz)
        # Concatenated coordinate sinusoids under a 1x1x1 convolution are a sum of one term an axis.
        t, x, y, z = ((self.positions[i] @ getattr(self, f"waves_{a}")).T for i, a in enumerate("txyz"))
        t = t[frames] + self.to_class.weight @ self.up.bias + self.to_class.bias
        logits = logits + (x[:, None, None] + y[:, None] + z) + t[:, None, None, None]
        return self.head(logits.movedim(-1, 1))


_FREQUENCIES = (1.0, 2.0, 4.0)


def _waves(size: int) -> Tensor:
    """Sines and cosines of the integer coordinates at each frequency, ``[2 * frequencies, size]``."""
    angles = torch.tensor(_FREQUENCIES)[:, None] * torch.arange(size)
    return torch.cat([angles.sin(), angles.cos()])


class Decoder(nn.Module):
    """Expansion & Squeeze (paper section 3.3): latent planes -> class logits of chosen frames."""

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        ft = config.downsample[0]
        self.planes = nn.ModuleDict(
            {p: PlaneDecoder(config.latent_channels, config.query_channels, (ft if "t" in p else 1, 1)) for p in PLANES}
        )
        self.recompute = config.recompute
        q, latent = config.query_channels, config.latent_channels
        # For "both": the xy plane decoded once more, and a matrix a frame that reads from it who is there then.
        self.passing = PlaneDecoder(latent, q, (1, 1)) if config.fusion == "both" else None
        self.schedule = nn.Parameter(torch.randn(shape[0], q, q) * q**-0.5) if config.fusion == "both" else None
        self.voxels = VoxelDecoder(config, shape, classes)

    def expanded(self, latent: Planes) -> Planes:
        """Latent planes -> planes ``[b, h, w, q]`` at the full number of frames, and with "both" a schedule
        ``[b, t, x, y, q]``.
        """
        planes = {p: self.planes[p](latent[p]).movedim(1, -1).contiguous() for p in PLANES}
        if self.passing is not None:
            planes["schedule"] = torch.einsum("b q x y, t q r -> b t x y r", self.passing(latent["xy"]), self.schedule)
        return planes

    def forward(self, planes: Planes, frames: Tensor) -> Tensor:
        """Planes from ``expanded`` and frame numbers ``[f]`` -> logits ``[b, f, k, x, y, z]``."""
        parts = frames.split(frames_at_once(frames.device))
        logits = [recomputed(self.recompute, self._logits, part, *planes.values()) for part in parts]
        return torch.cat(logits, dim=1).movedim(-1, 2)

    def _logits(self, frames: Tensor, *each: Tensor) -> Tensor:
        """Frame numbers ``[f]`` and the expanded planes -> ``[b, f, x, y, z, k]``."""
        planes = dict(zip((*PLANES, "schedule"), each, strict=False))
        xy, xz, yz = planes["xy"][:, :, :, None], planes["xz"][:, :, None], planes["yz"][:, None]
        tx, ty, tz = (planes[p][:, frames] for p in ("tx", "ty", "tz"))
        tx, ty, tz = tx[:, :, :, None, None], ty[:, :, None, :, None], tz[:, :, None, None]
        still, moving = (xy * xz * yz)[:, None], tx * ty * tz  # [b, 1 or f, x, y, z, q]
        if self.passing is None:
            joined = still * moving
        else:
            sums = (xy + xz + yz)[:, None], tx + ty + tz + planes["schedule"][:, frames, :, :, None]
            joined = torch.cat([part.expand_as(moving) for part in (still, moving, *sums)], dim=-1)
        joined = rearrange(joined, "b f x y z q -> (b f) q x y z")
        logits = self.voxels(joined, frames.repeat(len(xy)))
        return rearrange(logits, "(b f) k x y z -> b f x y z k", f=len(frames))


class HexPlaneVAE(nn.Module):
    """The VAE.

    Args:
        config: sizes and choices.
        shape: (t, x, y, z) of a clip.
        classes: number of class ids; ids above are "not observed" in the input.

    Attributes:
        slots: channels of the logits; those from ``classes`` on stand for nothing and are never decoded.
    """

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        self.slots = max(classes, config.class_slots)
        self.shape, self.classes, self.latent_channels = shape, classes, config.latent_channels
        self.latent_shape: Shape = tuple(n // f for n, f in zip(shape, config.downsample, strict=True))  # type: ignore[assignment]
        self.encoder = Encoder(config, shape, self.slots)
        self.to_latent = nn.ModuleDict(
            {p: Pointwise(self.encoder.channels[p], 2 * config.latent_channels) for p in PLANES}
        )
        self.decoder = Decoder(config, shape, self.slots)
        # Little noise at first: under full noise the planes that carry movers are never learned to be used.
        for layer in self.to_latent.values():
            nn.init.constant_(layer.bias[config.latent_channels :], _FIRST_LOG_VARIANCE)

    def encode(self, ids: Tensor) -> Posterior:
        """Class ids ``[b, t, x, y, z]`` -> the posterior over latent planes."""
        features = self.encoder(ids)
        halves = {p: self.to_latent[p](features[p]).chunk(2, dim=1) for p in PLANES}
        return Posterior({p: h[0] for p, h in halves.items()}, {p: h[1] for p, h in halves.items()})

    def logits(self, latent: Planes, frames: Tensor) -> Tensor:
        """Class logits of some frames: latent planes, ``[f]`` -> ``[b, f, k, x, y, z]``."""
        return self.decoder(self.decoder.expanded(latent), frames)

    @torch.inference_mode()
    def decode(self, latent: Planes, chunk: int = 1) -> Tensor:
        """Latent planes -> uint8 class ids ``[b, t, x, y, z]``, ``chunk`` frames at a time.

        The logits of a whole clip never exist at once.

        Raises:
            FloatingPointError: a logit is not finite, so that its class would mean nothing.
        """
        planes = self.decoder.expanded(latent)
        frames = torch.arange(self.shape[0], device=planes["xy"].device)
        ids, total = [], torch.zeros((), device=planes["xy"].device)
        for part in frames.split(chunk):
            logits = self.decoder(planes, part)[:, :, : self.classes]
            total += logits.sum(dtype=torch.float32)  # NaN and infinity stay in a sum
            ids.append(logits.argmax(2).to(torch.uint8))
        if not torch.isfinite(total):
            raise FloatingPointError("the logits are not finite")
        return torch.cat(ids, dim=1)


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL to a standard normal, the mean over all elements of all planes."""
    total, count = torch.zeros((), device=posterior.mean["xy"].device), 0
    for p in PLANES:
        mean, log_variance = posterior.mean[p], posterior.log_variance[p]
        total = total + (-0.5 * (1 + log_variance - mean.square() - log_variance.exp())).sum()
        count += math.prod(mean.shape)
    return total / count
