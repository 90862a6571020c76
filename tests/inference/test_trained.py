"""The checks of a model that the predictor opens, which are those of ``sharcs predict``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.inference.predictor import RoutedPredictor
from sharcs_pl.models.encoder_sizes import OURS
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.place import RECORD

OLDER = Path(__file__).parents[1] / "fixtures" / "older_run"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def changed(name: str, **values: Any) -> Callable[[Path], None]:
    """Change top keys of a JSON file."""

    def change(at: Path) -> None:
        before = json.loads((at / name).read_text()) if (at / name).is_file() else RECORD
        (at / name).write_text(json.dumps(before | values))

    return change


def cut(at: Path) -> None:
    weights = at / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def spoilt(at: Path) -> None:
    model = SharcsForSequenceClassification.from_pretrained(at)
    next(model.tails.parameters()).data.fill_(torch.nan)
    model.save_pretrained(at)


def more_words(at: Path) -> None:
    tokenizer = json.loads((at / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["new"] = 999
    (at / "tokenizer.json").write_text(json.dumps(tokenizer))


def weightless(at: Path) -> None:
    (at / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (cut, {}, r"model\.safetensors is damaged"),
        (weightless, {}, "has no weights"),
        (spoilt, {}, r"copy holds NaN in its weights"),
        (more_words, {}, r"copy: its tokenizer has 1,000 ids"),
        (lambda at: (at / "config.json").write_text("{"), {}, r"config\.json is not valid JSON"),
        (changed("config.json", model_type="bert"), {}, "is no model of this project"),
        (changed("config.json", model_type=OURS[1]), {}, "has no widths but exits"),
        (changed("config.json", skim=8), {}, "skips tokens on the way"),
        (changed("training.json", colour="red"), {}, "was written by another version, its record does not fit"),
        (lambda at: None, {"max_length": 99}, "max_length=99: this encoder reads at most 32 tokens"),
        (lambda at: None, {"point": "fast"}, "point=fast: this model has no such operating point; it has trained"),
        (lambda at: [path.unlink() for path in at.iterdir()], {}, "holds neither a run nor a saved model"),
        (shutil.rmtree, {}, "does not exist"),
    ],
)  # fmt: skip
def test_what_predict_refuses_is_refused(
    copy: Path, spoil: Callable[[Path], Any], options: dict[str, Any], message: str
) -> None:
    spoil(copy)
    with pytest.raises(ValueError, match=message) as caught:
        RoutedPredictor.from_pretrained(copy, **options)
    assert not str(caught.value).startswith("run=")


def test_a_record_is_read_literally_and_says_where_texts_are_cut(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    task = RECORD["task"] | {"text": "${oc.env:SECRET}", "max_length": 17}  # pyright: ignore[reportOperatorIssue]
    changed("training.json", task=task)(copy)
    assert RoutedPredictor.from_pretrained(copy).max_length == 17
    assert RoutedPredictor.from_pretrained(copy, max_length=9).max_length == 9


@pytest.mark.parametrize("place", ["", "model", "checkpoints/last.ckpt"])
def test_a_run_and_its_checkpoint_answer_as_its_model(place: str) -> None:
    texts = ["good film", "not very bad"]
    expected = RoutedPredictor.from_pretrained(OLDER / "model").predict(texts)
    found = RoutedPredictor.from_pretrained(OLDER / place).predict(texts)
    assert [one.rung for one in found] == [one.rung for one in expected]
    if not place:
        assert found == expected
