"""A short piece of real work, for dyncity doctor: one scene from the shipped checkpoint."""

from __future__ import annotations


def smoke() -> str:
    """One scene from the shipped checkpoint, in a single step."""
    import time

    from dyncity.checkpoint import shipped_checkpoint
    from dyncity.config import SamplingConfig
    from dyncity.scene import SceneSpec
    from generators.diffusion import LatentDiffusion

    quick = SamplingConfig(sampler="euler", steps=1)
    source = LatentDiffusion(shipped_checkpoint(), quick)
    start = time.perf_counter()
    (scene,) = source.generate([SceneSpec(0, 0)])
    seconds = time.perf_counter() - start
    digest = source.fingerprint()["checkpoint_sha256"]
    return f"shipped checkpoint {str(digest)[:16]}: {scene.frames} frames in {seconds:.1f} s, one solver step"
