"""The model card: the ``README.md`` of a saved model's folder, written from what else lies in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.files import write_text
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.renamed import CUSTOM, current_task
from sharcs_pl.core.text import markdown, one_line
from sharcs_pl.inference.trained import CARD
from sharcs_pl.models.stock_form import obstacle
from sharcs_pl.runs.card_contents import Contents

_CITATION = """\
@inproceedings{salehi2023sharcs,
  title     = {{SHARCS}: Efficient Transformers through Routing with Dynamic Width Sub-networks},
  author    = {Salehi, Mohammadreza and Mehta, Sachin and Kusupati, Aditya and Farhadi, Ali and Hajishirzi, Hannaneh},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2023},
  year      = {2023},
  url       = {https://arxiv.org/abs/2310.12126}
}"""
_COMMANDS = """

From the command line, for files and pipes, and as one file for another runtime:

```bash
sharcs predict run=path/to/this/folder input=texts.jsonl output=answers.jsonl
sharcs export run=path/to/this/folder output=model.onnx
```"""
_STOCK = """

As an ordinary model of transformers that needs no other package:

```bash
sharcs export run=path/to/this/folder format=transformers output=stock
```"""
_STOCK_USAGE = """\
## How to use

No other package than transformers is needed:

```python
from transformers import pipeline

classify = pipeline("text-classification", model="path/to/this/folder")
print(classify(["one text", "another"], batch_size=32))
```"""


def write_card(folder: Path) -> None:
    """Write the folder's ``README.md``, whole, in place of an old one. Raise ``ValueError`` as `Contents.of` does."""
    write_text(folder / CARD, card(Contents.of(folder)))


def is_own_card(folder: Path) -> bool:
    """Return True if the folder has no ``README.md``, or the one that `write_card` would write, however an earlier
    version laid out its front matter."""
    path = folder / CARD
    if not path.exists():
        return True
    written = path.read_text(encoding="utf-8", errors="replace")
    return _parts(written) == _parts(card(Contents.of(folder)))


def _parts(written: str) -> Any:
    """Return what the front matter says and the text below it; the text as it is where that is no front matter."""
    pieces = written.split("---\n", 2)
    try:
        return (yaml.safe_load(pieces[1]), pieces[2]) if pieces[0] == "" and len(pieces) == 3 else written
    except yaml.YAMLError:
        return written


def card(found: Contents) -> str:
    """Return the card: front matter for the Hugging Face hub, the model, its results, its use and its limits."""
    sections = [
        _introduction(found),
        _ladder(found),
        _results(found),
        _points(found),
        _usage(found),
        _limits(found),
        f"## Citation\n\n```bibtex\n{_CITATION}\n```",
    ]
    text = "\n\n".join(section for section in sections if section)
    return str(ModelCard(f"---\n{_front_matter(found).to_yaml()}\n---\n\n{text}\n"))


def _front_matter(found: Contents) -> ModelCardData:
    ours = ["sharcs", *(["adaptive-inference", "dynamic-width"] if not found.stock else [])]
    return ModelCardData(
        library_name="transformers" if found.stock else "sharcs-pl",
        pipeline_tag="text-classification",
        tags=[*ours, found.config["encoder"]["model_type"]],
        base_model=found.base_model,
        model_name=one_line(f"sharcs-{found.task}") if found.metrics else None,
        eval_results=[_result(found)] if found.metrics else None,
    )


def _result(found: Contents) -> EvalResult:
    return EvalResult(
        task_type="text-classification",
        dataset_name=one_line(str(found.task)),
        dataset_type=one_line(str(found.task)),
        dataset_split="validation",
        metric_type=one_line(found.metrics["metric"]),
        metric_value=found.metrics["routed"]["value"],
        metric_name=one_line(found.metric if found.stock else f"{found.metric}, routed"),
    )


def _introduction(found: Contents) -> str:
    encoder, sizes = found.config["encoder"]["model_type"], found.sizes
    about = f" for the task {markdown(found.task)}" if found.task and current_task(found.task) != CUSTOM else ""
    shape = f"{sizes.layers} layers, hidden size {sizes.hidden}, {sizes.heads} heads"
    start = f", fine-tuned from {markdown(found.base_model)}" if found.base_model else ""
    kind = "depth" if found.exits else "length" if found.skims else "width"
    return (
        f"# Text classifier{'' if found.stock else f' of adaptive {kind}'}{about}\n\n"
        f"A {encoder} encoder ({shape}){start}. {_how(found)}\n\n"
        f"It answers a text with {found.answers}."
    )


