"""Every row of the method table trains, evaluates, is saved and read again; what it cannot do is told in one line."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MPNetConfig, RobertaConfig, RobertaForSequenceClassification

from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.evaluate import CostOptions, EvaluateConfig
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.core.plan import make_plan
from sharcs_pl.data.sampler import StepDataset
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.evaluate import run as evaluate_run
from sharcs_pl.export import run as export_run
from sharcs_pl.inference.graph import RoutedGraph
from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.inference.trained import model_settings, open_trained
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.locate import EncoderFiles
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import load_teacher
from sharcs_pl.pipeline.build import build_run
from sharcs_pl.pipeline.calibrate import model_folder
from sharcs_pl.pipeline.methods import METHODS, get_method
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.inputs import check_sizes, read_inputs
from tests.conftest import TINY, compose_config, train_run

SMALL = (*TINY, "task.train_size=32", "task.dev_size=16", "trainer.max_epochs=2", "checkpoint.save_last=false")


def run(directory: Path, *overrides: str) -> dict[str, Any]:
    return train_run(directory, *SMALL, *overrides)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense run of the embedded task."""
    folder = tmp_path_factory.mktemp("teacher")
    run(folder, "method=dense")
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa that reads the embedded task's words."""
    folder, tokenizer = tmp_path_factory.mktemp("roberta"), word_tokenizer()
    pad = tokenizer.vocab[str(tokenizer.pad_token)]
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
    }
    config = RobertaConfig(vocab_size=len(tokenizer), pad_token_id=pad, max_position_embeddings=64, **sizes)
    torch.manual_seed(0)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_every_method_trains_and_its_saved_model_gives_the_table_again(
    tmp_path: Path, teacher: Path, roberta: Path, name: str, family: str
) -> None:
    options = [f"method={name}"] + [f"method.teacher={teacher}"] * (name == "distilled")
    options += ["encoder=custom", f"encoder.pretrained={roberta}"] * (family == "roberta")
    metrics = run(tmp_path, *options)
    assert metrics["method"] == name
    assert 0 < metrics["routed"]["macs_fraction"] <= 1.2
    assert sum(rung["share"] for rung in metrics["rungs"]) == pytest.approx(1)
    again = evaluate_run(EvaluateConfig(run=str(tmp_path)))
    assert again is not None
    for key in ("routed", "rungs", "random", "oracle"):
        assert json.dumps(again[key]) == json.dumps(metrics[key]), key


IDLE = (
    *METHODS,
    "sharcs distill=top",
    "sharcs router.warmup_loss=true",
    "sharcs method.skim_weight=0.1",
    "slimmable method.cut=heads_ffn",
)


@pytest.mark.parametrize("name", IDLE)
def test_a_step_s_idle_parameters_are_those_without_a_gradient(tmp_path: Path, teacher: Path, name: str) -> None:
    """In every stage and with every mixture of buckets: an update must leave just these alone."""
    options = [*f"method={name}".split(), *[f"method.teacher={teacher}"] * (name == "distilled")]
    config = run_config(compose_config(*SMALL, *options))
    run = build_run(config, read_inputs(config, tmp_path), tmp_path, [])
    module, table = run.module.train(), run.datamodule.train_table
    module.trainer = run.trainer
    narrow, wide = np.tile([True, False], (len(table), 1)), np.tile([False, True], (len(table), 1))
    mixed = np.where(np.arange(len(table))[:, None] % 2, narrow, wide)
    for members in (None, narrow, wide, mixed) if config.method.routed else (None,):
        plan = make_plan(members, table.lengths, run.datamodule.plan_config, seed=1, epoch=0)
        for epoch, step in itertools.product((0, 1), (0, 1)):
            module.zero_grad()
            batch = replace(StepDataset(table, plan)[step], epoch=epoch)
            module.training_step(batch, step)["loss"].backward()
            idle = {id(p) for p in module._idle(batch, batch.rungs)}
            for name, p in module.named_parameters():
                without = p.grad is None or not p.grad.any()
                # A gradient may vanish in a vector by chance; an exit's loss that is left out gives zero, not none.
                least = without if p.ndim > 1 else p.grad is None
                assert least <= (id(p) in idle) <= without, name


