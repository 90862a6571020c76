"""The number of a run's processes, and the check that the devices it asks for are here."""

from __future__ import annotations

import torch

from sharcs_pl.config import RunConfig


def world_size(config: RunConfig) -> int:
    """Return the number of processes of the run."""
    devices = config.trainer.devices
    if isinstance(devices, list):
        return len(devices) * config.trainer.num_nodes
    if str(devices) in ("auto", "-1"):
        gpus = torch.cuda.device_count() if config.trainer.accelerator in ("auto", "gpu", "cuda") else 0
        return max(1, gpus) * config.trainer.num_nodes
    return int(devices) * config.trainer.num_nodes


def device_of(accelerator: str) -> str:
    """Return the name of torch's device that an accelerator stands for here."""
    graphics = "cuda" if torch.cuda.is_available() else "cpu"
    return accelerator if accelerator in ("cpu", "mps") else graphics


def check_accelerator(name: str, key: str = "trainer.accelerator") -> None:
    """Raise ``ValueError`` naming the key where the accelerator asked for is not here."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = {"gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not here.get(name, True):
        raise ValueError(f"{key}={name}: torch sees no such device here; use {key}=cpu or auto")


def check_devices(config: RunConfig) -> None:
    """Raise ``ValueError`` naming the key where the devices asked for are not here, or do not know the precision."""
    trainer = config.trainer
    check_accelerator(trainer.accelerator)
    asked, cuda = trainer.devices, trainer.accelerator not in ("cpu", "mps") and torch.cuda.is_available()
    chosen = isinstance(asked, list) or asked == -1
    on_cpu = trainer.accelerator == "cpu" or not (cuda or torch.backends.mps.is_available())
    if on_cpu and chosen:
        raise ValueError(f"trainer.devices={asked} chooses GPUs, and none is here; give a number, trainer.devices=1")
    if on_cpu and str(trainer.precision) in ("16-mixed", "16"):
        raise ValueError(f"trainer.precision={trainer.precision} needs a GPU; on a CPU use bf16-mixed or 32-true")
    count = torch.cuda.device_count() if cuda else 0
    wanted = max(asked) + 1 if isinstance(asked, list) else asked if isinstance(asked, int) else 0
    if cuda and wanted > count:
        raise ValueError(f"trainer.devices={asked}: {count} GPUs are here, numbered from 0")
