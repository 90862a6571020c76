"""The exceptions and warnings of the package that are not Python's own. Loads no torch."""

from __future__ import annotations

import signal


class DataWarning(UserWarning):
    """Data that can be used but is not what was expected."""


class KeyFault(ValueError):
    """A value that cannot be used, with the config key that gave it.

    A function below the commands names the key of ``sharcs train``. A command that calls it for a key of its own raises
    ``error.of(key)``.

    Attributes: key, such as ``width.multipliers``; fault, the text that follows the key.
    """

    def __init__(self, key: str, fault: str) -> None:
        super().__init__(key, fault)
        self.key = key
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.key}{self.fault}"

    def of(self, key: str) -> KeyFault:
        """Return the same fault, told of another key."""
        return KeyFault(key, self.fault)


class Diverged(Exception):
    """Training reached a loss, weights or answers that are not finite. The command says so in one line and ends with
    exit code 1; a sweep names the job and goes on."""


class Interrupted(BaseException):
    """A signal stopped the run. It is no KeyboardInterrupt, which Lightning answers by leaving the process, and no
    Exception, which launchers take for the job's result.

    Attributes: signal; code: the exit code to leave with; requeued: whether SLURM starts the job again.
    """

    def __init__(self, number: int, code: int | None = None, requeued: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)
        self.code = 128 + number if code is None else code
        self.requeued = requeued
