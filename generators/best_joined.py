"""Of several volumes drawn for a hole, the one that goes on best from what is around it.

What a DiT makes of a hole joins its surroundings now better, now worse. Drawing several times and keeping the best is
sampling under one more condition, that nothing ends at the border, by rejection.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import Conditions
from dyncity.metrics.borders import border_agreement
from dyncity.models.conditioning import Route
from dyncity.scene import SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import taxonomy
from generators.diffusion import LatentDiffusion


def best_joined(
    diffusion: LatentDiffusion,
    specs: list[SceneSpec],
    asked: list[Conditions],
    holes: list[NDArray[np.bool_]],
    routes: list[Route] | None = None,
) -> list[NDArray[np.uint8]]:
    """Class ids ``[t, x, y, z]`` of each spec: of ``sampling.join_draws``, those of the highest ``border_agreement``.

    The first is what ``LatentDiffusion.volumes`` makes of the spec. A scene whose hole has no border keeps it.

    Args:
        diffusion: what draws.
        specs, asked, routes: as for ``LatentDiffusion.volumes``.
        holes: bool ``[t, x, y, z]``, what of each clip is looked at.

    Raises:
        FloatingPointError: a latent or a logit is not finite.
    """
    free = taxonomy(diffusion.config.taxonomy).free
    best = diffusion.volumes(specs, asked, routes)
    agreements = [border_agreement(volume, hole, free) for volume, hole in zip(best, holes, strict=True)]
    if all(map(math.isnan, agreements)):
        return best
    count = diffusion.sampling.join_draws - 1
    seeds = [stream(s.seed, s.index, Purpose.JOIN_DRAWS).integers(2**62, size=count) for s in specs]
    for draw in range(count):
        drawn = [SceneSpec(s.index, int(k[draw])) for s, k in zip(specs, seeds, strict=True)]
        for row, volume in enumerate(diffusion.volumes(drawn, asked, routes)):
            if (found := border_agreement(volume, holes[row], free)) > agreements[row]:
                best[row], agreements[row] = volume, found
    return best
