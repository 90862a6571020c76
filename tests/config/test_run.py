from __future__ import annotations

import hashlib
import inspect
import json
import math
from dataclasses import asdict, fields, is_dataclass
from json import dumps

import lightning as L
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.config.run import DISPLAY_KEYS, LATER, LATER_KEYS, PROCESS_KEYS
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.pipeline.methods import METHODS
from sharcs_pl.runs.directory import run_config
from tests.conftest import TINY, compose_config

GROUPS = {
    "task": 11, "encoder": 10, "width": 1, "router": 1, "hardness": 2, "method": 12, "distill": 4, "optim": 1,
    "trainer": 2, "checkpoint": 1, "logger": 3, "recipe": 5, "experiment": 3,
}  # fmt: skip
PAIRS = [path.stem.split("_", 1) for path in sorted((conf_dir() / "recipe").glob("*_*.yaml"))]
YAMLS = [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


def test_every_group_has_its_yamls() -> None:
    found = {group: sum(1 for g, _ in YAMLS if g == group) for group in GROUPS}
    assert all(found[group] >= least for group, least in GROUPS.items()), found
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert folders - set(GROUPS) == {"hydra", "lightning"}


@pytest.mark.parametrize(("group", "name"), YAMLS)
def test_every_yaml_composes_and_binds(group: str, name: str) -> None:
    extra = ["encoder.pretrained=some/folder"] if (group, name) == ("encoder", "custom") else []
    extra += ["encoder=minilm"] if group == "recipe" and "minilm" in name else []
    extra += ["task.text=a", "task.label=b"] if name == "custom" else []
    extra += ["method.teacher=some/folder"] if name == "distilled" else []
    extra += ["hardness.trains=all"] if name == "frozen" else []
    cfg = compose_config(f"{group}={name}", *extra)
    if (group, name) == ("trainer", "fsdp"):
        with pytest.raises(ValueError, match="slices of whole weights; use trainer=ddp"):
            run_config(cfg)
        return
    arguments = asdict(run_config(cfg).trainer)
    del arguments["timeout_minutes"], arguments["num_workers"]
    inspect.signature(L.Trainer).bind_partial(**arguments)


def test_the_tables_in_the_code_and_the_yamls_name_the_same_choices() -> None:
    tasks = {name: OmegaConf.load(conf_dir() / group / f"{name}.yaml") for group, name in YAMLS if group == "task"}
    built_in = {name for name, keys in tasks.items() if "text" not in keys}  # others were saved by a user
    assert built_in == {*GLUE, "graded", "custom"}
    assert {name for group, name in YAMLS if group == "method"} == set(METHODS)
    for group, name in YAMLS:
        if group in ("task", "method", "encoder", "distill", "logger") and name != "default":
            assert OmegaConf.select(OmegaConf.load(conf_dir() / group / f"{name}.yaml"), "name") == name


def test_the_reference_example_is_what_its_readme_runs() -> None:
    config = run_config(compose_config("experiment=mnli_roberta"))
    assert (config.task.name, config.encoder.name) == ("mnli", "roberta")
    assert (config.width.multipliers, config.width.split_layer, config.width.norm_init) == (["0.25", "1"], 3, "scratch")
    assert config.width.bounds == [[0.2, 1.0], [0.0, 0.2]]
    assert (config.optim.lr, config.batch_size, config.trainer.max_epochs) == (2e-5, 32, 10)
    assert (config.hardness.window, config.router.loss_weight, config.width.loss_weights) == (3, 1.0, [1.0, 1.0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("width.multipliers=[1.0,0.25]", "width.multipliers"),
        ("width.multipliers=[0.25,0.5]", "width.multipliers"),
        ("width.bounds=[[0,1]]", "width.bounds has 1 entries"),
        ("width.bounds=[[0.9,0.1],[0,1]]", "lo <= hi"),
        ("width.bounds=[[0.9,1.1],[0,1]]", r"\[0, 1\]"),
        ("width.reduction=pool", "slice, learned"),
        ("width.norm_init=zero", "pretrained, scratch"),
        ("width.loss_weights=[1]", "width.loss_weights has 1 entries"),
        ("hardness.score=loss", "confidence, entropy"),
        ("hardness.window=99", "window=99 leaves no routed epoch"),
        ("hardness.warmup_epochs=1", "at least 3"),
        ("hardness.warmup_epochs=50", "warmup_epochs=50 leaves no routed epoch"),
        ("hardness.fill=half", "repeat, none"),
        ("hardness.trains=some", "bucket, all, auto"),
        ("width.reorder_after=4", "give 3 or less"),
        ("router.budget=0.5", "task.calibration=0.1"),
        ("checkpoint.best_by=width", "routed, area"),
        ("router.loss_weight=-1", "router.loss_weight"),
        ("encoder.dropout=2", "between 0 and 1"),
        ("method.match=some", "method.match is no option of method=sharcs; its options: cut"),
        ("checkpoint={every_n_steps:3,every_n_minutes:1}", "exclude each other"),
        ("batch_size=0", "batch_size=0"),
        ("seed=-1", "seed=-1"),
    ],
)
def test_a_value_that_does_not_fit_names_its_key(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_config(compose_config(override))


@pytest.mark.parametrize("override", ["widht.split_layer=1", "width.splt=1", "trainer.max_epoch=1", "task=glue"])
def test_a_misspelt_key_does_not_compose(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose_config(override)


def test_entropy_may_be_larger_than_one() -> None:
    run_config(compose_config("hardness=entropy", "width.bounds=[[0,0.5],[0.5,1.6]]"))


RECIPES = [(), *((f"task={t}", f"encoder={e}", f"recipe={t}_{e}") for t, e in PAIRS), ("experiment=mnli_roberta",)]


@pytest.mark.parametrize("name", [name for group, name in YAMLS if group == "recipe"])
def test_a_recipe_with_bounds_has_them_for_every_score(name: str) -> None:
    bounds = OmegaConf.select(OmegaConf.load(conf_dir() / "recipe" / f"{name}.yaml"), "hardness.bounds")
    assert bounds is None or set(bounds) == set(SCORES)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_bounds_go_with_the_score(recipe: tuple[str, ...]) -> None:
    own = ("task.text=a", "task.label=b") if "task=custom" in recipe else ()
    scores = {}
    for score in ("confidence", "entropy"):
        config = run_config(compose_config(*recipe, *own, f"hardness.score={score}"))
        config.check_reachable(2)
        assert config.easy_first
        scores[score] = config.width.bounds
    (easy, _), (low_entropy, _) = scores["confidence"], scores["entropy"]
    assert easy[1] == 1
    assert low_entropy[0] == 0
    if recipe != ("experiment=mnli_roberta",):  # below half, which two classes cannot say by entropy
        p = easy[0]
        assert low_entropy[1] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=5e-3)


def test_bounds_that_no_score_reaches_are_refused() -> None:
    """With two classes the narrow width asks for more entropy than there is; with three it gets the hard half."""
    config = run_config(compose_config("hardness=entropy", "width.bounds=[[0.8,1],[0,0.8]]"))
    with pytest.raises(ValueError, match=r"^width\.bounds has \[0\.8, 1\.0\] for width 0\.25: .* at most 0\.69 nats"):
        config.check_reachable(2)
    config.check_reachable(3)
    assert not config.easy_first


def test_bounds_are_asked_for_where_a_ladder_has_none() -> None:
    ladder = "width.multipliers=[0.25,0.5,1]"
    with pytest.raises(
        ValueError, match=r"^width\.bounds is missing: give one \[lo, hi\] of the entropy for each of the 3"
    ):
        run_config(compose_config(ladder, "hardness=entropy"))
    assert run_config(compose_config(ladder, "method=slimmable")).width.bounds is None


def test_the_same_bounds_given_or_taken_make_the_same_run() -> None:
    given = compose_config("recipe=none", "width.bounds=[[0.8,1],[0,0.8]]", "hardness.window=2")
    assert run_config(given).digest() == run_config(compose_config("recipe=none")).digest()


def test_fractions_are_widths() -> None:
    sizes = ("encoder.hidden_size=48", "encoder.num_heads=3", "encoder.intermediate_size=96")
    assert run_config(compose_config("width.multipliers=['1/3',1]", *sizes)).width.multipliers == ["1/3", "1"]


def test_runs_from_before_a_key_keep_their_digest_where_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed, as text: a key that is null and younger than the run must not be in it."""
    seen: list[str] = []
    monkeypatch.setattr(
        "sharcs_pl.config.run.json.dumps", lambda *args, **more: seen.append(dumps(*args, **more)) or ""
    )
    own = ("task=custom", "task.text=q", "task.label=y", "encoder=minilm")
    for words in ((), own, (*own, "task.positive=x")):
        run_config(compose_config(*words)).digest()
    assert ["positive" in text for text in seen] == [False, False, True]


def test_the_digest_covers_every_group_that_shapes_the_result() -> None:
    base = run_config(compose_config())
    assert run_config(compose_config("seed=2")).digest() != base.digest()
    assert run_config(compose_config("width.split_layer=2")).digest() != base.digest()
    assert run_config(compose_config("ckpt_path=last", "overwrite=true")).digest() == base.digest()
    assert run_config(compose_config("width.multipliers=['1/4',1]")).digest() == base.digest()
    assert all(is_dataclass(f.default_factory) for f in fields(RunConfig) if f.name in GROUPS)


def test_a_run_without_later_keys_has_the_digest_it_had_before_them() -> None:
    config = run_config(compose_config(*TINY))
    kept = asdict(config)
    for key in ("ckpt_path", "overwrite", "logger", "checkpoint", "objective"):
        kept.pop(key)
    for key in ("save_as", "label_range_strict", "split_seed", *LATER_KEYS):
        kept["task"].pop(key)
    for group, later in LATER.items():
        for key in later:
            kept[group].pop(key)
    kept["hardness"].pop("bounds")
    kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in DISPLAY_KEYS + PROCESS_KEYS}
    before = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
    assert config.digest() == before
    assert run_config(compose_config(*TINY, "task.calibration=0.1")).digest() != before


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        ((), 2),
        (("trainer.max_epochs=2",), 1),
        (("checkpoint.save_best=false",), 0),
        (("method=dense",), 3),
        (("method=deebert", "method.stage_epochs=1"), 2),
        (("hardness.warmup_epochs=3", "trainer.max_epochs=5", "hardness.rewind=true"), 6),
        (("method=dense", "hardness.rewind=true"), 3),
    ],
    ids=str,
)
def test_the_models_among_which_the_best_is_chosen(overrides: tuple[str, ...], epochs: int) -> None:
    assert run_config(compose_config(*TINY, *overrides)).candidate_models == epochs


def test_a_cascade_shapes_the_result_and_must_fit_the_task() -> None:
    plain, cascade = (run_config(compose_config(*given)) for given in ((), ("router.rule=cascade",)))
    assert plain.digest() != cascade.digest()
    averaged = run_config(compose_config("router.rule=cascade", "router.average=true"))
    assert averaged.digest() != cascade.digest()
    regression = ["task=stsb", "router.rule=cascade", "encoder=minilm"]
    with pytest.raises(ValueError, match="a regression compares two widths before it stops; give three"):
        run_config(compose_config(*regression)).router.check_labels(1, 2)
    with pytest.raises(ValueError, match=r"router\.certainty=probability needs class probabilities"):
        run_config(compose_config(*regression, "router.certainty=probability")).router.check_labels(1, 3)
