from __future__ import annotations

import torch
from torch.nn import functional as F

from sharcs_pl.models.skim import SkimForSequenceClassification
from sharcs_pl.training.objective import ObjectiveConfig
from sharcs_pl.training.rules import Progress
from sharcs_pl.training.skim import skim_losses
from tests.conftest import tiny_bert
from tests.training.made import micro_batch


def test_the_loss_is_the_task_s_and_the_share_of_tokens_that_ran() -> None:
    model, batch = SkimForSequenceClassification.from_encoder(tiny_bert()), micro_batch(0)
    for predictor in model.predictors:
        predictor.get_parameter("output.bias").data.zero_()
    torch.manual_seed(4)
    losses = skim_losses(model, batch, ObjectiveConfig(skim_weight=0.5), Progress())
    torch.manual_seed(4)
    logits, shares = model.soft(**batch.inputs)
    assert shares.mean() < 0.9
    torch.testing.assert_close(losses.task, F.cross_entropy(logits, batch.labels, reduction="sum") + 0.5 * shares.sum())
    torch.testing.assert_close(losses.scores, logits.softmax(-1)[torch.arange(6), batch.labels])
