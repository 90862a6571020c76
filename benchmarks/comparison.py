"""Every method on real GLUE data with one real encoder, and what reordering gives; goes on where it was cut.

Run: ``python benchmarks/comparison.py --glue $GLUE``. For each task a SHARCS run comes first; the other methods train
as many steps per epoch as it did, by its kept ``plan.csv``. Each step is one ordinary command; a cut training goes on
from its last checkpoint. What a report needs, with the command and the machine, goes to
``benchmarks/results/comparison/<task>/<step>/``: a step that is there is done. ``--report`` trains nothing: from those
files alone it makes ``report.md`` there, and its figures.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from steps import CPU, FOLDERS, Step, arguments

from sharcs_pl.config.report import ReportConfig
from sharcs_pl.report import run as make_report

RESULTS = Path("benchmarks/results/comparison")
PAGE, IMAGES = RESULTS / "report.md", RESULTS / "figures"
KEPT = {
    "train": ("metrics.json", "metrics.csv", "curve.csv", "predictions.tsv", "plan.csv"),
    "reorder": ("reorder.json", "importance.parquet", "importance.png"),
    "bench": ("bench.json",),
}
DONE = {"train": "metrics.json", "reorder": "reorder.json", "bench": "bench.json"}

# Three widths after two of six layers. The wide ones keep every sample but the easy ones of the width below, so the
# router takes the narrowest likely one; the paper's plain recipe deals each sample to one width (docs/method.md).
LADDER = ("width.multipliers=[0.25,0.5,1]", "width.split_layer=2")
WIDTHS = (*LADDER, "width.bounds=[[0.8,1],[0.5,1],[0,1]]")
ROUTED = ("router.threshold=0.7", "checkpoint.max_macs_fraction=0.6")
# All hidden dims stay, so the cut may come earlier: narrow layers cost a quarter instead of a sixteenth.
HEADS_FFN = ("method.cut=heads_ffn", "width.split_layer=1")
PLAIN = (
    "width.bounds=[[0.8,1],[0.5,0.8],[0,0.5]]",
    "router.threshold=0.5",
    "distill=none",
    "hardness.warmup_epochs=null",
)
TASKS = {
    "mrpc": ("trainer.max_epochs=5", "hardness.warmup_epochs=2", "batch_size=16"),
    "sst2": ("trainer.max_epochs=3", "task.max_train_samples=20000"),
}
TITLE = "Methods compared on real data"
HEAD = f"""# {TITLE}

All methods use all-MiniLM-L6-v2 (6 layers, 22.7 M parameters), the development sets of GLUE, one seed and the CPU.
Training on SST-2 uses 20,000 rows. Every method but SHARCS makes as many steps as the first SHARCS run of its task. For
every method the thresholds are swept on the evaluated samples. [Methods](../../../docs/methods.md) describes each one.

**How they were run.** The three widths are 0.25, 0.5 and 1 after layer 2 of 6, or after layer 1 if all hidden dims are
kept (`heads and neurons cut`). SHARCS (except the plain recipe) and slimmable also learn the full width's logits.
`reordered` starts from the pretrained encoder, with the heads and neurons first that are important in the dense run.
SHARCS on slimmable and on the dense run starts from that trained model; its steps are added to the steps of that model.
For SHARCS, dense, fixed and slimmable the best epoch on the development set is kept; for SHARCS it is the best among
the epochs that cost at most 0.6 of dense. For exits and skimming the last epoch is kept, because a threshold sets the
cost afterwards.

**How to read it.** By chance alone an accuracy of 0.8 has a standard error of 0.020 on MRPC's 408 texts and of 0.014
on SST-2's 872 texts. One seed does not show the chance in training. First exits mostly give one answer for all samples,
and so does skimming that skips many tokens. At 0.5x MACs such a method is a mixture of guesses and the whole model.

This page is written by `python benchmarks/comparison.py --report` from the files in `benchmarks/results/comparison`,
where `run.json` holds the command of each run. With `--glue $GLUE` instead, the command first trains the missing runs,
and it continues where it was interrupted.

