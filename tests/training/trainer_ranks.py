"""`SharcsTrainer` on as many processes as torchrun started. Called as ``python -m tests.training.trainer_ranks FOLDER
BATCH [OPTION=VALUE ..]``, with the samples of a step on one process, and options of `TrainingArguments`.

Each process writes its history, plans and weights.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from sharcs_pl import SharcsForSequenceClassification, SharcsTrainer
from tests.conftest import tiny_bert
from tests.training.easy_rows import BOUNDS, rows


class Plans(TrainerCallback):
    """The rungs of every epoch's plan."""

    def __init__(self) -> None:
        self.rungs: list[list[int]] = []
        self.trainer: Any = None

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.rungs.append(self.trainer.plan.rungs.tolist())


def main(folder: Path, batch: int, *options: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bert = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = SharcsForSequenceClassification.from_encoder(bert, widths=[0.25, 1], split_layer=1, router_hidden_size=8)
    given: dict[str, Any] = {name: json.loads(value) for name, value in (option.split("=") for option in options)}
    resume = given.pop("resume", None)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    args = TrainingArguments(
        output_dir=str(folder), num_train_epochs=4, per_device_train_batch_size=batch // ranks, learning_rate=0.01,
        lr_scheduler_type="constant", report_to=[], use_cpu=True, ddp_backend="gloo" if ranks > 1 else None,
        disable_tqdm=True, save_strategy="steps", save_steps=4, logging_strategy="no", dataloader_pin_memory=False,
        **given,
    )  # fmt: skip
    plans = Plans()
    trainer = plans.trainer = SharcsTrainer(
        model, args, train_dataset=rows(), bounds=BOUNDS, window=1, callbacks=[plans]
    )
    assert trainer.args.world_size == ranks
    trainer.train(resume_from_checkpoint=resume)
    found = {"history": trainer.history.state_dict(), "weights": model.state_dict()}
    torch.save(found | {"plans": plans.rungs}, folder / f"rank{args.process_index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
