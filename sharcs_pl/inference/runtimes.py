"""The runtimes that run exported parts, each a function from named arrays to one array. Loads neither of them.

A runtime is one of `RUNTIMES`, a class with `suffix`, the kind of its graph's file; `precisions`, what it can compute
in; `extra`, the package's extra that installs it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    import openvino

T = TypeVar("T")

PRECISIONS = ("float32", "bfloat16", "int8")


class Graph(Protocol):
    """A part as its runtime runs it."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the one output of the graph, in memory that the same thread's next call may overwrite."""
        raise NotImplementedError


class OnnxRuntimeGraph:
    """A graph in onnxruntime. `threads`: of one call, None for the runtime's own choice."""

    suffix: ClassVar = ".onnx"
    precisions: ClassVar = ("float32", "int8")
    package: ClassVar = "onnxruntime"
    extra: ClassVar = "onnx"

    def __init__(self, path: Path, precision: str, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._session.run(None, dict(inputs))[0]  # pyright: ignore[reportReturnType]


class OpenVinoGraph:
    """A graph in OpenVINO on the CPU. Arrays go in and out without a copy, and each thread has memory of its own."""

    suffix: ClassVar = ".xml"
    precisions: ClassVar = PRECISIONS
    package: ClassVar = "openvino"
    extra: ClassVar = "openvino"

    def __init__(self, path: Path, precision: str, threads: int | None) -> None:
        core = openvino_core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ValueError(
                "precision=bfloat16: this processor has no bfloat16 arithmetic; use precision=float32, or parts of int8"
            )
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(path, "CPU", options)
        self._own = threading.local()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return self._own.request.infer(dict(inputs), share_inputs=True, share_outputs=True)[0]


def openvino_core() -> openvino.Core:
    """Return OpenVINO's core, the same for all graphs of this process, with its CPU plugin loaded."""
    return _core_of(os.getpid())


@cache
def _core_of(process: int) -> openvino.Core:  # a fork makes its own: the threads of its parent's do not come along
    import openvino

    def loaded() -> openvino.Core:
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")
        return core

    return on_thread_of_its_own(loaded)


def on_thread_of_its_own(work: Callable[[], T]) -> T:
    """Return what a function returns, run on a thread that ends with it: for work that loads OpenVINO's CPU plugin.

    The plugin gives the thread that loads it a stack for signals, and frees that stack when its core goes. A thread on
    which two cores were made can be left with the freed stack, and then the next signal ends the process.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


TORCH = "torch"
NO_TEXTS = "sharcs export format=parts precision=int8"  # what makes int8, which needs texts
RUNTIMES = {"onnxruntime": OnnxRuntimeGraph, "openvino": OpenVinoGraph}


def check_runtime(backend: str, precision: str) -> None:
    """Raise `ValueError` where a runtime is unknown or not installed, or does not compute in a precision."""
    if backend not in RUNTIMES:
        raise ValueError(f"backend={backend} is unknown; choose one of: torch, {', '.join(RUNTIMES)}")
    kind = RUNTIMES[backend]
    if find_spec(kind.package) is None:
        raise ValueError(f"backend={backend} is not installed: pip install 'sharcs-pl[{kind.extra}]'")
    if precision not in kind.precisions:
        raise ValueError(f"precision={precision}: {backend} computes in {' or '.join(kind.precisions)} on CPUs")


def check_exporter(backend: str = "onnxruntime", quantized: bool = False) -> None:
    """Raise `ValueError` where a package that writes graphs for a runtime is not installed."""
    needed = ["onnx", "onnxscript", "onnxruntime"]
    if backend == "openvino":
        needed += ["openvino", "nncf"][: 1 + quantized]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        extras = "onnx,openvino" if backend == "openvino" else "onnx"
        raise ValueError(f"this export needs {', '.join(missing)}: pip install 'sharcs-pl[{extras}]'")


def runtime_pairs(backends: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of backend and precision that a benchmark measures beside torch in float32. Raise `ValueError`
    for a backend or precision that is in no pair, and for packages that are not installed."""
    found = []
    for backend in backends:
        having = ("bfloat16",) if backend == TORCH else RUNTIMES[backend].precisions
        pairs = [(backend, precision) for precision in precisions if precision in having]
        if not pairs:
            raise ValueError(f"backends: {backend} is measured in {' or '.join(having)}; add one to precisions")
        found += pairs
    for precision in precisions if found else ():
        if precision not in {known for _, known in found}:
            raise ValueError(f"precisions: none of backends={list(backends)} computes in {precision}")
    for backend, precision in found:
        if backend != TORCH:
            check_runtime(backend, precision)
            check_exporter(backend, precision == "int8")
    return found
