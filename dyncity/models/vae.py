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
from dyncity.models.blocks import InstanceNorm, Pointwise, ResidualPair, conv3
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


class VoxelEncoder(nn.Module):
    """Each frame by itself: class ids -> features at the halved resolution."""

    def __init__(self, config: VAEConfig, frames: int, tells_time: bool) -> None:
        super().__init__()
        c, factors = config.channels, config.downsample[1:]

        def pair() -> ResidualPair:
            return ResidualPair(conv3(c, c, "replicate"), conv3(c, c, "replicate"), c, nn.Identity())

        halve = [nn.Conv3d(c, c, factors, stride=factors), InstanceNorm(c), pair()]
        layers = [conv3(c, c, "replicate"), pair(), *halve] if config.stem == "conv" else halve
        self.first, self.rest = layers[0], nn.Sequential(*layers[1:])
        # One-hot frame channels in the input, under replicated borders, are one bias a frame here.
        self.time_bias = nn.Parameter(torch.zeros(frames, c)) if tells_time else None

    def forward(self, volume: Tensor) -> Tensor:
        """``[b, t, c, x, y, z]`` -> ``[b, t, c, x', y', z']``."""
        b = len(volume)
        hidden = self.first(volume.flatten(0, 1))
        if self.time_bias is not None:
            hidden = hidden + self.time_bias.repeat(b, 1)[..., None, None, None]
        return self.rest(hidden).unflatten(0, (b, -1))


class Encoder(nn.Module):
    """Class ids ``[b, t, x, y, z]`` -> feature planes ``[b, c, h, w]``."""

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        t, *xyz = shape
        ft, *factors = config.downsample
        size = dict(zip("txyz", (t, *(n // f for n, f in zip(xyz, factors, strict=True))), strict=True))
        c, kind = config.channels, config.projection
        # One more row: voxels that nobody observed.
        self.embedding = nn.Embedding(classes + 1, c)
        self.spatial = VoxelEncoder(config, t, tells_time=False)
        self.temporal = VoxelEncoder(config, t, tells_time=True) if config.temporal_encoder else None
        self.only_change = config.temporal_input == "change"
        self.over_time = Projection(kind, c, "txyz", "xyz", size)
        self.project = nn.ModuleDict({p: Projection(kind, c, "txyz" if "t" in p else "xyz", p, size) for p in PLANES})
        self.halve_time = nn.ModuleDict(
            {p: nn.Conv2d(c, c, (ft, 1), stride=(ft, 1)) if ft > 1 else nn.Identity() for p in PLANES if "t" in p}
        )

    def forward(self, ids: Tensor) -> Planes:
        """``[b, t, x, y, z]`` -> planes; ids of ``classes`` or more count as not observed."""
        known = ids.clamp(max=self.embedding.num_embeddings - 1).int()
        volume = rearrange(self.embedding(known), "b t x y z c -> b t c x y z")
        spatial = self.spatial(volume)
        temporal = self.temporal(volume) if self.temporal is not None else spatial
        still = self.over_time(rearrange(spatial, "b t c x y z -> b t x y z c"))
        still = rearrange(still, "b c x y z -> b x y z c")
        if self.only_change:
            temporal = temporal - temporal.mean(1, keepdim=True)
        moving = rearrange(temporal, "b t c x y z -> b t x y z c")
        planes = {}
        for p in PLANES:
            plane = self.project[p](moving if "t" in p else still)  # [b, c, h, w]
            planes[p] = self.halve_time[p](plane) if "t" in p else plane
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
        hidden = self.conv2(nn.functional.silu(self.norm(self.conv1(plane))))
        return self.up(hidden + self.shortcut(plane))


class VoxelDecoder(nn.Module):
    """Each frame by itself: the product of the planes -> class logits at full resolution."""

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        low, high, factors = config.hidden_low, config.hidden_high, config.downsample[1:]
        self.expand = nn.Sequential(Pointwise(config.query_channels, low), nn.LeakyReLU(0.1))
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
        """``[n, q, x', y', z']`` and the frame number ``[n]`` of each -> ``[n, k, x, y, z]``."""
        features = self.up(self.mix(self.expand(volume)))
        logits = self.to_class(features)
        # Concatenated coordinate sinusoids under a 1x1x1 convolution are a sum of one term an axis.
        t, x, y, z = (self.positions[i] @ getattr(self, f"waves_{a}") for i, a in enumerate("txyz"))
        logits = logits + t[:, frames].T[..., None, None, None]
        logits = logits + (x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :])
        return self.head(logits)


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
        self.voxels = VoxelDecoder(config, shape, classes)

    def expanded(self, latent: Planes) -> Planes:
        """Latent planes -> planes ``[b, q, h, w]`` at the full number of frames."""
        return {p: self.planes[p](latent[p]) for p in PLANES}

    def forward(self, planes: Planes, frames: Tensor) -> Tensor:
        """Planes from ``expanded`` and frame numbers ``[f]`` -> logits ``[b, f, k, x, y, z]``."""
        xy, xz, yz = planes["xy"][..., None], planes["xz"][..., None, :], planes["yz"][..., None, :, :]
        tx, ty, tz = (planes[p][:, :, frames] for p in ("tx", "ty", "tz"))
        still = xy * xz * yz  # [b, q, x, y, z]
        moving = tx[..., None, None] * ty[:, :, :, None, :, None] * tz[:, :, :, None, None, :]
        product = rearrange(still[:, :, None] * moving, "b q f x y z -> (b f) q x y z")
        logits = self.voxels(product, frames.repeat(len(still)))
        return rearrange(logits, "(b f) k x y z -> b f k x y z", f=len(frames))


class HexPlaneVAE(nn.Module):
    """The VAE.

    Args:
        config: sizes and choices.
        shape: (t, x, y, z) of a clip.
        classes: number of class ids; ids above are "not observed" in the input.
    """

    def __init__(self, config: VAEConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        self.shape, self.classes, self.latent_channels = shape, classes, config.latent_channels
        self.latent_shape: Shape = tuple(n // f for n, f in zip(shape, config.downsample, strict=True))  # type: ignore[assignment]
        self.encoder = Encoder(config, shape, classes)
        self.to_latent = nn.ModuleDict({p: Pointwise(config.channels, 2 * config.latent_channels) for p in PLANES})
        self.decoder = Decoder(config, shape, classes)
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
    def decode(self, latent: Planes, chunk: int = 2) -> Tensor:
        """Latent planes -> uint8 class ids ``[b, t, x, y, z]``, ``chunk`` frames at a time.

        The logits of a whole clip never exist at once.
        """
        planes = self.decoder.expanded(latent)
        frames = torch.arange(self.shape[0], device=planes["xy"].device)
        ids = [self.decoder(planes, part).argmax(2).to(torch.uint8) for part in frames.split(chunk)]
        return torch.cat(ids, dim=1)


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL to a standard normal, the mean over all elements of all planes."""
    total, count = torch.zeros((), device=posterior.mean["xy"].device), 0
    for p in PLANES:
        mean, log_variance = posterior.mean[p], posterior.log_variance[p]
        total = total + (-0.5 * (1 + log_variance - mean.square() - log_variance.exp())).sum()
        count += math.prod(mean.shape)
    return total / count
