"""The arithmetic that the processor of this machine has. Loads no torch."""

from __future__ import annotations

from pathlib import Path

_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}


def has_int8() -> bool:
    """Return True if products of int8 have instructions of their own (VNNI, AMX, Arm's dot product), so that they are
    faster than float32 and do not saturate; also where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return True
    words = set(info.read_text(encoding="utf-8").split())
    return bool(words & _INT8)
