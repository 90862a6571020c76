"""A trained model, from wherever the user points: a run directory, a checkpoint or a saved model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf.errors import OmegaConfBaseException

from sharcs_pl.config import RunConfig
from sharcs_pl.models.folder import check_safetensors, check_zip, read_json, weight_files
from sharcs_pl.models.locate import locate
from sharcs_pl.record import CHECKPOINT_KEY, FILE, read_record
from sharcs_pl.rundir import MARKER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sharcs_pl.models.routed import SharcsForSequenceClassification

_REMEDY = "give another checkpoint, or the saved model's folder"


@dataclass(frozen=True)
class Source:
    """`weights`: the folder or checkpoint they lie in; `home`: the folder that results of an evaluation go beside."""

    weights: Path
    home: Path
    config: RunConfig


def open_source(path: str) -> Source:
    """What ``run=`` names. ``ValueError`` when it is none of the three, or damaged; no model is loaded yet."""
    place = Path(path).expanduser()
    if place.is_file():
        return _checkpoint(place)
    if (place / MARKER).is_file():
        return _run_directory(place)
    if (place / "config.json").is_file():
        return _model_folder(place)
    what = "holds neither a run nor a saved model" if place.is_dir() else "does not exist"
    raise ValueError(f"run={path} {what}; give a run directory, a .ckpt file or a model/ folder")


def _run_directory(place: Path) -> Source:
    config = _config(read_json(place / MARKER).get("config"), place)
    candidates = [place / "model", *(place / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))]
    for weights in candidates:
        if weights.exists():
            _check_weights(weights)
            return Source(weights, place, config)
    raise ValueError(f"run={place} has no checkpoint yet; let it train for an epoch")


def _model_folder(place: Path) -> Source:
    record = place / FILE
    if not record.is_file():
        raise ValueError(f"run={place} has no {FILE}, which says how it was trained; give a model/ folder of a run")
    _check_weights(place)
    return Source(place, place.absolute().parent, _config(read_json(record), place))


def _checkpoint(place: Path) -> Source:
    _check_weights(place)
    record = read_checkpoint(place)[CHECKPOINT_KEY]["config"]
    folder = place.absolute().parent
    return Source(place, folder.parent if folder.name == "checkpoints" else folder, _config(record, place))


def _check_weights(weights: Path) -> None:
    if weights.is_file():
        return check_zip(weights, _REMEDY)
    for path in weight_files(weights):
        check_safetensors(path, _REMEDY)
    return None


def _config(record: Any, place: Path) -> RunConfig:
    if not isinstance(record, dict):
        raise ValueError(f"run={place} does not say how it was trained; train it again with this version")
    try:
        return read_record(record)
    except (ValueError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"run={place} was written by another version, its record does not fit: {reason}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A run's checkpoint, its tensors mapped from the file; nothing in it is executed."""
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint that can be read safely; {_REMEDY}") from error
    if not isinstance(found, dict) or CHECKPOINT_KEY not in found:
        raise ValueError(f"{path} is not a checkpoint of this project; {_REMEDY}")
    return found


def load_model(source: Source) -> SharcsForSequenceClassification:
    """The model with its weights, as the training run left it."""
    from sharcs_pl.build import set_attention
    from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification

    if source.weights.is_dir():
        model = SharcsForSequenceClassification.from_pretrained(source.weights)
    else:
        found = read_checkpoint(source.weights)
        model = SharcsForSequenceClassification(SharcsConfig.from_dict(found[CHECKPOINT_KEY]["model"]))
        weights = {name.removeprefix("model."): tensor for name, tensor in found["state_dict"].items()}
        model.to(next(iter(weights.values())).dtype)  # pyright: ignore[reportCallIssue]
        model.load_state_dict(weights)
    set_attention(source.config, model)
    return model.eval()


def load_tokenizer(source: Source) -> PreTrainedTokenizerFast:
    """The saved tokenizer; for a checkpoint that of its run's model, else the encoder's own."""
    from transformers import AutoTokenizer

    from sharcs_pl.data.synthetic import word_tokenizer

    beside = source.home / "model"
    for folder in (source.weights, beside):
        if (folder / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(folder)
    pretrained = source.config.encoder.pretrained
    return AutoTokenizer.from_pretrained(locate(pretrained).source) if pretrained else word_tokenizer()
