"""The kinds of tasks: what the outputs of a model mean, and all arithmetic that depends on it.

Every room asks the kind, and none looks at the number of outputs itself. A kind follows from that number. Functions of
NumPy arrays and torch tensors alike are written once. Importing the module loads no torch.

Dimensions: `B` batch, `S` samples, `W` rungs, `C` outputs; `..` any dimensions before the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sharcs_pl.core.arrays import Array, as_float32, at_least_float32, library_of, log_softmax, softmax

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["mean", "none"]


class Kind:
    """A kind of task. `problem_type`: its name in configs of transformers. `has_classes`: True if answers are right or
    wrong, and have probabilities. `default_certainty`: the certainty of a cascade unless another one is chosen."""

    problem_type: ClassVar[str]
    has_classes: ClassVar[bool] = True
    default_certainty: ClassVar[str] = "probability"

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the task loss of `logits` [B, C], the batch's mean or, with "none", the losses of its samples [B]."""
        raise NotImplementedError

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return what a student's logits [.., C] lose against a teacher's, in parts [.., C] whose sum is the loss."""
        raise NotImplementedError

    def distilled(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the distillation loss [..] of logits [.., C], times the temperature's square (Hinton et al. 2015)."""
        return self.divergence(student, teacher, temperature).sum(-1) * temperature**2

    def probabilities(self, scores: Array) -> Array:
        """Return the probabilities [.., C] of scores."""
        return softmax(scores)

    def averaged(self, scores: Array) -> Array:
        """Return what is averaged over widths, [.., C], from the scores of each."""
        return log_softmax(scores)

    def quality(self, scores: Array, labels: Array) -> Array:
        """Return how good answers [S, .., C] are, [S, ..]: 1 for a right one, 0 for a wrong one. float64 in NumPy."""
        raise NotImplementedError

    def closeness(self, scores: Array, labels: Array) -> Array:
        """Return how close answers [S, .., C] are to the labels, in [0, 1], [S, ..]; by default their quality."""
        return self.quality(scores, labels)

    def alike(self, one: Array, other: Array, tolerance: float = 0.0) -> Array:
        """Return True where two answers [.., C] are equal, bool [..]. Values may differ by the `tolerance`."""
        raise NotImplementedError

    def change(self, now: Array, before: Array) -> Array:
        """Return minus the change of an answer [.., C] since the width before, float32 [..]."""
        raise NotImplementedError


class Classes(Kind):
    """One class out of several, by the largest score."""

    problem_type = "single_label_classification"

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the cross-entropy to class ids [B]."""
        from torch.nn import functional as F

        return F.cross_entropy(at_least_float32(logits), labels.view(-1).long(), reduction=reduction)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the terms of KL(teacher || student)."""
        from torch.nn import functional as F

        log_q = F.log_softmax(at_least_float32(student) / temperature, -1)
        log_p = F.log_softmax(at_least_float32(teacher) / temperature, -1)
        return F.kl_div(log_q, log_p.expand_as(log_q), log_target=True, reduction="none")

    def quality(self, scores: Array, labels: Array) -> Array:
        """Return 1 for the right class and 0 for any other."""
        return _as_real(library_of(scores).argmax(scores, -1) == _beside(labels, scores.ndim - 1))

    def alike(self, one: Array, other: Array, tolerance: float = 0.0) -> Array:
        """Return True for the same class."""
        xp = library_of(one)
        return xp.argmax(one, -1) == xp.argmax(other, -1)

    def change(self, now: Array, before: Array) -> Array:
        """Return -1 for another class, else 0."""
        xp = library_of(now)
        return xp.clip(-abs(as_float32(xp.argmax(now, -1)) - as_float32(xp.argmax(before, -1))), -1, None)


class Regression(Kind):
    """A value, the one output."""

    problem_type = "regression"
    has_classes = False
    default_certainty = "agreement"

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the squared error to values [B]."""
        from torch.nn import functional as F

        scores = at_least_float32(logits).squeeze(-1)
        return F.mse_loss(scores, labels.to(scores.dtype).view(-1), reduction=reduction)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the squared difference, at any temperature."""
        return at_least_float32(student - teacher).square()

    def distilled(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the squared difference."""
        return self.divergence(student, teacher).sum(-1)

    def averaged(self, scores: Array) -> Array:
        """Return the values."""
        return scores

    def quality(self, scores: Array, labels: Array) -> Array:
        """Return minus the squared error."""
        values = scores[..., 0].astype(float) if isinstance(scores, np.ndarray) else scores[..., 0]
        return -((values - _beside(labels, scores.ndim - 1)) ** 2)

    def closeness(self, scores: Array, labels: Array) -> Array:
        """Return 1 - tanh of the error (BERxiT, Xin et al. 2021, section 3.3)."""
        return 1 - library_of(scores).tanh(abs(scores[..., 0] - _beside(labels, scores.ndim - 1)))

    def alike(self, one: Any, other: Any, tolerance: float = 0.0) -> Any:
        """Return True where values differ by the `tolerance` at most."""
        return abs(one[..., 0] - other[..., 0]) <= tolerance

    def change(self, now: Any, before: Any) -> Any:
        """Return minus the distance of the values."""
        return -abs(now[..., 0] - before[..., 0])


CLASSES, REGRESSION = Classes(), Regression()


def task_kind(num_labels: int) -> Kind:
    """Return the kind of a model with this number of outputs."""
    return REGRESSION if num_labels == 1 else CLASSES


def _as_real(truth: Any) -> Any:
    """Return truths as numbers, NumPy's as float64 for exact means."""
    return truth.astype(float) if isinstance(truth, np.ndarray) else truth.float()


def _beside(labels: Any, dimensions: int) -> Any:
    """Return labels [S, ..] with as many `dimensions`, new ones after the first."""
    while labels.ndim < dimensions:
        labels = labels[:, None]
    return labels
