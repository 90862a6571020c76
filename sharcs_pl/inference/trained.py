"""A trained model, from wherever the user points: a run directory, a checkpoint, a saved model folder or a hub id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from sharcs_pl.config import RunConfig, TaskConfig
from sharcs_pl.config.model import EncoderConfig
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.errors import KeyFault
from sharcs_pl.core.hub import why_unreachable_model
from sharcs_pl.core.kinds import label_thresholds
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.renamed import CUSTOM
from sharcs_pl.data.files import listed, shown
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.data.tasks import get_task
from sharcs_pl.inference.parts import PARTS, PartsFacts, is_parts
from sharcs_pl.inference.record import CHECKPOINT_KEY, MARKER, TRAINING, read_record, record_file, travelling
from sharcs_pl.models.encoder_sizes import OURS, encoder_sizes
from sharcs_pl.models.folder import check_weights, check_zip, read_json, weight_files
from sharcs_pl.models.stock_form import read_settings
from sharcs_pl.models.vocabulary import check_vocabulary

TEXT = "text"  # the text column where no run says another
CARD = "README.md"
MODEL_FILES = (
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "model-*-of-*.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "spm.model", "tokenizer.model", TRAINING, "run.json", "metrics.json",
    "routed_model.py", CARD, SEEN,
)  # fmt: skip
"""The files that transformers and the run may write into ``model/``."""

_REMEDY = "give another checkpoint, or the saved model's folder"
_GIVE = "give a run directory, a .ckpt file, a model/ folder or a hub id"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that is not loaded yet. `weights` is the folder or checkpoint of its weights; results of an
    evaluation go beside `home`. `recorded` tells if the config is a run's own, not made up from the model."""

    weights: Path
    home: Path
    config: RunConfig
    recorded: bool = True


def model_names(folder: Path) -> list[str]:
    """Return the files of a saved model in a folder, by the names that transformers and this project give them."""
    return [path.name for pattern in MODEL_FILES for path in folder.glob(pattern)]


def open_trained(path: str, record_needed: bool = True) -> TrainedModel:
    """Open the model that ``run=`` names without loading it. Raise ``ValueError`` when it is none, or damaged.

    Without ``record_needed`` a model's folder may lack the record of its run. Its ``config`` then is made up from the
    model: own data with the text column ``text``, and the longest input that tokenizer and encoder take.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return _checkpoint(place)
    if (place / MARKER).is_file():
        return _run_directory(place)
    if (place / "config.json").is_file():
        return _model_folder(place, place.absolute().parent, record_needed)
    if place.is_dir():
        raise ValueError(f"run={path} holds neither a run nor a saved model; {_GIVE}")
    if not _HUB_ID.fullmatch(path):
        raise ValueError(f"run={path} does not exist; {_GIVE}")
    return _model_folder(_from_hub(path), Path.cwd(), record_needed)


def _run_directory(place: Path) -> TrainedModel:
    config = _config(read_json(place / MARKER).get("config"), place)
    checkpoints = [place / "checkpoints" / name for name in ("best.ckpt", "last.ckpt", "last.prev.ckpt")]
    model = place / "model"
    saved = [model] if model_names(model) else []  # it may hold files of the user's alone
    for weights in [*saved, *checkpoints]:
        if weights.exists():
            _check_weights(weights)
            return TrainedModel(weights, place, config)
    raise ValueError(f"run={place} has no checkpoint yet; let it train for an epoch")


def _model_folder(place: Path, home: Path, record_needed: bool) -> TrainedModel:
    record = record_file(place)
    if record is not None:
        _check_weights(place)
        return TrainedModel(place, home, _config(_with_places(read_json(record), place.absolute().parent), place))
    if record_needed:
        raise ValueError(f"run={place} has no {TRAINING}, which says how it was trained; give a model/ folder of a run")
    config = _assumed(place)
    _check_weights(place)
    return TrainedModel(place, home, config, recorded=False)


def _assumed(place: Path) -> RunConfig:
    """Return the config that can be assumed of a run without a record."""
    settings = _settings(place)
    try:
        longest = encoder_sizes(settings["encoder"]).max_tokens
    except KeyFault as error:
        raise error.of(f"run={place}") from error
    tokenizer = place / "tokenizer_config.json"
    limit = read_json(tokenizer).get("model_max_length") if tokenizer.is_file() else None
    task = TaskConfig(name=CUSTOM, text=TEXT, label="label", max_length=int(min(limit or longest, longest)))
    return RunConfig(task=task, encoder=EncoderConfig(name="custom", pretrained=str(place)))


def _from_hub(name: str) -> Path:
    """Return the folder of a model on the hub, brought up to date where the hub answers, else as it was cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    why = why_unreachable_model("run", name, f"; {_GIVE}")
    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES), local_files_only=why is not None))
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"run={name} does not exist here, nor in the local cache of the Hugging Face hub, which cannot be reached "
            f"({why or type(error).__name__}); {_GIVE}"
        ) from error


def _checkpoint(place: Path) -> TrainedModel:
    _check_weights(place)
    record = read_checkpoint(place)[CHECKPOINT_KEY]["config"]
    folder = place.absolute().parent
    home = folder.parent if folder.name == "checkpoints" else folder
    return TrainedModel(place, home, _config(_with_places(record, home), place))


