from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.core.kinds import (
    CLASSES,
    MULTI_LABEL,
    REGRESSION,
    kind_of_labels,
    kind_of_model,
    label_thresholds,
    task_kind,
    to_scores,
)


def test_the_number_of_outputs_tells_a_regression_from_classes() -> None:
    assert task_kind(1) is REGRESSION
    assert task_kind(2) is task_kind(7) is CLASSES


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_quality_is_1_for_the_right_class_and_minus_the_squared_error_of_a_value(library: str) -> None:
    make = np.array if library == "numpy" else torch.tensor
    classes = make([[[0.0, 2.0], [3.0, 1.0]]])  # one sample at two widths
    assert CLASSES.quality(classes, make([1])).tolist() == [[1.0, 0.0]]  # pyright: ignore
    assert REGRESSION.quality(make([[[1.0], [4.0]]]), make([2.0])).tolist() == [[-1.0, -4.0]]  # pyright: ignore


def test_answers_are_alike_by_class_or_within_a_tolerance() -> None:
    one, other = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.9, 5.0]])
    assert CLASSES.alike(one, other).tolist() == [True]
    assert REGRESSION.alike(one[:, :1], other[:, :1]).tolist() == [False]
    assert REGRESSION.alike(one[:, :1], other[:, :1], 0.9).tolist() == [True]


def test_the_parts_of_a_divergence_add_up_to_the_kl_divergence() -> None:
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    p, q = teacher.softmax(-1), student.softmax(-1)
    found = CLASSES.divergence(student, teacher).sum(-1)
    assert found.numpy() == pytest.approx((p * (p / q).log()).sum(-1).numpy(), abs=1e-6)
    assert CLASSES.distilled(student, teacher, 2.0).shape == (4,)


def test_a_models_config_or_the_shape_of_labels_tells_several_labels() -> None:
    assert kind_of_model(3, "multi_label_classification") is MULTI_LABEL
    assert kind_of_model(3, None) is kind_of_model(3, "single_label_classification") is CLASSES
    assert kind_of_model(1, "multi_label_classification") is REGRESSION
    assert kind_of_labels(torch.zeros(5, 3), 3) is MULTI_LABEL
    assert kind_of_labels(torch.zeros(5), 3) is CLASSES
    assert kind_of_labels(torch.zeros(5, 1), 3) is CLASSES  # ids in a column


def test_several_labels_are_learned_by_the_mean_of_their_cross_entropies() -> None:
    logits, labels = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    p = logits.sigmoid()
    slow = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean(1)
    assert MULTI_LABEL.loss(logits, labels, "none").numpy() == pytest.approx(slow.numpy(), abs=1e-6)
    assert MULTI_LABEL.loss(logits, labels).item() == pytest.approx(slow.mean().item(), abs=1e-6)


def test_distilling_several_labels_is_the_mean_kl_divergence_of_two_outcomes() -> None:
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    one, other = (torch.stack([torch.zeros_like(x), x], -1) for x in (student, teacher))
    slow = CLASSES.distilled(one, other, 2.0).mean(-1)
    assert MULTI_LABEL.distilled(student, teacher, 2.0).numpy() == pytest.approx(slow.numpy(), abs=1e-6)
    assert MULTI_LABEL.distilled(teacher, teacher, 2.0).abs().max().item() < 1e-6


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_quality_of_several_labels_is_the_share_that_is_right(library: str) -> None:
    make = np.array if library == "numpy" else torch.tensor
    scores = make([[[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]]])  # a text at two widths; 0 gives the label
    found = MULTI_LABEL.quality(scores, make([[1.0, 0.0, 1.0]]))  # pyright: ignore
    assert found.tolist() == [[1.0, pytest.approx(1 / 3)]]
    assert MULTI_LABEL.alike(scores[:, 0], scores[:, 1]).tolist() == [False]
    assert MULTI_LABEL.alike(scores[:, 0], scores[:, 0] * 2).tolist() == [True]


def test_a_threshold_moves_the_score_at_which_a_label_is_given() -> None:
    logits = np.array([[0.0, 0.0, 0.0]], np.float32)  # probabilities of 0.5
    assert (to_scores(logits, (0.4, 0.5, 0.6)) >= 0).tolist() == [[True, True, False]]
    assert to_scores(logits, None) is logits
    same = to_scores(torch.from_numpy(logits), (0.4, 0.5, 0.6))
    assert same.numpy() == pytest.approx(to_scores(logits, (0.4, 0.5, 0.6)))


@pytest.mark.parametrize("given", [[0.5], [0.5, 0.0], [0.5, 1.0], [0.5, "0.5"], [0.5, float("nan")], 0.5])
def test_thresholds_that_cannot_serve_are_refused_in_a_line(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^label_thresholds=.* in config.json must be 2 numbers between 0 and 1$"):
        label_thresholds(2, "multi_label_classification", given)
    assert label_thresholds(2, None, given) is None
