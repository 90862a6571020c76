import numpy as np
import pytest
import torch

from sharcs_pl.core.kinds import CLASSES, REGRESSION, task_kind


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