def _how(found: Contents) -> str:
    layers, widths = found.sizes.layers, found.widths
    if found.stock:
        return "It is an ordinary model of transformers: every text runs at full width, with no router."
    if found.exits:
        places, config = ", ".join(map(str, found.exits)), found.config
        rule = f"{markdown(config['rule'])} with the threshold {config['threshold']:g}"
        return f"After the layers {places} of {layers} a head may answer: each text stops where it is sure, by {rule}."
    if found.skims:
        return "Before every layer it skips the tokens that the layers above do not need."
    if found.routed:
        return (
            f"After layer {found.split_layer} of {layers} a small router chooses, for every text of a batch, "
            "how wide the layers above run: easy texts take a narrow slice of the weights, hard ones all of them."
            f"{' Until then it skips tokens that no layer above needs.' if found.config.get('skim') else ''}"
        )
    if len(widths) > 1:
        return (
            f"It has the widths {', '.join(widths)} and no router: it runs at the one it is told, else at full width."
        )
    where = "full width" if widths == ["1"] else f"the width {widths[0]}"
    return f"It runs every text at {where}: there is one rung and no router."


def _ladder(found: Contents) -> str:
    if len(found.widths) < 2:
        return ""
    sizes = found.sizes
    full = (sizes.hidden, sizes.heads, sizes.ffn)
    rows = [[rung, width, *(int(Fraction(width) * size) for size in full)] for rung, width in enumerate(found.widths)]
    table = _table(["rung", "width", "hidden", "heads", "feed-forward"], rows)
    split = f"Sizes of the layers after the split layer, {found.split_layer} of {sizes.layers}:"
    return f"## Ladder\n\n{split}\n\n{table}"


def _results(found: Contents) -> str:
    metrics = found.metrics
    if not metrics:
        return ""
    fixed = zip(found.ladder.rungs(), metrics["rungs"], strict=True)
    rows = [_result_row(f"every text {name.place}", rung, rung["share"]) for name, rung in fixed]
    if len(rows) > 1:
        rows.insert(0, _result_row("routed", metrics["routed"]))
    if len(rows) > 1 and metrics["oracle"]["value"] is not None:
        best = "of the rungs with the most right labels" if found.several else "rung that is right"
        rows.append(_result_row(f"oracle routing (the cheapest {best})", metrics["oracle"]))
    table = _table(["", markdown(found.metric), "million MACs per text", "of dense", "share routed there"], rows)
    note = "; routed by the rule of training" if found.routed else ""
    return f"## Results\n\nOn the validation split of {markdown(found.task)}{note}. MACs are multiply-adds.\n\n{table}"


def _result_row(name: str, at: dict[str, Any], share: float | None = None) -> list[str]:
    return [name, f"{at['value']:.4f}", f"{at['macs'] / 1e6:,.0f}", f"{at['macs_fraction']:.3f}", _number(share)]


def _points(found: Contents) -> str:
    if not found.routed:
        return ""
    points = {TRAINED: {}} | found.config.get("operating_points", {})
    used = found.config.get("operating_point") or TRAINED
    rows = [
        [markdown(name) + " (in use)" * (name == used), *_point_cells(found, point)] for name, point in points.items()
    ]
    head = ["point", "thresholds (router logits)", "metric", "value", "of dense", "measured on", "chosen on"]
    table = _table([*head, "P(full width right, routed wrong) at most"], rows)
    cascades = any(point.get("rule", "router") != "router" for point in (found.config, *points.values()))
    return (
        "## Operating points\n\nA text runs on the narrowest rung whose threshold its router logit, or that of a "
        f"narrower rung, reaches; else at full width. {_CASCADES * cascades}`{TRAINED}` is the rule of training. "
        f"`sharcs calibrate` adds points: it chooses them on some texts and measures them on the same or on others.\n\n"
        f"{table}"
    )


_CASCADES = "A cascade begins narrow and goes on to the next width while the answer is less sure than its stop. "


