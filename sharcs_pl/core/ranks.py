"""What the processes of a run tell each other beside gradients. torch is imported where it is used."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def all_ranks(value: T) -> list[T]:
    """Every process's value in the order of ranks, on every process; alone, just this one's.

    A collective: every process must call it, at the same point. Tensors should lie on the CPU.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    found: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def this_rank() -> int:
    """The place of this process in `all_ranks`."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