"""
BEFORE = """The first table shows the metric of the dense run's narrow widths before any training, in the given order →
with important heads and neurons first ([reordering](../../../docs/reordering.md)). The layers after the split are cut
in two ways:"""
AFTER = "The second table shows the metric after SHARCS training from both orders:"
# A threshold chosen afterwards says what these cost, so that no epoch is the best before it is: the last one counts.
LAST = ("checkpoint.save_best=false",)
EXITS = ("branchynet", "shallow_deep", "deebert", "pabee", "fastbert", "berxit")


def other(method: str, *words: str) -> tuple[str, tuple[str, ...]]:
    """A method beside SHARCS: as many steps as it."""
    return "train", ("encoder=minilm", *WIDTHS, f"method={method}", *words, "method.match=$KEPT/sharcs")


def routed(*words: str, encoder: str | None = None) -> tuple[str, tuple[str, ...]]:
    """A SHARCS run, from the pretrained encoder or from a folder."""
    start = ("encoder=minilm",) if encoder is None else ("encoder=custom", f"encoder.pretrained=$RUNS/{encoder}")
    return "train", (*start, *WIDTHS, *ROUTED, *words)


def timed(name: str) -> tuple[str, tuple[str, ...]]:
    """The measured speed of a SHARCS run beside the dense run; the machine should do nothing else."""
    words = ("batch_sizes=[32]", "order=[given,sorted]", "samples=256", "repeats=5", "warmup=1")
    return "bench", (f"run=$RUNS/{name}", "dense=$RUNS/dense", *words)


# Name, in words where a report shows it, and the command. In this order: later ones start from earlier ones.
STEPS: dict[str, tuple[str, tuple[str, tuple[str, ...]]]] = {
    "sharcs": ("SHARCS + distillation", routed()),
    "dense": ("dense", other("dense")),
    "slimmable": ("slimmable", other("slimmable")),
    "sharcs_slimmable": ("SHARCS on slimmable", routed(encoder="slimmable/model")),
    "order_trained": ("", ("reorder", ("run=$RUNS/dense",))),
    "order_pretrained": ("", ("reorder", ("run=$RUNS/dense", "weights=pretrained"))),
    "sharcs_reordered": ("SHARCS on reordered heads", routed(encoder="order_pretrained")),
    "sharcs_heads_ffn": (
        "SHARCS, heads and neurons cut, reordered",
        routed(*HEADS_FFN, encoder="order_pretrained"),
    ),
    "slimmable_heads_ffn": (
        "slimmable, heads and neurons cut, reordered",
        other("slimmable", *HEADS_FFN, "encoder=custom", "encoder.pretrained=$RUNS/order_pretrained"),
    ),
    "fixed_025": ("fixed width 0.25", other("fixed", "method.width=0.25")),
    "fixed_05": ("fixed width 0.5", other("fixed", "method.width=0.5")),
    **{name: (name, other(name, *LAST)) for name in EXITS},
    "skim": ("skim", other("skim", *LAST)),
    "skim_more": ("skim, weight 1", other("skim", "method.skim_weight=1", *LAST)),
    "sharcs_plain": ("SHARCS, plain recipe", routed(*PLAIN)),
    "sharcs_tuned": ("SHARCS on the dense run", routed(encoder="dense/model")),
    "sharcs_tuned_reordered": ("SHARCS on the dense run, reordered", routed(encoder="order_trained")),
    "sharcs_heads_ffn/bench": ("", timed("sharcs_heads_ffn")),
}


def step_of(task: str, name: str) -> Step:
    """The step's whole command."""
    command, words = STEPS[name][1]
    source = f"task.data_dir=$GLUE/{FOLDERS[task]}"
    data = (f"task={task}", source)
    if command == "bench":
        return Step(command, (*words, source, f"output=$RUNS/{name}"))
    if command == "reorder":
        return Step(command, (*data, *words, *LADDER, f"output=$RUNS/{name}"))
    settings = {word.split("=")[0]: word for word in (*TASKS[task], *words)}  # a step's own stand before the task's
    place = (f"hydra.run.dir=$RUNS/{name}", "ckpt_path=last")
    return Step(command, (*data, f"recipe={task}_minilm", *settings.values(), *CPU, *place))


