"""The exceptions and warnings of the package that are not Python's own. Loads no torch."""

from __future__ import annotations

import signal


class DataWarning(UserWarning):
    """Data that can be used but is not what was expected."""


class KeyFault(ValueError):
    """An unusable value, together with the config key that gave it.

    A function that several commands call names the key of ``sharcs train``. A command whose key has another name raises
    ``error.of(key)``.

    Attributes: key, such as ``width.multipliers``; fault, the text that follows the key in the message.
    """

    def __init__(self, key: str, fault: str) -> None:
        super().__init__(key, fault)
        self.key = key
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.key}{self.fault}"

    def of(self, key: str) -> KeyFault:
        """Return a copy of this fault that names another key."""
        return KeyFault(key, self.fault)


class Diverged(Exception):
    """Training reached a loss, weights or predictions that are not finite. The command reports it in one line and exits
    with code 1. A sweep names the failed job and continues."""


class Interrupted(BaseException):
    """A signal stopped the run.

    This is not a KeyboardInterrupt, because Lightning exits the process on one. It is not an Exception, because
    launchers record an Exception as the job's result.

    Attributes: signal; code, the exit code of the process; requeued, True if SLURM starts the job again.
    """

    def __init__(self, number: int, code: int | None = None, requeued: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)
        self.code = 128 + number if code is None else code
        self.requeued = requeued
