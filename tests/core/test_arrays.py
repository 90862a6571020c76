from __future__ import annotations

import numpy as np
import pytest
import torch

from sharcs_pl.core.arrays import as_float32, library_of, log_softmax, sigmoid, softmax


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_both_libraries_give_the_same_probabilities(function):
    scores = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0)) * 20
    found = function(scores.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, function(scores).numpy(), atol=1e-5)


def test_probabilities_of_large_scores_are_finite():
    scores = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert softmax(scores).tolist() == [[1.0, 0.0, 0.0]]
    assert log_softmax(scores).tolist() == [[0.0, -2e4, -1e4]]


def test_an_array_of_single_precision_is_not_copied():
    assert as_float32(own := np.zeros(3, np.float32)) is own
    assert as_float32(other := torch.zeros(3)) is other
    assert as_float32(np.zeros(3)).dtype == np.float32
    assert as_float32(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert (library_of(np.zeros(1)), library_of(torch.zeros(1))) == (np, torch)


def test_scores_that_are_not_finite_give_nan_and_no_warning():
    scores = np.array([[np.nan, 1.0], [np.inf, np.inf], [0.0, 0.0]], np.float32)
    for function in (softmax, log_softmax):
        assert np.isnan(function(scores)).any(-1).tolist() == [True, True, False]
    assert np.isnan(sigmoid(np.array([np.nan], np.float32))).all()
    np.testing.assert_allclose(sigmoid(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])
