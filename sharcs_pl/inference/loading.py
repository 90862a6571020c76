"""The weights and the tokenizer of a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharcs_pl.inference.parts import is_parts
from sharcs_pl.inference.record import CHECKPOINT_KEY
from sharcs_pl.inference.trained import TrainedModel, read_checkpoint
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.locate import locate
from sharcs_pl.models.vocabulary import check_tokenizer, num_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sharcs_pl.models.routed import SharcsForSequenceClassification


def load_model(source: TrainedModel) -> SharcsForSequenceClassification:
    """Load the model with its weights, as training left it. Raise ``ValueError`` where they are not all finite, and for
    a folder of parts."""
    from sharcs_pl.models.pretrained import check_finite
    from sharcs_pl.models.routed import SharcsForSequenceClassification
    from sharcs_pl.models.saved import load_saved, model_from_settings

    if is_parts(source.weights):
        raise ValueError(
            f"run={source.weights} holds parts of another runtime, without weights; give the run of which they were "
            "exported"
        )
    if source.weights.is_dir():
        model = load_saved(source.weights, SharcsForSequenceClassification)
    else:
        found = read_checkpoint(source.weights)
        model = model_from_settings(found[CHECKPOINT_KEY]["model"])
        weights = {name.removeprefix("model."): tensor for name, tensor in found["state_dict"].items()}
        model.to(next(iter(weights.values())).dtype)  # pyright: ignore[reportCallIssue]
        model.load_state_dict(weights)
    check_finite(model, f"run={source.weights}")
    if source.config.encoder.attn_implementation:
        model.encoder.set_attn_implementation(source.config.encoder.attn_implementation)
    return model.eval()


def load_tokenizer(source: TrainedModel) -> PreTrainedTokenizerFast:
    """Load the saved tokenizer. A checkpoint has the one of its run's saved model, else the encoder's own. Raise
    ``ValueError`` where the model lacks embeddings for it."""
    from transformers import AutoTokenizer

    from sharcs_pl.data.synthetic import word_tokenizer

    pretrained = source.config.encoder.pretrained
    saved = [each for each in (source.weights, source.home / "model") if (each / "tokenizer_config.json").is_file()]
    if saved:
        given, tokenizer = f"run={saved[0]}", AutoTokenizer.from_pretrained(saved[0])
    elif pretrained:
        given = f"encoder.pretrained={pretrained}"
        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_place(pretrained))
    else:
        given, tokenizer = f"run={source.weights}", word_tokenizer()
    check_tokenizer(given, tokenizer, _embeddings(source))
    return tokenizer


def _tokenizer_place(pretrained: str) -> str:
    try:
        return locate(pretrained).source
    except ValueError as error:
        hint = "a checkpoint alone has no tokenizer, its run directory and its run's model/ have"
        raise ValueError(f"{error}; {hint}") from error


def _embeddings(source: TrainedModel) -> int | None:
    """Return the number of tokens that the model's encoder knows; None where its config does not tell."""
    if source.weights.is_dir():
        return num_embeddings(read_json(source.weights / "config.json"))
    return num_embeddings(read_checkpoint(source.weights)[CHECKPOINT_KEY]["model"])
