"""The runtimes of exported parts, and what they leave of the process that runs them."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharcs_pl.inference import runtimes
from sharcs_pl.inference.runtimes import (
    OpenVinoGraph,
    check_exporter,
    check_runtime,
    on_thread_of_its_own,
    openvino_core,
    runtime_pairs,
)
from tests.inference.conftest import needs


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux's sigaltstack."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int]:
    """Return the place and size of this thread's stack for signals."""
    found = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.pointer, found.size


@pytest.mark.skipif(sys.platform != "linux", reason="reads the stack for signals as Linux keeps it")
def test_openvino_leaves_the_stack_for_signals_alone(tmp_path: Path) -> None:
    needs("openvino")
    from openvino import Model, opset13, save_model

    before = signal_stack()
    inputs = opset13.parameter([-1, 4], np.float32)
    inputs.output(0).set_names({"rows"})
    model: Any = Model([opset13.relu(inputs)], [inputs])  # pyright: ignore[reportGeneralTypeIssues]
    save_model(model, tmp_path / "part.xml")
    for _ in range(2):
        graph = OpenVinoGraph(tmp_path / "part.xml", "float32", 1)
        assert graph({"rows": np.ones((2, 4), np.float32)}).tolist() == [[1] * 4] * 2
        assert signal_stack() == before
    assert openvino_core() is openvino_core()


def test_what_work_on_a_thread_raises_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        on_thread_of_its_own(lambda: 1 / 0)
    assert on_thread_of_its_own(lambda: 7) == 7


def test_a_precision_that_a_runtime_lacks_is_refused() -> None:
    needs("onnxruntime")
    with pytest.raises(ValueError, match="precision=bfloat16: onnxruntime computes in float32 or int8 on CPUs"):
        check_runtime("onnxruntime", "bfloat16")


@pytest.mark.parametrize(
    ("backends", "precisions", "told"),
    [
        (["torch"], ["float32"], "torch is measured in bfloat16"),
        (["onnxruntime"], ["bfloat16"], "onnxruntime is measured in float32 or int8"),
        (["torch", "onnxruntime"], ["float32", "bfloat16", "int8", "int4"], "none of .* computes in int4"),
    ],
)
def test_a_runtime_or_precision_without_a_partner_is_refused(
    backends: list[str], precisions: list[str], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        runtime_pairs(backends, precisions)


def test_the_packages_that_an_export_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name in ("openvino", "nncf") else name)
    check_exporter()
    with pytest.raises(ValueError, match=r"needs openvino: pip install 'sharcs-pl\[onnx,openvino\]'"):
        check_exporter("openvino")
    with pytest.raises(ValueError, match="needs openvino, nncf"):
        check_exporter("openvino", quantized=True)
