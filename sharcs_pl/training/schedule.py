"""The learning-rate schedule as a function of the fraction of epochs done."""

from __future__ import annotations


def epoch_fraction(epoch: int, step: int, steps_in_epoch: int, max_epochs: int) -> float:
    """Return the share of the training done before ``step`` of ``epoch``, in [0, 1]; all epochs count alike.

    Epochs of a routed run differ in length, so a count of steps cannot tell how much is left.
    """
    return min(1.0, (epoch + step / max(1, steps_in_epoch)) / max_epochs)


def stage_fraction(epoch: int, step: int, steps_in_epoch: int, max_epochs: int, stage_epochs: int) -> float:
    """Return the share of the stage done before ``step`` of ``epoch``, in [0, 1]: of the first ``stage_epochs`` epochs,
    or of those after them. With 0 there is one stage."""
    begin, end = (0, stage_epochs) if epoch < stage_epochs else (stage_epochs, max_epochs)
    return epoch_fraction(epoch - begin, step, steps_in_epoch, end - begin)


def linear_warmup_decay(fraction: float, warmup_fraction: float) -> float:
    """Return the factor on the peak learning rate, which rises from 0 to 1 over the warm-up and falls to 0 at the end.

    Args:
        fraction: share of the training done, in [0, 1].
        warmup_fraction: share of the training spent rising, in [0, 1].
    """
    if fraction < warmup_fraction:
        return fraction / warmup_fraction
    return (1.0 - fraction) / (1.0 - warmup_fraction) if warmup_fraction < 1.0 else 1.0
