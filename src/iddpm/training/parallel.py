"""Data-parallel and sharded training, by DDP and FSDP2."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from iddpm.runtime.processes import Ranks

Sharing = Callable[[bool], AbstractContextManager[object]]
"""A function that returns a context for a forward and backward pass. Its argument says whether the
gradients are averaged over the processes; of several passes, the last averages their sum."""


def alone(share: bool) -> AbstractContextManager[object]:
    """Return a context that does nothing: there are no other processes."""
    return nullcontext()


def replicate(network: Any, device: torch.device, *, own: bool = False) -> tuple[Any, Sharing]:
    """Wrap a network so that its gradients are the mean over the processes (DDP).

    Args:
        network: on its device; a wrapper such as torch.compile's will do.
        device: this process's own.
        own: whether it is the user's own, which may leave parameters unused.

    Returns:
        The network to call, and how to share gradients.
    """
    wrapped = DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=any(True for _ in network.buffers()),  # such as batch normalization's
        find_unused_parameters=own,
        gradient_as_bucket_view=True,  # no second copy of the gradients
    )
    return wrapped, lambda share: nullcontext() if share else wrapped.no_sync()


def shard(network: nn.Module, ranks: Ranks, device: torch.device, *, own: bool = False) -> Sharing:
    """Let each process keep its rows (axis 0) of every weight, in place (FSDP2).

    A block is gathered when it is needed and released afterwards. Weights on the CPU move to the
    device block by block, so that it never holds all of them.

    Args:
        network: the same on every process; its blocks are its children that are sequences, and
            what its lists hold.
        ranks: all processes.
        device: this process's own.
        own: whether it is the user's own. It is one block, since nobody knows which of its parts
            are called as modules.

    Returns:
        How to share the gradients, whose mean over the processes is taken.
    """
    # Imported here, because it takes seconds and one process does not need it.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (ranks.count,))
    for block in () if own else _blocks(network):
        fully_shard(block, mesh=mesh)
    # Also those of the root: averages have no backward pass that would release them.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    assert isinstance(network, FSDPModule)
    if any(True for _ in network.buffers()):
        network.register_forward_pre_hook(_broadcast_buffers)

    def share(now: bool) -> AbstractContextManager[object]:
        network.set_requires_gradient_sync(now)
        return nullcontext()

    return share


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    while isinstance(inner := getattr(network, "network", None), nn.Module):
        network = inner  # a head or a transform is around the network that has the blocks
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif isinstance(child, nn.Sequential):
            yield child


def _broadcast_buffers(network: nn.Module, _: object) -> None:
    """Give every process the buffers of the first, as DDP does; averages do not train."""
    if network.training:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def own_part(value: Any) -> tuple[Tensor, slice]:
    """Return this process's rows of a tensor, and their range; all rows unless it is sharded."""
    if not hasattr(value, "to_local"):
        return value, slice(None)
    local: Tensor = value.to_local()
    size = -(-value.shape[0] // value.device_mesh.size())
    start = min(value.device_mesh.get_local_rank() * size, value.shape[0])
    return local, slice(start, start + len(local))


def whole(value: Tensor) -> Tensor:
    """Return a tensor with the rows of all processes; if it is sharded, all must call this."""
    full: Callable[[], Tensor] | None = getattr(value, "full_tensor", None)
    return value if full is None else full()


def whole_weights(network: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """Return a network's weights for writing on the first rank, and nothing on the others.

    All ranks must call it.

    Raises:
        RankLost: another rank ended or did not answer.
    """
    weights = {}
    for name, value in network.state_dict().items():
        with ranks.talking():
            gathered = whole(value)
        if ranks.first:
            # A second copy is moved off the device.
            weights[name] = gathered if gathered is value else gathered.cpu()
    return weights
