"""The kinds of tasks: what the outputs of a model mean, and all arithmetic that depends on it.

Every room asks the kind, and none looks at the number of outputs itself. A kind follows from that number, and from the
`problem_type` of a model's config or the shape of labels. Most functions take both NumPy arrays and torch tensors.
Importing the module loads no torch.

Dimensions: `B` batch, `S` samples, `W` rungs, `C` outputs; `..` any dimensions before the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sharcs_pl.core.arrays import Array, as_float32, at_least_float32, library_of, log_softmax, sigmoid, softmax

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["mean", "none"]


class Kind:
    """A kind of task. `problem_type`: its name in configs of transformers. `multi_label`: True if every output is a
    label of its own. `has_classes`: True if answers are right or wrong, and have probabilities. `default_certainty`: of
    a cascade, unless another one is chosen."""

    problem_type: ClassVar[str]
    multi_label: ClassVar[bool] = False
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

    def choices(self, probabilities: Array) -> Array:
        """Return the probabilities [.., C] as those of outcomes that exclude each other, in the last dimension."""
        return probabilities

    def least(self, sure: Array) -> Array:
        """Return how sure an answer is, [..], from how sure each of its `choices` is."""
        return sure

    def averaged(self, scores: Array) -> Array:
        """Return what is averaged over widths, [.., C], from the scores of each."""
        return log_softmax(scores)

    def quality(self, scores: Array, labels: Array) -> Array:
        """Return how good answers [S, .., C] are, [S, ..]: 1 for a right one, else less. float64 in NumPy."""
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


class MultiLabel(Kind):
    """Any number of labels, each a question of its own: a label is given where its score is 0 or more."""

    problem_type = "multi_label_classification"
    multi_label = True

    def loss(self, logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return the binary cross-entropy to `labels` [B, C] of 0 and 1, the mean over labels."""
        from torch.nn import functional as F

        scores = at_least_float32(logits)
        losses = F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none").mean(-1)
        return losses.mean() if reduction == "mean" else losses

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return KL(teacher || student) of each label's two outcomes, divided by the number of labels."""
        from torch.nn import functional as F

        q, p = (at_least_float32(logits) / temperature for logits in (student, teacher))
        yes = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
        no = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
        return (yes + no) / q.shape[-1]

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of each label."""
        return sigmoid(scores)

    def choices(self, probabilities: Array) -> Array:
        """Return each label's two outcomes, absent and given, [.., C, 2]."""
        return library_of(probabilities).stack([1 - probabilities, probabilities], -1)

    def least(self, sure: Array) -> Array:
        """Return how sure the least sure label is."""
        return library_of(sure).amin(sure, -1)

    def averaged(self, scores: Array) -> Array:
        """Return the scores: the log-odds of the mean log-probabilities are the mean log-odds."""
        return scores

    def quality(self, scores: Array, labels: Array) -> Array:
        """Return the share of the labels that are right; 1 where all are."""
        return _as_real((scores >= 0) == (_beside(labels, scores.ndim) > 0)).mean(-1)

    def alike(self, one: Any, other: Any, tolerance: float = 0.0) -> Any:
        """Return True for the same labels."""
        return ((one >= 0) == (other >= 0)).all(-1)

    def change(self, now: Array, before: Array) -> Array:
        """Return minus the largest change of a label's probability."""
        return -library_of(now).amax(abs(sigmoid(now) - sigmoid(before)), -1)


CLASSES, REGRESSION, MULTI_LABEL = Classes(), Regression(), MultiLabel()


def task_kind(num_labels: int, multi_label: bool = False) -> Kind:
    """Return the kind of a model with this number of outputs, each of which may be a label of its own."""
    if num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if multi_label else CLASSES


def kind_of_model(num_labels: int, problem_type: str | None) -> Kind:
    """Return the kind of a model, by its number of outputs and its config's `problem_type`."""
    return task_kind(num_labels, problem_type == MULTI_LABEL.problem_type)


def stored_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs of a model, from its config. Transformers stores none for two classes that have
    those of its own."""
    names = settings.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(str(names[number]) for number in sorted(names, key=int))


def kind_of_labels(labels: Any, num_labels: int) -> Kind:
    """Return the kind of the labels of samples, [S], or [S, C] where each output is a label of its own."""
    return task_kind(num_labels, tuple(labels.shape[1:]) == (num_labels,))


def label_thresholds(
    num_labels: int, problem_type: str | None, given: Sequence[float] | None
) -> tuple[float, ...] | None:
    """Return the threshold of each label of a model: the `given` ones of its config, else 0.5. None for a model whose
    outputs are no labels of their own. Raise `ValueError` unless there is one between 0 and 1 for each label."""
    if not kind_of_model(num_labels, problem_type).multi_label:
        return None
    if given is None:
        return (0.5,) * num_labels
    fits = isinstance(given, list | tuple) and len(given) == num_labels
    if not fits or not all(isinstance(value, int | float) and 0 < value < 1 for value in given):
        raise ValueError(f"label_thresholds={given} in config.json must be {num_labels} numbers between 0 and 1")
    return tuple(given)


def to_scores(logits: Any, thresholds: Sequence[float] | None) -> Any:
    """Return logits [.., C] less the log-odds of each label's threshold [C], a probability, so that a label is given at
    0 and above. None, and thresholds of 0.5, leave them as they are."""
    if thresholds is None or all(value == 0.5 for value in thresholds):
        return logits
    odds = [math.log(value / (1 - value)) for value in thresholds]
    if isinstance(logits, np.ndarray):
        return logits - np.array(odds, logits.dtype)
    return logits - logits.new_tensor(odds)


def _as_real(truth: Any) -> Any:
    """Return truths as numbers, NumPy's as float64 for exact means."""
    return truth.astype(float) if isinstance(truth, np.ndarray) else truth.float()


def _beside(labels: Any, dimensions: int) -> Any:
    """Return labels [S, ..] with as many `dimensions`, new ones after the first."""
    while labels.ndim < dimensions:
        labels = labels[:, None]
    return labels
