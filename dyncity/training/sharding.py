"""Where the weights of a run lie: all of them on every worker, gradients averaged (DDP), or a share on each (FSDP)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from dyncity.config import TrainConfig

BYTES_A_WEIGHT = 24  # float32: the weight, its gradient, two moments of Adam, an average, a place in DDP's buckets
_SHARE_OF_MEMORY = 0.5  # that weights may take; the rest is for activations


def distributed(
    objective: nn.Module, parts: Sequence[nn.Module], config: TrainConfig, device: torch.device, world: int
) -> nn.Module:
    """``objective`` on its device, to be called in its place: a backward pass leaves the mean gradient of the workers.

    What is optimised are the parameters of ``objective`` after the call; where they are sharded they are DTensors. All
    workers have to call it together.

    Args:
        objective: the same weights on every worker; changed in place.
        parts: modules in it whose weights are gathered together when they are called; what is in none of them is
            gathered for the whole step.
        config: how to share the weights out, in which precision to gather them, whether to compile.
        device: of this worker.
        world: number of workers.
    """
    if is_sharded(config.sharding, sum(p.numel() for p in objective.parameters()), device, world):
        mesh = init_device_mesh(device.type, (world,))
        for part in parts:
            if config.compile:
                part.compile()
            fully_shard(part, mesh=mesh, mp_policy=_precision(part, config))
        return fully_shard(objective, mesh=mesh)
    objective = objective.to(device)
    called: nn.Module = torch.compile(objective) if config.compile else objective
    if world == 1:
        return called
    return DistributedDataParallel(called, device_ids=[device] if device.type == "cuda" else None)


def is_sharded(choice: str, weights: int, device: torch.device, world: int) -> bool:
    """Whether a model is sharded; every worker gets the same answer, and all have to ask.

    "ddp" and "fsdp" say so themselves; one worker has nobody to share with. "auto" shards where 24 bytes a weight are
    more than half of the memory of a device, the smallest of the workers'. A CPU's is that of its machine over the
    number of workers, as if all were on it.
    """
    if world == 1 or choice == "ddp":
        return False
    if choice == "fsdp":
        return True
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // world
    least = torch.tensor(memory, device=device)
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return BYTES_A_WEIGHT * weights > _SHARE_OF_MEMORY * int(least)


def _precision(part: nn.Module, config: TrainConfig) -> MixedPrecisionPolicy:
    """Weights that autocast would turn into halves anyway travel as such, and no whole copy stays for the gradient."""
    linear = all(isinstance(m, nn.Linear) for m in part.modules() if m._parameters)
    if config.precision == "bfloat16" and linear:
        return MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    return MixedPrecisionPolicy()


def gathered(tensors: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Tensors as they are on one device, in main memory; a sharded run needs all workers to ask.

    Those that do not ``keep`` them get none.
    """
    whole = {}
    for name, tensor in tensors.items():
        found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            whole[name] = found.detach().cpu()
    return whole


def laid_out(whole: Tensor, like: Tensor) -> Tensor:
    """A tensor that every worker has all of, on the device of a parameter and sharded as that is."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    # Each takes its share of what it has: nothing is sent.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def sharded(module: nn.Module) -> bool:
    """Whether ``distributed`` has sharded it."""
    return isinstance(module, FSDPModule)
