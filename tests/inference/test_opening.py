from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharcs_pl.inference.opening import open_predictor
from sharcs_pl.inference.trained import open_trained


def test_the_options_of_the_predictor_are_passed_on(folder: Path) -> None:
    found = open_predictor(open_trained(str(folder), False), "cpu", None, batch_size=3, max_length=9)
    assert (found.batch_size, found.max_length) == (3, 9)
    assert found.predict(["good film"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_here_is_refused_and_auto_goes_on_without_it(folder: Path) -> None:
    source = open_trained(str(folder), False)
    with pytest.raises(ValueError, match="device=cuda: torch sees no CUDA device here"):
        open_predictor(source, "cuda", None, max_length=None)
    assert open_predictor(source, "auto", None, max_length=None).predict(["good film"])