def _point_cells(found: Contents, point: dict[str, Any]) -> list[str]:
    """Return the table cells of a point, as calibration kept it; the rule of training has a probability, or none."""
    probability = found.config.get("router_threshold")
    trained = "the likeliest rung" if probability is None else f"probability {probability:g}"
    thresholds = ", ".join(f"{float(value):.4g}" for value in point.get("thresholds", ())) or trained
    rule = DecisionRule.from_point(point or {"rule": found.config.get("rule", "router")})
    if rule.cascades:
        stops = ", ".join(f"{x:.4g}" for x in rule.stops or ()) or "the trained stop"
        routed = f", begins by {thresholds}" if rule.routed else ""
        thresholds = f"{rule.name}: stops at {rule.certainty} {stops}{', averaged' if rule.average else ''}{routed}"
    measured = [_number(point.get(key), ".4f") for key in ("value", "macs_fraction")]
    chose = point.get("samples")
    texts = [_number(count, ",d") for count in (point.get("holdout_samples", chose), chose)]
    chosen = ", ".join(f"{key}={point[key]}" for key in ("backend", "precision") if key in point)
    thresholds += f" ({markdown(chosen)})" * bool(chosen)
    return [thresholds, markdown(point.get("metric", "")), *measured, *texts, _risk(point)]


def _risk(point: dict[str, Any]) -> str:
    """Return the bound of a point's risk with all that it rests on, and whether it holds."""
    bound = point.get("risk_bound")
    if bound is None:
        return ""
    tested = point.get("tested", point.get("holdout_samples", point.get("samples", 0)))
    told = f"{bound:.4f} with confidence {point.get('confidence', 0):g}, from {tested:,d} texts"
    if point.get("chose_epoch") and not point.get("risk_bound_holds"):
        return f"no promise ({told}): the texts chose the epoch too"
    if not point.get("risk_bound_holds", "max_drop" in point or len(point.get("thresholds", ())) < 2):
        return f"no promise ({told}): the texts chose the thresholds too"
    return told


def _usage(found: Contents) -> str:
    if found.stock:
        return _STOCK_USAGE
    if found.exits or found.skims:
        return _usage_of(*("exits", "Exits") if found.exits else ("skim", "Skim"))
    points = found.config.get("operating_points", {})
    name = next(iter(points), None)
    dial = f"classify.model.set_operating_point({name!r})  # None: the rule of training\n" if name else ""
    return (
        "## How to use\n\n"
        "```python\n"
        "from transformers import pipeline\n\n"
        "from sharcs_pl import SharcsForSequenceClassification  # importing it makes the architecture known\n\n"
        'classify = pipeline("text-classification", model="path/to/this/folder")\n'
        f'{dial}print(classify(["one text", "another"], batch_size=32, truncation=True))\n\n'
        'model = SharcsForSequenceClassification.from_pretrained("path/to/this/folder")\n'
        "```" + ("" if found.config.get("skim") else _COMMANDS) + ("" if obstacle(found.config) else _STOCK)
    )


def _usage_of(module: str, name: str) -> str:
    return (
        "## How to use\n\n"
        "```python\n"
        "from transformers import AutoTokenizer\n\n"
        f"from sharcs_pl.models.{module} import {name}ForSequenceClassification\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n'
        f'model = {name}ForSequenceClassification.from_pretrained("path/to/this/folder")\n'
        'batch = tokenizer(["one text", "another"], padding=True, truncation=True, return_tensors="pt")\n'
        "out = model(**batch)  # out.logits; threshold=... sets the dial\n"
        "```" + (_STOCK if module == "exits" else "")
    )


def _limits(found: Contents) -> str:
    length = found.record.get("task", {}).get("max_length")
    lines = [
        "The results are those of the validation split, on which the best checkpoint was chosen too.",
        "Router and operating points are set for texts like those of training; on others both accuracy and cost may "
        "differ: calibrate and evaluate on your own.",
        "MACs leave out look-ups, norms, activations and the tokenizer; time depends on the machine and the batches.",
        "It has whatever biases the encoder and the training texts have.",
    ]
    if not found.routed:
        lines[1] = "On texts unlike those of training accuracy may differ: evaluate on your own."
    if length:
        lines.insert(0, f"It was trained on texts cut at {markdown(length)} tokens.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)
