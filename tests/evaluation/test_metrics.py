from __future__ import annotations

import numpy as np
import pytest
import torch

from sharcs_pl.data.spec import METRICS_BY_KIND
from sharcs_pl.data.tasks import GLUE
from sharcs_pl.evaluation.bootstrap import resampled_metric
from sharcs_pl.evaluation.metrics import METRICS, compute_metric, compute_metrics, router_auc


def logits_of(predictions: list[int], classes: int = 2) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predictions), classes).float()


def test_values_by_hand() -> None:
    labels = torch.tensor([1, 1, 1, 0, 0])
    logits = logits_of([1, 1, 0, 0, 1])
    assert compute_metric("accuracy", logits, labels) == pytest.approx(3 / 5)
    assert compute_metric("f1", logits, labels) == pytest.approx(2 / 3)
    assert compute_metric("matthews", logits, labels) == pytest.approx((2 * 1 - 1 * 1) / 6)


def test_three_classes_count_every_class() -> None:
    assert compute_metric("accuracy", logits_of([0, 1, 2, 2], 3), torch.tensor([0, 1, 1, 2])) == pytest.approx(3 / 4)


def test_macro_f1_weighs_every_class_alike() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2])
    logits = logits_of([0, 0, 0, 0, 2], 3)  # class 0: precision 3/4, recall 1; class 1 is never found
    assert compute_metric("macro_f1", logits, labels) == pytest.approx((6 / 7 + 0 + 1) / 3)
    assert compute_metric("macro_f1", logits_of([1, 1, 1]), torch.tensor([1, 1, 0])) == pytest.approx((0.8 + 0) / 2)


def test_regression() -> None:
    labels = torch.tensor([0.0, 1.0, 2.0, 4.0])
    logits = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    values = compute_metrics(("pearson", "spearman"), logits, labels)
    assert values["spearman"] == pytest.approx(4 / 20**0.5)
    assert values["pearson"] == pytest.approx(2.5 / (8.75 * 1.0) ** 0.5)
    assert list(values) == ["pearson", "spearman"]


def test_a_constant_prediction_correlates_zero() -> None:
    assert compute_metric("pearson", torch.ones(4, 1), torch.arange(4.0)) == 0.0


def test_router_auc_ranks_one_minus_p_of_the_narrowest() -> None:
    difficulty = torch.tensor([0, 0, 2, 3])
    perfect = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    assert router_auc(perfect, difficulty) == 1.0
    assert router_auc(perfect.flip(-1), difficulty) == 0.0
    assert router_auc(perfect, torch.ones(4)) is None


def test_the_table_of_metrics_by_kind_holds_these_metrics() -> None:
    assert {name for names in METRICS_BY_KIND.values() for name in names} == set(METRICS)


@pytest.mark.parametrize(
    ("kind", "outputs"), [("two classes", 2), ("more classes", 3), ("regression", 1), ("several labels", 3)]
)
def test_metrics_of_a_kind_can_be_computed(kind: str, outputs: int) -> None:
    labels = torch.tensor([0.5, 1.5, 0.1, 1.2]) if outputs == 1 else torch.tensor([0, 1, outputs - 1, 0])
    labels = torch.eye(3)[labels] if kind == "several labels" else labels
    values = compute_metrics(METRICS_BY_KIND[kind], torch.randn(4, outputs), labels)
    assert all(-1 <= value <= 1 for value in values.values())


def test_every_glue_metric_is_known() -> None:
    assert {name for task in GLUE.values() for name in task.metrics} <= set(METRICS)


def test_a_constant_answer_has_no_matthews_correlation() -> None:
    labels = torch.tensor([1] * 70 + [0] * 30)
    assert compute_metric("matthews", torch.tensor([[0.0, 1.0]]).expand(100, 2), labels) == 0.0


@pytest.mark.parametrize("name", ["accuracy", "f1", "macro_f1", "matthews"])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("size", [1, 5])
def test_a_split_of_one_class_has_every_metric_without_a_warning(name: str, label: int, size: int) -> None:
    labels = torch.full((size,), label)
    for answer in (0, 1):
        logits = torch.nn.functional.one_hot(torch.full((size,), answer), 2).float()
        assert compute_metric(name, logits, labels) in (0.0, 1.0)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5], [0.5, 0.5, 0.5]])
def test_scores_of_one_value_correlate_0_without_a_warning(name: str, scores: list[float]) -> None:
    labels = torch.tensor(scores)
    for logits in (torch.rand(len(scores), 1), torch.ones(len(scores), 1)):
        assert compute_metric(name, logits, labels) == 0.0
        assert compute_metric(name, labels[:, None], logits[:, 0]) == 0.0


def test_metrics_of_several_labels_by_hand() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    scores = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, 0.0, -1.0]])  # 0 gives the label
    found = compute_metrics(METRICS_BY_KIND["several labels"], scores, labels)
    assert found == {
        "micro_f1": pytest.approx(2 * 2 / (3 + 3)),
        "macro_f1": pytest.approx((1.0 + 0.0 + 0.0) / 3),  # the third label, of no text and no answer, counts 0
        "exact_match": pytest.approx(1 / 3),
        "hamming": pytest.approx(7 / 9),
    }


@pytest.mark.parametrize("name", METRICS_BY_KIND["several labels"])
def test_the_bootstrap_of_several_labels_is_the_metric_of_the_drawn_samples(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, labels = torch.randn(20, 3, generator=generator), (torch.rand(20, 3, generator=generator) > 0.6).float()
    counts = np.random.default_rng(1).multinomial(20, np.full(20, 0.05), size=5)
    found = resampled_metric(name, scores, labels)(counts)
    rows = [np.repeat(np.arange(20), draw) for draw in counts]
    assert found == pytest.approx([compute_metric(name, scores[each], labels[each]) for each in rows], abs=1e-6)