def test_fixed_has_one_narrow_width(tmp_path: Path) -> None:
    metrics = run(tmp_path, "method=fixed", "method.width=0.5")
    assert [rung["width"] for rung in metrics["rungs"]] == [0.5]
    assert metrics["routed"]["macs_fraction"] < 0.8


def test_slimmable_has_every_width_and_no_router(tmp_path: Path, teacher: Path) -> None:
    metrics = run(tmp_path, "method=slimmable", "method.cut=heads_ffn", f"method.teacher={teacher}")
    assert [rung["width"] for rung in metrics["rungs"]] == [0.25, 1.0]
    assert metrics["routed"] == {key: metrics["rungs"][1][key] for key in ("value", "macs", "macs_fraction")}
    assert metrics["router_auc"] is None


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(ValueError, match="sharcs, dense"):
        get_method("pabeee")


def test_a_teacher_needs_the_student_s_tokens(teacher: Path) -> None:
    other = RobertaForSequenceClassification(RobertaConfig(vocab_size=9, hidden_size=4, num_attention_heads=1))
    with pytest.raises(ValueError, match="they need one tokenizer"):
        load_teacher(str(teacher), other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=distilled",), "method.teacher is missing"),
        (("method=fixed", "method.width=null"), "method.width is missing"),
        (("method=fixed", "method.width=1.5"), "method.width"),
        (("method=fixed", "method.width=0.3"), "Widths that fit this encoder"),
        (("method=dense", "method.cut=full"), "method.cut is no option of method=dense"),
        (("method=slimmable", "method.cut=half"), "full, heads_ffn"),
    ],
)
def test_what_does_not_fit_is_told_by_the_config(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_config(compose_config(*TINY, *overrides))


def test_a_teacher_of_another_label_set_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    def refuse(message: str, **config: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | config))
        given = run_config(compose_config(*TINY, "method=distilled", f"method.teacher={tmp_path}"))
        with pytest.raises(ValueError, match=message):
            read_inputs(given, tmp_path)

    refuse("answers with a, b, c; the task needs", id2label={"0": "a", "1": "b", "2": "c"})
    refuse("answers with yes, no; the task needs", id2label={"0": "yes", "1": "no"})
    refuse("answers with one score", id2label={"0": "LABEL_0"})
    refuse("model_type gpt2 is not supported", model_type="gpt2")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="holds no model"):
        read_inputs(run_config(compose_config(*TINY, "method=distilled", f"method.teacher={tmp_path}")), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=pabee", "method.exits=[1]"), r"method.exits=\[1\] must end with 2"),
        (("method=pabee", "method.exits=[2,1]"), "in increasing order"),
        (("method=pabee", "method.threshold=0"), "method.threshold=0"),
        (("method=shallow_deep", "method.threshold=1.5"), "between 0 and 1"),
        (("method=branchynet", "method.threshold=-1"), "method.threshold=-1"),
        (("method=branchynet", "method.rule=mood"), "confidence, entropy"),
        (("method=branchynet", "method.stage_epochs=1"), "stage_epochs is no option of method=branchynet"),
        (("method=deebert", "method.stage_epochs=3"), "leaves no epoch for the exits"),
        (("method=deebert", "trainer.max_epochs=1"), "leaves no epoch for the exits"),
        (("method=berxit", "method.exit_head=deep"), "stock, linear"),
    ],
)
def test_an_exit_that_does_not_fit_is_told_by_the_config(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_config(compose_config(*TINY, *overrides))


def test_a_stop_rule_that_the_task_cannot_use_is_told_before_anything_loads() -> None:
    method = run_config(compose_config(*TINY, "method=fastbert")).method
    with pytest.raises(ValueError, match="task=stsb is a regression: choose"):
        method.check_classes("stsb", 1)
    entropy = run_config(compose_config(*TINY, "method=branchynet", "method.threshold=0.7")).method
    entropy.check_classes("mnli", 3)
    with pytest.raises(ValueError, match=r"between 0 and 0\.6931"):
        entropy.check_classes("mrpc", 2)
    for name in ("pabee", "berxit"):
        run_config(compose_config(*TINY, f"method={name}")).method.check_classes("stsb", 1)


def test_skimming_an_encoder_that_looks_at_positions_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    MPNetConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4).save_pretrained(tmp_path)
    sizes = encoder_sizes(json.loads((tmp_path / "config.json").read_text()))
    encoder = "encoder=custom", f"encoder.pretrained={tmp_path}", "width.split_layer=1"
    for method in ("method=skim", "method.skim_weight=0"):
        config = run_config(compose_config(*TINY, "recipe=none", method, *encoder))
        with pytest.raises(ValueError, match=r"method\.skim_weight: .* a mpnet encoder; what fits: albert, bert"):
            check_sizes(config, EncoderFiles(str(tmp_path), sizes, 0))


