"""The base class of all models, a stock encoder with a ladder of rungs, one of which each sample takes.

Dimensions: `B` batch, `L` tokens, `W` rungs, `C` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from sharcs_pl.core.exits import ExitCost
from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.kinds import Kind, kind_of_model, label_thresholds, task_kind
from sharcs_pl.core.ladder import Ladder
from sharcs_pl.core.skim import SkimCost
from sharcs_pl.models.decision import Decision
from sharcs_pl.models.families import EMBEDDED, Family, get_family
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.pretrained import align, saved_type
from sharcs_pl.models.sweeps import SweptPoint

AUTO_CLASS = "AutoModelForSequenceClassification"
MODULE = "routed_model"
"""The module that a saved folder has."""

_OUTPUTS = ("output_hidden_states", "output_attentions")


class LadderModel(PreTrainedModel):
    """The contract between models and everything that trains, evaluates or describes them.

    Attributes: encoder, the stock model with its head; shape, its full sizes; ladder, the rungs; cost, the
    multiply-adds of each rung. `input_ids`, `attention_mask` and `token_type_ids` are [B, L] long, the last two
    optional.
    """

    main_input_name = "input_ids"
    accepts_loss_kwargs = False  # of a Trainer that accumulates gradients: the loss is the mean of its own batch
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    config_class: type[PreTrainedConfig]  # pyright: ignore[reportIncompatibleVariableOverride]
    encoder: PreTrainedModel
    shape: EncoderShape
    ladder: Ladder
    cost: CostModel | ExitCost | SkimCost

    def all_rungs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> EveryRung:
        """Run every sample on every rung."""
        raise NotImplementedError

    def decide(self, logits: Tensor, signals: Tensor | None) -> Decision:
        """Return the decision for every sample, by the rule in use, from the logits and signals of `all_rungs`."""
        raise NotImplementedError

    @property
    def own_rule(self) -> str:
        """The key of `sweep` whose points belong to the rule in use."""
        return "own"

    def sweep(self, logits: Tensor, signals: Tensor | None) -> dict[str, list[SweptPoint]]:
        """Return, for each rule that the model can have, the settings at which decisions change, from the outputs of
        `all_rungs`; empty if no threshold decides."""
        raise NotImplementedError

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the stock model lacks; they may have a learning rate of their own."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return a description of the ladder, for the line that announces the training."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """Load as transformers does, and move the weights out of the mapped file, so that logits are reproduced bit for
        bit. Raise `ValueError` for a checkpoint of another class."""
        found = saved_type(*args, **kwargs)
        if found not in (None, cls.config_class.model_type):
            raise ValueError(
                f"{args[0]} is not a routed model of the class {cls.__name__} (its model_type is {found}); use "
                "from_encoder to make one of a stock encoder"
            )
        loaded: Any = super().from_pretrained(*args, **kwargs)
        align(loaded[0] if kwargs.get("output_loading_info") else loaded)
        return loaded

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as transformers does, with a module by which its Auto classes load the folder where nothing has imported
        this package (with `trust_remote_code=True`)."""
        own = next(kind for kind in type(self).__mro__ if kind.__module__.startswith("sharcs_pl."))
        names = {"AutoConfig": own.config_class.__name__, AUTO_CLASS: own.__name__}
        self.config.auto_map = {auto: f"{MODULE}.{name}" for auto, name in names.items()}
        super().save_pretrained(save_directory, *args, **kwargs)
        if Path(save_directory).is_dir():
            text = f'"""Needs the package sharcs_pl."""\nfrom {own.__module__} import {", ".join(names.values())}\n'
            Path(save_directory, f"{MODULE}.py").write_text(text, encoding="utf-8")

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: a saved folder imports this package, and needs no copy of its modules."""

    @property
    def family(self) -> Family:
        """The row of the encoder's architecture."""
        return get_family(self.config.encoder["model_type"])

    @property
    def kind(self) -> Kind:
        """The kind of task that the model answers."""
        return kind_of_model(self.shape.num_labels, self.config.problem_type)

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability of each label from which on it is given, None unless outputs are labels of their own. Raise
        `ValueError` for unusable ``label_thresholds`` in the config."""
        return label_thresholds(self.shape.num_labels, self.config.problem_type, self.config.label_thresholds)

    @property
    def _base(self) -> Any:
        return self.family.base_of(self.encoder)

    def embedded(self, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `EMBEDDED` that are given among the inputs of `forward` that it does not name. Raise
        `ValueError` for one that stock models take and this one does not, unless it is None or False. Names that no
        model knows are ignored, as stock models ignore them."""
        known = {name: extras.get(name) for name in (*EMBEDDED, *_OUTPUTS)}
        found = {name: value for name, value in known.items() if value is not None and value is not False}
        for name in found:
            if name in _OUTPUTS:
                raise ValueError(
                    f"{name} is no input of a model whose samples end at different places; leave it out. "
                    "`model.encoder`, the stock model of full width, takes it"
                )
            if name not in self.family.takes:
                raise ValueError(f"{name}: every layer of {self.family.model_type} reads positions; leave it out")
        return found

    def embed(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        **embedded: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the first layer's input [B, L, D] and the attention mask [B, L], ones if none is given. Raise
        `ValueError` unless either `input_ids` or `inputs_embeds` are given."""
        tokens = [x for x in (input_ids, embedded.get("inputs_embeds")) if x is not None]
        if len(tokens) != 1:
            raise ValueError("give either input_ids or inputs_embeds")
        shape, device = tokens[0].shape[:2], tokens[0].device
        mask = torch.ones(shape, dtype=torch.long, device=device) if attention_mask is None else attention_mask
        return self.family.embed(self._base, input_ids, token_type_ids, mask, **embedded), mask

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's word embeddings."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embeddings."""
        self.encoder.set_input_embeddings(value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize as transformers does, and note the new size where the saved model looks for it."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        self.encoder.config.vocab_size = embeddings.num_embeddings
        return embeddings


def thresholds_of(config: Any) -> dict[str, list[float]]:
    """Return the ``label_thresholds`` of a config, empty where it has none."""
    found = getattr(config, "label_thresholds", None)
    return {} if found is None else {"label_thresholds": found}


def settings_of(stock: PreTrainedModel, num_labels: int | None, problem_type: str | None = None) -> dict[str, Any]:
    """Return the fields of a model's config that its stock encoder decides: the encoder's config, labels, attention
    kernel, and problem type, unless another task is given by its `num_labels` or `problem_type`. Raise `ValueError` for
    a problem type that does not fit the number of outputs."""
    outputs = stock.config.num_labels or 1
    if problem_type not in (None, kind_of_model(outputs, problem_type).problem_type):
        raise ValueError(f"problem_type={problem_type} does not fit {outputs} outputs")
    if problem_type is None:
        problem_type = stock.config.problem_type if num_labels is None else task_kind(num_labels).problem_type
    encoder = stock.config.to_dict()
    encoder.pop("_name_or_path", None)  # a local path from the time of surgery
    return {
        "encoder": encoder,
        "id2label": stock.config.id2label,
        "label2id": stock.config.label2id,
        "problem_type": problem_type,
        **({} if num_labels is not None else thresholds_of(stock.config)),
        "attn_implementation": stock.config._attn_implementation,
    }