def _with_places(record: Any, run: Path) -> Any:
    """Return the run directory's copy of the record, which has the places of its files, where it is the same record."""
    marker = run / MARKER
    whole = read_json(marker).get("config") if isinstance(record, dict) and marker.is_file() else None
    return whole if isinstance(whole, dict) and travelling(whole) == travelling(record) else record


def _check_weights(weights: Path) -> None:
    if weights.is_file():
        return check_zip(weights, _REMEDY)
    if is_parts(weights):
        PartsFacts.read(weights)
    else:
        for path in weight_files(weights):
            check_weights(path, _REMEDY)
        check_vocabulary(f"run={weights}", weights, read_json(weights / "config.json"))
    settings = saved_settings(weights)
    names = settings.get("id2label") or {}
    label_thresholds(len(names) or 2, settings.get("problem_type"), settings.get("label_thresholds"))
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
    """Read a run's checkpoint, its tensors mapped from the file; nothing in it is executed."""
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint that can be read safely; {_REMEDY}") from error
    if not isinstance(found, dict) or CHECKPOINT_KEY not in found:
        raise ValueError(f"{path} is not a checkpoint of this project; {_REMEDY}")
    return found


def model_settings(source: TrainedModel) -> dict[str, Any]:
    """Return the model's own config as it is stored. Raise ``ValueError`` when it is no model of this project."""
    if source.weights.is_dir():
        return _settings(source.weights)
    found = saved_settings(source.weights)
    check_served(found, source.weights)
    return found


def saved_settings(weights: Path) -> dict[str, Any]:
    """Return the config of any model that a run left; a stock checkpoint with its run's record has one width."""
    if weights.is_dir():
        return read_settings(weights, stock_too=record_file(weights) is not None)
    return read_checkpoint(weights)[CHECKPOINT_KEY]["model"]


def _settings(folder: Path) -> dict[str, Any]:
    found = saved_settings(folder)
    check_served(found, folder)
    if found.get("model_type") != "sharcs" or not isinstance(found.get("encoder"), dict):
        kind = shown(found.get("model_type"))
        raise ValueError(f"run={folder} is no model of this project: its config.json has model_type={kind}")
    return found


def check_served(settings: dict[str, Any], place: Path) -> None:
    """Raise ``ValueError`` unless it is a model of widths that runs on all tokens."""
    skims = bool(settings.get("skim"))
    if skims or settings.get("model_type") in OURS[1:]:
        has = "skips tokens on the way" if skims else "has no widths but exits or skipped tokens"
        raise ValueError(
            f"run={place} {has}, which this command does not serve; use sharcs evaluate, or its class in Python"
        )


def rule_settings(settings: dict[str, Any], point: str | None, key: str = "point") -> Any:
    """Return the stored rule of ``point=``: its thresholds alone for the router's, None for the rule of training. Raise
    ``ValueError`` naming the ``key`` for an unknown one, and for a rule that the model cannot have."""
    points = settings.get("operating_points") or {}
    name = point or settings.get("operating_point") or TRAINED
    if name == TRAINED:
        return None
    if name not in points:
        raise ValueError(f"{key}={name}: this model has no such operating point; it has {listed([TRAINED, *points])}")
    labels = settings.get("id2label") or {}
    try:
        rule = DecisionRule.from_point(points[name])
        if not rule.cascades and rule.starts is None:
            raise ValueError("thresholds is missing; the router's rule has one per width except the full one")
        rule.check(settings.get("widths", ()), bool(settings.get("router_hidden_size", 1)), len(labels) or 2)
    except ValueError as error:
        raise ValueError(f"{key}={name}: {error}") from error
    return rule.to_point() if rule.cascades else points[name]["thresholds"]


def check_options(source: TrainedModel, point: str | None, max_length: int | None) -> tuple[dict[str, Any], int]:
    """Return the model's own config, and the length in tokens at which its texts are cut. Raise ``ValueError`` when it
    cannot be served, has no such operating point, or reads no text of ``max_length``."""
    settings = model_settings(source)
    longest = encoder_sizes(settings["encoder"]).max_tokens
    if (max_length or 0) > longest:
        raise ValueError(f"max_length={max_length}: this encoder reads at most {longest} tokens")
    rule_settings(settings, point)
    return settings, max_length or min(source.config.task.max_length, longest)


def text_columns_of(source: TrainedModel, given: str | Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the text columns, `given` or those of the run's own data, and whether a text there may be empty. Raise
    ``ValueError`` where the model reads another number of texts."""
    task = source.config.task
    known = None if task.is_custom else get_task(task.name)
    theirs = tuple(task.text_columns) if known is None else known.text_columns
    columns = theirs if given is None else (given,) if isinstance(given, str) else tuple(given)
    if len(columns) != len(theirs) and source.recorded:
        raise ValueError(
            f"text={given} names {len(columns)} columns, this model reads {len(theirs)}: {', '.join(theirs)}"
        )
    return columns, known is not None and known.allow_empty


def model_digest(source: TrainedModel, settings: dict[str, Any]) -> str:
    """Return a hash of weights, tokenizer and config. Operating points are left out, since they come and go."""
    kept = {key: value for key, value in settings.items() if key not in ("operating_points", "operating_point")}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode())
    weights = source.weights
    if is_parts(weights):
        files = [weights / PARTS]  # it has the checksums of the others
    else:
        files = [*weight_files(weights), weights / "tokenizer.json"] if weights.is_dir() else [weights]
    for path in filter(Path.is_file, files):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
