"""LoRA by peft on a routed model: every width runs, trains, merges and saves the adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # read by peft

TARGETS = [["query", "value"], "all-linear"]


def adapted(model: SharcsForSequenceClassification, targets: Any) -> Any:
    """Return the model with adapters, whose start changes nothing."""
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=targets, r=2, lora_alpha=8)
    return peft.get_peft_model(model, config).eval()


@torch.no_grad()
def answers(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    return [model(**inputs, rungs=rung).logits for rung in range(3)]


@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_every_width_trains_the_adapters_and_merging_changes_nothing(
    model: SharcsForSequenceClassification, batch: Any, tmp_path: Path, targets: Any
) -> None:
    inputs, ladder = batch(), range(3)
    before = answers(model, inputs)
    client = adapted(model, targets)
    torch.testing.assert_close(answers(client, inputs), before, atol=1e-5, rtol=1e-5)
    optimizer = torch.optim.SGD([p for p in client.parameters() if p.requires_grad], lr=5.0)
    labels = torch.zeros(len(inputs["input_ids"]), dtype=torch.long)
    for _ in range(2):  # the first step moves B, which starts at zero, the second A
        optimizer.zero_grad()
        torch.stack([client(**inputs, rungs=rung, labels=labels).loss for rung in ladder]).sum().backward()
        optimizer.step()
    trained = answers(client, inputs)
    assert all((x - y).abs().max() > 1e-3 for x, y in zip(trained, before, strict=True))
    with pytest.raises(ValueError, match=r"in the place of a Linear, .* merge it into the model first"):
        torch_engine(client.base_model.model)
    client.save_pretrained(tmp_path / "adapter")
    merged = client.merge_and_unload()
    torch.testing.assert_close(answers(merged, inputs), trained, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    loaded = SharcsForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert all(torch.equal(x, y) for x, y in zip(answers(loaded, inputs), answers(merged, inputs), strict=True))
    torch_engine(loaded)


def test_saved_adapters_load_onto_the_model_again(
    model: SharcsForSequenceClassification, batch: Any, tmp_path: Path
) -> None:
    inputs = batch()
    model.save_pretrained(tmp_path / "model")
    client = adapted(model, ["query", "value"])
    with torch.no_grad():
        for name, parameter in client.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    client.save_pretrained(tmp_path / "adapter")
    again = SharcsForSequenceClassification.from_pretrained(tmp_path / "model")
    loaded = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    expected = answers(client, inputs)
    assert all(torch.equal(x, y) for x, y in zip(answers(loaded, inputs), expected, strict=True))


def test_a_learned_prompt_goes_before_the_text(model: SharcsForSequenceClassification, batch: Any) -> None:
    """Prompt tuning gives embeddings in the place of token ids."""
    inputs = batch()
    config = peft.PromptTuningConfig(
        task_type="SEQ_CLS", num_virtual_tokens=3, num_layers=3, token_dim=48, num_attention_heads=4
    )
    client: Any = peft.get_peft_model(model, config).eval()
    out = client(**inputs, labels=torch.zeros(5, dtype=torch.long))
    assert out.logits.shape == (5, 3)
    out.loss.backward()
    assert client.prompt_encoder.default.embedding.weight.grad.abs().sum() > 0
