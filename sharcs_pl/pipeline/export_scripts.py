"""What ``sharcs export`` prints: what it wrote, and a script that runs it where this project is not installed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sharcs_pl.pipeline.console import display_path

if TYPE_CHECKING:
    from sharcs_pl.inference.export import Exported


def present(format: str, tokenizer: Path | None, done: Sequence[Exported]) -> None:
    """Print what was written, and a script that runs the last file; `tokenizer` is the folder of the tokenizer."""
    for each in done:
        path, ratio = display_path(each.path.absolute()), each.file_bytes / each.parameter_bytes
        print(f"{path}: {each.file_bytes / 1e6:.1f} MB, {ratio:.3f} of its parameters' bytes")
        if not math.isnan(each.difference):
            print(f"largest difference to the model's own logits: {each.difference:.1e}")
    print(f"\nto run it:\n\n{snippet(format, tokenizer, done[-1])}")


def snippet(format: str, tokenizer: Path | None, done: Exported) -> str:
    """Return a Python script that answers two texts with the file, or with the folder."""
    if format == "transformers":
        return _STOCK.replace("FOLDER", repr(str(done.path.absolute())))
    onnx = format in ("onnx", "hub")
    folder = "<folder of the tokenizer>" if tokenizer is None else str(tokenizer.absolute())
    file = repr(str(done.path.absolute()))
    types = ", return_token_type_ids=True" if "token_type_ids" in done.inputs else ""
    settings = [name for name in done.inputs if name in ("thresholds", "stops", "average")]
    texts, value = [name for name in done.inputs if name not in settings], _ONNX_VALUE if onnx else _TORCH_VALUE
    routed = len(texts) < len(done.inputs)
    outputs = "logits, rungs, *router_logits" if routed else "(logits,)"
    lines = [
        "import json",
        *(["import numpy as np", "import onnxruntime"] if onnx else ["import torch"]),
        "from transformers import PreTrainedTokenizerFast",
        "",
        f"tokenizer = PreTrainedTokenizerFast.from_pretrained({folder!r})",  # the auto class asks to run our code
        *(line.replace("FILE", file) for line in (_ONNX_OPEN if onnx else _TORCH_OPEN)),
        f'options = dict(padding=True, truncation=True, return_tensors="{"np" if onnx else "pt"}"{types})',
        'texts = tokenizer(["one text", "another"], max_length=facts["max_length"], **options)',
        f"inputs = {{name: texts[name] for name in {texts}}}",
        *([_POINT.replace("VALUE", value).replace("INPUTS", str(settings))] if routed else []),
        f"{outputs} = session.run(None, inputs)" if onnx else f"{outputs} = program(**inputs)",
        f"print(logits{', rungs' if routed else ''})",
    ]
    return "\n".join(lines)


_STOCK = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)
texts = tokenizer(["one text", "another"], padding=True, truncation=True, return_tensors="pt")
logits = model(**texts).logits
print(logits)"""
_ONNX_OPEN = (
    "settings = onnxruntime.SessionOptions()",
    "settings.log_severity_level = 3  # errors: a warning would say that callers may replace the operating point",
    'session = onnxruntime.InferenceSession(FILE, settings, providers=["CPUExecutionProvider"])',
    "facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}",
)
_TORCH_OPEN = (
    'extra = {"sharcs.json": ""}',
    "program = torch.export.load(FILE, extra_files=extra).module()",
    'facts = json.loads(extra["sharcs.json"])',
)
_POINT = """\
point = facts["operating_points"][facts["operating_point"]]  # None stands for NaN: the likeliest rung, no cascade
for name in set(point) & set(INPUTS):
    value = [float("nan")] * (len(facts["widths"]) - 1) if point[name] is None else point[name]
    inputs[name] = VALUE"""
_ONNX_VALUE = "np.array(value, np.float32)"
_TORCH_VALUE = "torch.tensor(value)"