def test_skipped_tokens_and_widths_go_together(tmp_path: Path) -> None:
    options = ("task=graded", "encoder.num_layers=3", "width.split_layer=1", "router.threshold=0.5")
    metrics = run(tmp_path / "run", "method.skim_weight=8", "optim.new_lr_scale=9999", "distill=top", *options)
    assert [rung["width"] for rung in metrics["rungs"]] == [0.25, 1.0]
    assert metrics["rungs"][1]["macs_fraction"] < 0.95  # tokens cost more here than they are worth
    assert metrics["rungs"][0]["macs"] < metrics["rungs"][1]["macs"]
    assert metrics["router_auc"] is not None
    again = evaluate_run(EvaluateConfig(run=str(tmp_path / "run" / "checkpoints" / "best.ckpt"), output=str(tmp_path)))
    assert again is not None
    for key in ("routed", "rungs", "random", "oracle"):
        assert json.dumps(again[key]) == json.dumps(metrics[key]), key
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "skips tokens" in card
    assert "sharcs predict" not in card
    with (tmp_path / "run" / "predictions.tsv").open() as file:
        macs = [float(row["macs"]) for row in csv.DictReader(file, delimiter="\t")]
    assert sum(macs) / len(macs) == pytest.approx(metrics["routed"]["macs"])
    saved = f"encoder.pretrained={tmp_path / 'run' / 'model'}"
    assert run(tmp_path / "plain", "encoder=custom", saved, *options)["method"] == "sharcs"


