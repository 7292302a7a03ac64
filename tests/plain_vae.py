"""The published VAE, written plainly: one line of code for one line of the paper, and no work saved anywhere.

The oracle for the optimised model at sizes that nobody recorded, and the baseline of its timing. It computes
what the published implementation computes, under its parameter names, and shares no code with ``dyncity.models``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyncity.config import Config

PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")
Planes = dict[str, Tensor]


def conv3d(inputs: int, outputs: int, padding_mode: str) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, padding=1, padding_mode=padding_mode)


def encoder_pair(c: int) -> nn.Sequential:
    layers = (conv3d(c, c, "replicate"), nn.InstanceNorm3d(c), nn.LeakyReLU(0.1))
    return nn.Sequential(*layers, conv3d(c, c, "replicate"), nn.InstanceNorm3d(c))


class FrameEncoder(nn.Module):
    """One frame by itself: ``[n, inputs, x, y, z]`` -> ``[n, c, x / fx, y / fy, z / fz]``."""

    def __init__(self, inputs: int, c: int, factors: list[int]) -> None:
        super().__init__()
        self.conv0 = conv3d(inputs, c, "replicate")
        self.conv1 = encoder_pair(c)
        self.down = nn.ModuleList()
        if max(factors) > 1:
            halve = nn.Sequential(nn.Conv3d(c, c, factors, stride=factors), nn.InstanceNorm3d(c))
            self.down.extend([halve, encoder_pair(c)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        x = x + self.conv1(x)
        if self.down:
            x = self.down[0](x)
            x = x + self.down[1](x)
        return x


class Attention(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(c, 3 * c, bias=False), nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, c: int, hidden: int, approximate: str = "none") -> None:
        super().__init__()
        self.fc1, self.fc2, self.approximate = nn.Linear(c, hidden), nn.Linear(hidden, c), approximate

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


class Transformer(nn.Module):
    def __init__(self, c: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Sequential(nn.LayerNorm(c), Attention(c, heads)),
                    nn.Sequential(nn.LayerNorm(c), Mlp(c, hidden)),
                ]
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for attention, mlp in self.layers:
            x = x + attention(x)
            x = x + mlp(x)
        return x


class Halve(nn.Module):
    def __init__(self, c: int, factor: int) -> None:
        super().__init__()
        steps = [nn.Sequential(nn.Conv2d(c, c, (factor, 1), stride=(factor, 1)))] if factor > 1 else []
        self.down = nn.Sequential(nn.Identity(), *steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


class Encoder(nn.Module):
    """Ids ``[b, t, x, y, z]`` -> six planes ``[b, c, h, w]``."""

    def __init__(self, config: Config, slots: int) -> None:
        super().__init__()
        vae, c, (t, x, y, z) = config.vae, config.vae.channels, config.clip_shape
        ft, *factors = vae.downsample
        self.embedding = nn.Embedding(slots, c)
        self.voxel_encoder = FrameEncoder(c, c, factors)
        self.t_encoder = FrameEncoder(c + t, c, factors)
        size = {"t": t, "x": x // factors[0], "y": y // factors[1], "z": z // factors[2]}
        reduced = {"xyz": "t", "xy": "z", "xz": "y", "yz": "x", "tx": "yz", "ty": "xz", "tz": "xy"}
        self.tokens, self.pos_encodings = nn.ParameterDict(), nn.ParameterDict()
        self.transformers, self.convs = nn.ModuleDict(), nn.ModuleDict()
        for plane, axes in reduced.items():
            count = size[axes] if len(axes) == 1 else size[axes[0]] * size[axes[1]]
            self.tokens[plane] = nn.Parameter(torch.randn(1, 1, c))
            self.pos_encodings[plane] = nn.Parameter(torch.randn(1, count + 1, c))
            self.transformers[plane] = Transformer(
                c, vae.projection_layers, vae.projection_heads, vae.projection_hidden
            )
            conv = nn.Conv3d if plane == "xyz" else nn.Conv2d
            self.convs[plane] = nn.Sequential(conv(c, c, 1), nn.Tanh(), conv(c, c, 1))
        self.downsamplers = nn.ModuleList(Halve(c, ft if "t" in plane else 1) for plane in PLANES)

    def reduce(self, x: Tensor, plane: str) -> Tensor:
        """``[b, *kept, *reduced, c]`` -> ``[b, c, *kept]``."""
        kept = x.shape[: 1 + len(plane)]
        x = x.reshape(kept.numel(), -1, x.shape[-1])
        x = torch.cat([x, self.tokens[plane].expand(len(x), -1, -1)], 1) + self.pos_encodings[plane]
        x = self.transformers[plane](x)[:, 0].view(*kept, -1)
        return self.convs[plane](x.movedim(-1, 1).contiguous())

    def forward(self, ids: Tensor) -> Planes:
        b, t = ids.shape[:2]
        x = self.embedding(ids.long()).movedim(-1, 2).flatten(0, 1)  # [b t, c, x, y, z]
        one_hot = torch.eye(t).repeat(b, 1)[:, :, None, None, None].expand(-1, -1, *ids.shape[2:])
        spatial = self.voxel_encoder(x).unflatten(0, (b, t))
        temporal = self.t_encoder(torch.cat([x, one_hot], 1)).unflatten(0, (b, t))
        frame = self.reduce(spatial.permute(0, 3, 4, 5, 1, 2), "xyz")
        planes = {
            "xy": self.reduce(frame.permute(0, 2, 3, 4, 1), "xy"),
            "xz": self.reduce(frame.permute(0, 2, 4, 3, 1), "xz"),
            "yz": self.reduce(frame.permute(0, 3, 4, 2, 1), "yz"),
            "tx": self.reduce(temporal.permute(0, 1, 3, 4, 5, 2), "tx"),
            "ty": self.reduce(temporal.permute(0, 1, 4, 3, 5, 2), "ty"),
            "tz": self.reduce(temporal.permute(0, 1, 5, 3, 4, 2), "tz"),
        }
        return {plane: down(planes[plane]) for plane, down in zip(PLANES, self.downsamplers, strict=True)}


class ConvBlock(nn.Module):
    """The grouped residual block over three stacked planes, for the spatial (h) and the temporal (t) ones."""

    def __init__(self, latent: int, q: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(q, q, eps=1e-6) for _ in PLANES)  # a group a channel: instance norm
        for side in "ht":
            setattr(self, f"in_layers_{side}", nn.Conv2d(3 * latent, 3 * q, 3, padding=1, groups=3))
            last = nn.Conv2d(3 * q, 3 * q, 3, padding=1, groups=3)
            setattr(self, f"out_layers_{side}", nn.Sequential(nn.SiLU(), last))
            setattr(self, f"shortcut_{side}", nn.Conv2d(3 * latent, 3 * q, 1, groups=3))

    @staticmethod
    def stack(planes: list[Tensor]) -> Tensor:
        h, w = (max(plane.shape[i] for plane in planes) for i in (-2, -1))
        return torch.cat([F.pad(p, (0, w - p.shape[-1], 0, h - p.shape[-2])) for p in planes], 1)

    @staticmethod
    def unstack(stacked: Tensor, like: list[Tensor]) -> list[Tensor]:
        parts = stacked.chunk(3, 1)
        return [part[..., : p.shape[-2], : p.shape[-1]] for part, p in zip(parts, like, strict=True)]

    def forward(self, planes: Planes) -> Planes:
        out: list[Tensor] = []
        for side, names, norms in (("h", PLANES[:3], self.norms[:3]), ("t", PLANES[3:], self.norms[3:])):
            three = [planes[name] for name in names]
            x = self.stack(three)
            hidden = self.unstack(getattr(self, f"in_layers_{side}")(x), three)
            hidden = self.stack([norm(h) for norm, h in zip(norms, hidden, strict=True)])
            y = getattr(self, f"out_layers_{side}")(hidden) + getattr(self, f"shortcut_{side}")(x)
            out += self.unstack(y, three)
        return dict(zip(PLANES, out, strict=True))


class Upsample(nn.Module):
    def __init__(self, q: int, factor: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(q, q, (factor, 1), stride=(factor, 1))
        conv = nn.Conv2d(q, q, 3, padding=1)
        norm, activation = nn.InstanceNorm2d(q), nn.LeakyReLU(0.1)
        self.upsample = nn.Sequential(up, norm, activation, conv, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(x)


class VoxelDecoder(nn.Module):
    """Frames ``[n, q, x, y, z]`` at frame indices ``[n]`` -> logits ``[n, slots, fx x, fy y, fz z]``."""

    def __init__(self, q: int, low: int, high: int, slots: int, factors: list[int]) -> None:
        super().__init__()
        norm, act = nn.InstanceNorm3d, nn.LeakyReLU(0.1)
        self.conv_in = nn.Sequential(nn.Conv3d(q, low, 1), act)
        three = (conv3d(low, low, "zeros"), norm(low), act, conv3d(low, low, "zeros"), norm(low), act)
        one = (nn.Conv3d(low, low, 1), norm(low), act, nn.Conv3d(low, low, 1), norm(low), act)
        self.conv_layers = nn.ModuleList([nn.Sequential(*three), nn.Sequential(*one)])
        self.transpose_conv = nn.ConvTranspose3d(low, high, factors, stride=factors)
        self.final_conv = nn.Sequential(nn.Conv3d(high + 24, slots, 1), norm(slots), act, nn.Conv3d(slots, slots, 1))

    def forward(self, x: Tensor, frame: Tensor) -> Tensor:
        x = self.conv_in(x)
        for pair in self.conv_layers:
            x = x + pair(x)
        x = self.transpose_conv(x)
        n, _, *size = x.shape
        places = torch.stack(torch.meshgrid(*(torch.arange(count).float() for count in size), indexing="ij"))
        places = places.expand(n, -1, -1, -1, -1)
        times = frame.float()[:, None, None, None, None].expand(-1, 1, *size)
        coordinates = torch.cat([times, places], 1)  # [n, 4, x, y, z]
        waves = [wave(f * coordinates) for f in (1.0, 2.0, 4.0) for wave in (torch.sin, torch.cos)]
        return self.final_conv(torch.cat([x, *waves], 1))


class Decoder(nn.Module):
    """Latent planes ``[b, latent, h, w]`` -> logits ``[b, t, slots, x, y, z]``."""

    def __init__(self, config: Config, slots: int) -> None:
        super().__init__()
        vae, q = config.vae, config.vae.query_channels
        ft, *factors = vae.downsample
        self.conv_block = ConvBlock(vae.latent_channels, q)
        self.hex_upsample_block = nn.ModuleList(Upsample(q, ft if "t" in plane else 1) for plane in PLANES)
        self.voxel_decoder = VoxelDecoder(q, vae.hidden_low, vae.hidden_high, slots, factors)

    def forward(self, planes: Planes) -> Tensor:
        planes = self.conv_block(planes)
        planes = {p: up(planes[p]) for p, up in zip(PLANES, self.hex_upsample_block, strict=True)}
        product: Tensor | float = 1.0
        for plane, x in planes.items():  # [b, q, h, w] -> [b, q, t, x, y, z] with 1 for the axes it lacks
            for place, axis in enumerate("txyz"):
                x = x if axis in plane else x.unsqueeze(2 + place)
            product = product * x
        b, t = product.shape[0], product.shape[2]
        frames = product.transpose(1, 2).flatten(0, 1)
        return self.voxel_decoder(frames, torch.arange(t).repeat(b)).unflatten(0, (b, t))


class PlainVAE(nn.Module):
    def __init__(self, config: Config, slots: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.vae = Encoder(config, slots), Decoder(config, slots), nn.Module()
        c, latent = config.vae.channels, config.vae.latent_channels
        self.vae.fc_mu_logvar = nn.ModuleList(nn.Linear(c, 2 * latent) for _ in PLANES)

    def encode(self, ids: Tensor) -> tuple[Planes, Planes]:
        """Mean and log-variance of the latent planes."""
        planes, mean, log_variance = self.encoder(ids), {}, {}
        for linear, (name, plane) in zip(self.vae.fc_mu_logvar, planes.items(), strict=True):
            mean[name], log_variance[name] = linear(plane.movedim(1, -1)).movedim(-1, 1).chunk(2, 1)
        return mean, log_variance


def class_loss(logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross entropy of logits ``[b, t, slots, x, y, z]``."""
    return F.cross_entropy(logits.transpose(1, 2), ids.long(), weight)


def lovasz(logits: Tensor, ids: Tensor) -> Tensor:
    """Lovasz-softmax, mean over the classes that are present, all voxels of the batch as one set."""
    slots, losses = logits.shape[2], []
    probabilities, ids = logits.softmax(2).movedim(2, -1).reshape(-1, slots), ids.flatten()
    for k in ids.unique().tolist():
        truth = (ids == k).to(logits.dtype)
        errors, order = (truth - probabilities[:, k]).abs().sort(descending=True)
        truth = truth[order]
        union = truth.sum() + (1 - truth).cumsum(0)
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
        steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append(errors @ steps)
    return torch.stack(losses).mean()


def kl(mean: Planes, log_variance: Planes) -> Tensor:
    """Mean over all elements of all planes."""
    m = torch.cat([mean[p].flatten() for p in PLANES])
    v = torch.cat([log_variance[p].flatten() for p in PLANES])
    return (-0.5 * (1 + v - m**2 - v.exp())).mean()
