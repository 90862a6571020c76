"""Communication between the processes of a run other than gradients. torch is imported inside functions."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def all_ranks(value: T) -> list[T]:
    """Return the values of all processes in the order of ranks; a single process gets a list of its own value.

    This is a collective, so every process must call it at the same point. Tensors should lie on the CPU.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    found: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def this_rank() -> int:
    """Return the rank of this process, 0 without distributed training."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