@pytest.fixture(scope="module")
def skimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both skipped tokens and widths."""
    folder = tmp_path_factory.mktemp("skimmed")
    run(folder, "method.skim_weight=0.2")
    return folder


@pytest.mark.parametrize("place", ["", "model", "checkpoints/best.ckpt"])
def test_what_runs_on_every_token_refuses_a_model_that_skips_some(skimmed: Path, tmp_path: Path, place: str) -> None:
    source = open_trained(str(skimmed / place), record_needed=False)
    with pytest.raises(ValueError, match=r"run=.* skips tokens on the way.*evaluate, or its class in Python"):
        model_settings(source)
    with pytest.raises(ValueError, match=r"^run=\S* skips tokens on the way"):
        export_run(ExportConfig(run=str(skimmed / place), output=str(tmp_path / "file"), format="torch"))
    if place == "model":
        with pytest.raises(ValueError, match=r"^run=\S* skips tokens on the way"):
            model_folder(CalibrateConfig(run=str(skimmed / place), budget=0.5), source)
        with pytest.raises(ValueError, match="skips tokens on the way"):
            RoutedPredictor.from_pretrained(skimmed / place)
        with pytest.raises(ValueError, match="skips tokens on the way"):
            RoutedGraph(SharcsForSequenceClassification.from_pretrained(skimmed / place))
    with pytest.raises(ValueError, match="no exits or skipped tokens"):
        evaluate_run(EvaluateConfig(run=str(skimmed / place), cost=CostOptions(audit=True)))


def test_exits_lie_in_the_metrics_by_layer_and_other_commands_say_what_serves_them(tmp_path: Path) -> None:
    metrics = run(tmp_path, "method=deebert", "method.exits=[1,2]", "method.threshold=0.6")
    assert [(rung["layer"], rung["width"]) for rung in metrics["rungs"]] == [(1, 1.0), (2, 1.0)]
    assert not {"rule", "rules"} & metrics.keys()  # those of widths
    assert "After the layers 1, 2 of 2" in (tmp_path / "model" / "README.md").read_text()
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    controls = {f"deebert/{name}" for name in ("exit", "random", "oracle", "agreement")}
    assert {row["method"] for row in rows} == {"deebert", *controls}
    source = open_trained(str(tmp_path / "model"), record_needed=False)
    with pytest.raises(ValueError, match="evaluate, or its class in Python"):
        model_settings(source)
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 1  # the first stage has no exits to choose by
    again = evaluate_run(EvaluateConfig(run=str(tmp_path / "checkpoints" / "best.ckpt"), output=str(tmp_path / "out")))
    assert again is not None
    assert again["rungs"] == metrics["rungs"]


def test_sharcs_goes_on_from_the_encoder_of_a_model_of_one_width(tmp_path: Path) -> None:
    run(tmp_path / "dense", "method=dense")
    model = tmp_path / "dense" / "model"
    options = ["encoder=custom", f"encoder.pretrained={model}", "task=graded"]
    made = get_method("sharcs").model(run_config(compose_config(*SMALL, "recipe=none", *options)), str(model), 2)
    trained = SharcsForSequenceClassification.from_pretrained(model).eval()
    ids = torch.randint(4, 30, (3, 6))
    torch.testing.assert_close(made(ids, rungs=1).logits, trained(ids).logits)
    assert [rung["width"] for rung in run(tmp_path / "on", *options)["rungs"]] == [0.25, 0.5, 1]


def test_sharcs_goes_on_from_a_slimmable_model_of_the_same_ladder(tmp_path: Path) -> None:
    run(tmp_path / "slim", "method=slimmable", "method.cut=heads_ffn")
    model = tmp_path / "slim" / "model"
    options = ["encoder=custom", f"encoder.pretrained={model}", "method.cut=heads_ffn", "task=graded"]
    config = run_config(compose_config(*SMALL, "recipe=none", *options))
    made = get_method("sharcs").model(config, str(model), 2)
    trained = SharcsForSequenceClassification.from_pretrained(model)
    ids = torch.randint(4, 30, (3, 6))
    for rung in (0, 1):
        torch.testing.assert_close(made(ids, rungs=rung).logits, trained.eval()(ids, rungs=rung).logits)
    assert run(tmp_path / "on", *options)["method"] == "sharcs"
    assert run(tmp_path / "exits", *options[:2], "method=pabee")["method"] == "pabee"
    exits = f"encoder.pretrained={tmp_path / 'exits' / 'model'}"
    assert run(tmp_path / "after exits", "encoder=custom", exits, "task=graded")["method"] == "sharcs"
    for override, message in (
        ("method.cut=full", "give method.cut=heads_ffn"),
        ("width.multipliers=[0.5,1]", r"0\.25"),
        ("width.top_rung_norm=true", "width.top_rung_norm=False"),
    ):
        other = run_config(compose_config(*SMALL, "recipe=none", *options, override))
        with pytest.raises(ValueError, match=f"has another ladder.*{message}"):
            read_inputs(other, tmp_path)
