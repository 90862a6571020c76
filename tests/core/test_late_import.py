from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from sharcs_pl.core.late_import import import_after
{before}
import_after("wave", "colorsys")
print("colorsys" in sys.modules)
import wave
print("colorsys" in sys.modules, wave.Error.__name__, len([x for x in sys.meta_path if "After" in type(x).__name__]))
"""


def answers(before: str = "") -> list[str]:
    code = CODE.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_a_module_is_imported_after_another() -> None:
    # The package's own finder waits for transformers.
    assert answers() == ["False", "True", "Error", "1"]
    assert answers("import wave") == ["True", "True", "Error", "1"]


def test_the_auto_classes_know_the_models_whatever_light_module_came_first() -> None:
    code = """
import sharcs_pl
from sharcs_pl.models import encoder_sizes
from transformers import AutoModelForSequenceClassification, AutoConfig
print(AutoConfig.for_model("sharcs").model_type)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["sharcs"], done.stderr