def work(task: str, name: str, glue: Path, runs: Path) -> None:
    """Do one step, and keep its files; before it those that it starts from, where their run directories are gone."""
    step = step_of(task, name)
    places = {"GLUE": glue, "RUNS": runs / task, "KEPT": RESULTS.resolve() / task}
    source = runs / task / name
    if not (source / DONE[step.command]).exists():
        for needed in starts_from(step):
            if not (runs / task / needed / DONE[STEPS[needed][1][0]]).exists():
                work(task, needed, glue, runs)
        step.run(places)
    if not kept(task, name):
        step.keep(source, RESULTS / task / name, KEPT[step.command], places)


def starts_from(step: Step) -> list[str]:
    """The steps whose models its words name."""
    given = [word.partition("=$RUNS/") for word in step.words]
    return [place.split("/")[0] for key, _, place in given if key in ("run", "dense", "encoder.pretrained")]


def report() -> None:
    """The page and its figures, from the kept files of the steps that are done."""
    done = {(task, name) for task in TASKS for name in STEPS if kept(task, name)}
    runs = [(task, name) for task in TASKS for name, (label, _) in STEPS.items() if label and (task, name) in done]
    with tempfile.TemporaryDirectory() as folder:
        config = ReportConfig(
            runs=[str(RESULTS / task / name) for task, name in runs],
            names=[STEPS[name][0] for _, name in runs],
            title=TITLE,
            output=folder,
        )
        make_report(config)
        IMAGES.mkdir(parents=True, exist_ok=True)
        for image in Path(folder, "figures").glob("*.png"):
            shutil.copy(image, IMAGES / image.name)
        compared = Path(folder, "report.md").read_text()
    compared = compared.replace(f"# {TITLE}\n", HEAD).replace("](figures/", f"]({IMAGES.relative_to(PAGE.parent)}/")
    PAGE.write_text("\n".join([compared.rstrip(), "", *reordered(done)]) + "\n")


def reordered(done: set[tuple[str, str]]) -> Iterator[str]:
    """What reordering gave narrow widths, before and after training."""
    yield from ("## Important heads first", "", BEFORE, "", "| task | cut | 0.25 | 0.5 |")
    yield "|---|---|---:|---:|"
    for task in (task for task in TASKS if (task, "order_trained") in done):
        record = read(task, "order_trained", "reorder.json")
        for cut, words in (("rung", "hidden dims, heads and neurons"), ("hidden_kept", "heads and neurons")):
            rows = {row["width"]: row for row in record["narrow"] if row["cut"] == cut}
            cells = [f"{rows[w]['before']['value']:.4f} → {rows[w]['after']['value']:.4f}" for w in ("0.25", "0.5")]
            yield f"| {task} | {words} | {cells[0]} | {cells[1]} |"
    yield from (
        "",
        AFTER,
        "",
        "| task | run | 0.25 | 0.5 | 1 | routed | MACs, of dense |",
        "|---|---|---:|---:|---:|---:|---:|",
    )
    orders = ("sharcs", "sharcs_reordered", "sharcs_tuned", "sharcs_tuned_reordered")
    for task, name in (pair for pair in product(TASKS, orders) if pair in done):
        found = read(task, name, "metrics.json")
        rungs = " | ".join(f"{rung['value']:.4f}" for rung in found["rungs"])
        routed = found["routed"]
        yield f"| {task} | {STEPS[name][0]} | {rungs} | {routed['value']:.4f} | {routed['macs_fraction']:.3f} |"


def kept(task: str, name: str) -> bool:
    """Whether a step is done, here or on another machine."""
    return (RESULTS / task / name / "run.json").exists()


def read(task: str, name: str, file: str) -> Any:
    """A kept file."""
    return json.loads((RESULTS / task / name / file).read_text())


def main() -> None:
    args = arguments(__doc__, "comparison", {"tasks": TASKS, "steps": STEPS})
    if not args.report:
        for task in args.tasks:
            for name in (name for name in STEPS if name in args.steps and not kept(task, name)):
                work(task, name, args.glue, args.runs)
    report()


if __name__ == "__main__":
    main()
