"""transformers' Trainer with the hardness of samples: the router learns, and a resumed training goes on exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl import SharcsTrainer
from tests.conftest import tiny_model
from tests.training.easy_rows import BOUNDS, rows

pytest.importorskip("accelerate")


def trainer_of(
    folder: Path, epochs: int = 4, dataset: Any = None, save_steps: int | None = None, **options: Any
) -> SharcsTrainer:
    from transformers import TrainingArguments

    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, per_device_train_batch_size=8, learning_rate=0.01,
        lr_scheduler_type="constant", report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="steps" if save_steps else "epoch", save_steps=save_steps or 500,
        logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    options = {"bounds": BOUNDS, "window": 1} | options
    return SharcsTrainer(tiny_model(), args, train_dataset=dataset or rows(), **options)


def weights(trainer: SharcsTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}  # pyright: ignore


def test_the_router_trains_once_samples_have_rungs(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, epochs=1)
    before = weights(trainer)
    trainer.train()
    assert all(torch.equal(before[name], value) for name, value in weights(trainer).items() if "router" in name)
    assert not torch.equal(before["encoder.classifier.weight"], weights(trainer)["encoder.classifier.weight"])
    assert set(trainer.plan.rungs) == {0, 1}  # of the epoch to come
    trainer = trainer_of(tmp_path, epochs=2)
    trainer.train()
    after = weights(trainer)
    assert not any(torch.equal(before[name], after[name]) for name in before if name.startswith("router."))
    assert not torch.equal(before["tails.0.norm.weight"], after["tails.0.norm.weight"])


def test_scores_are_those_of_the_samples(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.model.eval()  # pyright: ignore
    batch = trainer.data_collator([trainer.train_dataset[i] for i in (7, 2, 11)])  # pyright: ignore
    trainer.compute_loss(trainer.model, dict(batch))
    out = trainer.model(batch["input_ids"], rungs=1)  # pyright: ignore
    expected = out.logits.softmax(-1).gather(1, batch["labels"][:, None]).flatten()
    found = trainer.history.epoch_table()
    assert found["uid"].tolist() == [2, 7, 11]
    np.testing.assert_allclose(found["score"], expected[[1, 0, 2]].detach().numpy(), atol=1e-6)


def test_a_resumed_training_goes_on_exactly(tmp_path: Path) -> None:
    whole = trainer_of(tmp_path / "whole")
    whole.train()
    again = trainer_of(tmp_path / "whole")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert again.history.num_epochs == 4
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(again)[name], value)


def test_a_checkpoint_of_the_last_step_of_an_epoch_goes_on_with_the_next(tmp_path: Path) -> None:
    whole = trainer_of(tmp_path / "whole", save_steps=3)
    whole.train()
    (last,) = (tmp_path / "whole").glob("checkpoint-6")
    again = trainer_of(tmp_path / "whole", save_steps=3)
    again.train(resume_from_checkpoint=str(last))
    assert again.history.num_epochs == whole.history.num_epochs == 4
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(again)[name], value)
    (last / "hardness.pt").unlink()
    with pytest.raises(ValueError, match=r"has no hardness\.pt; give a checkpoint of SharcsTrainer"):
        trainer_of(tmp_path / "whole").train(resume_from_checkpoint=str(last))


def test_it_evaluates_and_takes_a_dataset_of_datasets(tmp_path: Path) -> None:
    from datasets import Dataset

    dataset = Dataset.from_list([row | {"text": "dropped"} for row in rows()])
    trainer = trainer_of(tmp_path, epochs=2, dataset=dataset, eval_dataset=dataset)
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    seen = len(trainer.history.epoch_table()["uid"])
    trainer.predict(trainer.train_dataset)  # pyright: ignore[reportArgumentType]
    assert len(trainer.history.epoch_table()["uid"]) == seen == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": BOUNDS[:1]}, "bounds: 1 for 2 widths"),
        ({"score": "joy"}, "score='joy' is none of confidence, entropy"),
        ({"label_range": 5.0}, "label_range: a regression"),
        ({"dataset": iter([])}, "train_dataset: a dataset without a length"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, **options)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("options", [{"ddp_find_unused_parameters": False}, {"gradient_checkpointing": True}], ids=str)
def test_processes_that_wait_for_every_gradient_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    from transformers import TrainingArguments

    args = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, **options)
    SharcsTrainer(tiny_model(), args, train_dataset=rows(), bounds=BOUNDS)  # one process waits for none
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match=r"ddp_find_unused_parameters: no step on several processes .* give True"):
        SharcsTrainer(tiny_model(), args, train_dataset=rows(), bounds=BOUNDS)


def on_ranks(number: int, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What each of some processes has after a training of eight samples a step."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", f"--nproc-per-node={number}", "--standalone", "--master-port=0"]
    line = [*(launch if number > 1 else []), "-m", "tests.training.trainer_ranks", str(folder), "8", *options]
    folder.mkdir()
    done = subprocess.run([sys.executable, *line], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(number)]


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_go_on_exactly(tmp_path: Path) -> None:
    (one,) = on_ranks(1, tmp_path / "one")
    first, second = on_ranks(2, tmp_path / "two")
    # In mid-epoch: each process has met half of the samples so far.
    again, _ = on_ranks(2, tmp_path / "again", f'resume="{tmp_path}/two/checkpoint-8"')
    assert len({tuple(rungs) for rungs in one["plans"]}) > 2
    assert first["plans"] == second["plans"] == one["plans"]
    assert again["plans"] == one["plans"][2:]
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    for name, value in one["history"].items():
        torch.testing.assert_close(first["history"][name], value, equal_nan=True)
        torch.testing.assert_close(second["history"][name], first["history"][name], equal_nan=True, atol=0, rtol=0)
    for found in (first, again):
        torch.testing.assert_close(found["weights"], one["weights"], atol=1e-4, rtol=1e-4)
