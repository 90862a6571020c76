"""What a user's type checker knows of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from typing import assert_type

from torch import Tensor

from sharcs_pl import Prediction, RoutedPredictor, SharcsForSequenceClassification
from sharcs_pl.models.exits import ExitsForSequenceClassification, ExitsOutput
from sharcs_pl.models.outputs import SharcsOutput

class Mine(SharcsForSequenceClassification): ...

assert_type(Mine.from_pretrained("there"), Mine)
model = Mine.from_encoder("there", widths=[0.5, 1], split_layer=1)
assert_type(model, Mine)
assert_type(model(input_ids=None), SharcsOutput)
assert_type(model(input_ids=None).logits, Tensor)
assert_type(ExitsForSequenceClassification.from_pretrained("there")(input_ids=None), ExitsOutput)
found = RoutedPredictor(model, None).predict(["a text"])  # type: ignore
assert_type(found, list[Prediction])
assert_type(found[0].label, str | float | tuple[str, ...])
"""
COMMANDS = {"pyright": ["pyright"], "mypy": ["mypy", "--follow-imports=silent", "--ignore-missing-imports"]}


@pytest.mark.slow
@pytest.mark.parametrize("checker", COMMANDS)
def test_models_and_answers_have_precise_types(checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, "-m", *COMMANDS[checker], str(script)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stdout
