from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.server.offer import Offer, make_offer
from tests.predict.conftest import saved


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("offered") / "model")


def offer_of(model: Path, **keys: Any) -> Offer:
    return make_offer(open_trained(str(model), record_needed=False), ServeConfig(run=str(model), **keys))


def test_what_a_saved_model_offers(model: Path) -> None:
    offer = offer_of(model)
    assert offer.points == ("trained", "narrow", "top")
    assert (offer.point, offer.labels, offer.widths) == ("trained", ("no", "maybe", "yes"), ("0.25", "0.5", "1"))
    assert offer.columns is None, "without a record it may have been trained on pairs or not"
    assert offer_of(model, point="narrow").point == "narrow"
    assert offer_of(model, max_length=9).max_length == 9


def test_a_run_tells_its_texts(trained_once: Path) -> None:
    offer = offer_of(trained_once)
    assert (offer.task, offer.columns) == ("graded", ("sentence",))
    told = offer.told(ServeConfig(run="r", max_texts=7))
    assert (told["task"], told["limits"]["max_texts"]) == ("graded", 7)
    assert json.loads(json.dumps(told))["points"] == list(offer.points)


def test_the_default_point_is_the_model_s_and_one_that_does_not_fit_is_not_offered(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    settings = json.loads((copy / "config.json").read_text())
    settings["operating_point"] = "top"
    settings["operating_points"]["short"] = {"rule": "cascade", "stops": [0.5], "certainty": "probability"}
    (copy / "config.json").write_text(json.dumps(settings))
    offer = offer_of(copy)
    assert (offer.point, offer.points) == ("top", ("trained", "narrow", "top"))


@pytest.mark.parametrize(("number", "labels"), [(1, None), (2, ("LABEL_0", "LABEL_1"))])
def test_labels_of_a_model_without_names(tmp_path: Path, number: int, labels: tuple[str, ...] | None) -> None:
    assert offer_of(saved(tmp_path / "model", num_labels=number)).labels == labels


@pytest.mark.parametrize(
    ("keys", "piece"),
    [
        ({"point": "nope"}, "point=nope: this model has no such operating point; it has trained, narrow, top"),
        ({"overload": "nope"}, "overload=nope: this model has no such operating point"),
        ({"max_length": 99}, "max_length=99"),
        ({"precision": "int8"}, "precision=int8"),
    ],
)
def test_options_that_do_not_fit_are_refused(model: Path, keys: dict[str, Any], piece: str) -> None:
    with pytest.raises(ValueError, match=piece):
        offer_of(model, **keys)


def test_a_point_of_another_runtime_is_warned_of(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    settings = json.loads((copy / "config.json").read_text())
    settings["operating_points"]["top"]["backend"] = "openvino"
    (copy / "config.json").write_text(json.dumps(settings))
    for key in ("point", "overload"):
        with pytest.warns(DataWarning, match="point=top was chosen with backend=openvino"):
            offer_of(copy, **{key: "top"})
