"""The predictor from texts to answers: a saved model behind a tokenizer, in batches or as a stream."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharcs_pl.core.arrays import sigmoid, softmax
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.kinds import to_scores
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.inference.batches import Answers, Batch, cuts
from sharcs_pl.inference.parts import is_parts, open_parts
from sharcs_pl.inference.read_ahead import windows
from sharcs_pl.inference.served import ServedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from sharcs_pl.inference.trained import TrainedModel
    from sharcs_pl.models.routed import SharcsForSequenceClassification

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    `label` is the class's name, the value of a regression, or a tuple of the names of all labels that a model of
    several gives. `probabilities` are in the order of `RoutedPredictor.labels`, empty for a regression. `rung` and
    `width` tell where the text ran, and `macs` the multiply-adds it cost at its real length. `router_scores` holds the
    probability of each rung that the text belongs there, empty where no router decides. `certainties`, of a cascade:
    how sure the model was at each rung from the first that the text ran on to `rung`, empty elsewhere.
    """

    label: str | float | tuple[str, ...]
    probabilities: tuple[float, ...]
    rung: int
    width: str
    macs: int
    router_scores: tuple[float, ...]
    certainties: tuple[float, ...] = ()


class RoutedPredictor:
    """A routed classifier for texts. Threads may share one: each gets the answers that it would get alone.

    Args:
        batch_size: texts per pass of the trunk, and samples that fill a rung's pool in `stream`.
        batch_tokens: tokens of a batch at most, padding included, so that long texts make smaller ones; None for any.
        max_length: tokens at which texts are cut; None for the tokenizer's, at most what the encoder reads.
        point: name of an operating point (see ``sharcs calibrate``); None for the one in use.
        precision: "float32" or "bfloat16"; of parts also "int8". None for "float32", or for the one of the parts.
        compile: `torch.compile` for the trunk and each rung; the first batches take minutes.
        window: batches that `stream` reads ahead and sorts by length.
        backend: "torch", or "openvino" or "onnxruntime", for which the model is exported first; ``sharcs export
            format=parts`` does that once.
        threads: threads of one call of another backend, None for its own choice.
    """

    def __init__(
        self,
        model: SharcsForSequenceClassification,
        tokenizer: PreTrainedTokenizerFast,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        point: str | None = None,
        precision: str | None = None,
        compile: bool = False,
        window: int = 16,
        backend: str = "torch",
        threads: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if threads is not None and backend == "torch":
            raise ValueError(f"threads={threads} is for another backend; torch.set_num_threads sets those of torch")
        if compile and backend != "torch":
            raise ValueError(f"compile=true is for torch, not for backend={backend}")
        if backend == "torch":
            from sharcs_pl.inference.torch_backend import serve

            served = serve(model, tokenizer, max_length, point=point, precision=precision or "float32", compile=compile)
        else:
            from sharcs_pl.inference.export_parts import serve_parts

            options = {"point": point, "precision": precision, "threads": threads}
            served = serve_parts(model, tokenizer, max_length, backend, **options)
        self._serve(served, batch_size, window, batch_tokens)

    def _serve(self, served: ServedModel, batch_size: int, window: int, batch_tokens: int | None) -> None:
        self.served = served
        self.batch_size, self.batch_tokens, self.window = batch_size, batch_tokens, window
        self.engine = served.engine
        self.tokenizer, self.max_length = served.tokenizer, served.max_length
        self.labels, self.thresholds = served.labels, served.thresholds
        self.widths = served.cost.ladder.labels()
        self.cost = served.cost

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str | torch.device = "cpu", **options: Any
    ) -> RoutedPredictor:
        """Load a run directory, a checkpoint, a saved model folder or a hub id, as ``sharcs predict`` does, or a folder
        of parts from ``sharcs export format=parts``, which needs no torch. `options` are the arguments of the class.
        Raise `ValueError` where it is none, is damaged or does not fit the options."""
        if is_parts(Path(path).expanduser()):
            return cls.of_parts(Path(path).expanduser(), device=device, **options)
        from sharcs_pl.inference.trained import open_trained

        try:
            return cls.of(open_trained(str(path), record_needed=False), device=device, **options)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("run=")) from error

    @classmethod
    def of(
        cls,
        source: TrainedModel,
        *,
        device: str | torch.device = "cpu",
        max_length: int | None = None,
        point: str | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> RoutedPredictor:
        """Load an opened model; texts are cut as in its training, unless `max_length` says otherwise."""
        from sharcs_pl.inference.loading import load_model, load_tokenizer
        from sharcs_pl.inference.trained import check_options

        _, max_length = check_options(source, point, max_length)
        if is_parts(source.weights):
            options |= {"max_length": max_length, "point": point, "backend": backend}
            return cls.of_parts(source.weights, device=device, **options)
        model: Any = load_model(source).to(device)  # pyright: ignore[reportCallIssue, reportArgumentType]
        options |= {"max_length": max_length, "point": point, "backend": backend or "torch"}
        return cls(model, load_tokenizer(source), **options)

    @classmethod
    def of_parts(
        cls,
        folder: Path,
        *,
        batch_size: int = 32,
        window: int = 16,
        backend: str | None = None,
        compile: bool = False,
        device: str | torch.device = "cpu",
        batch_tokens: int | None = None,
        **options: Any,
    ) -> RoutedPredictor:
        """Load a folder of parts; `options` are those of `open_parts`. Raise `ValueError` for another `backend` than
        the folder's, for `compile`, or for another device than the CPU."""
        if str(device) != "cpu":
            raise ValueError(f"device={device}: {folder} holds parts, which run on the CPU; use device=cpu")
        if compile:
            raise ValueError(f"compile=true is for torch; {folder} holds parts of another runtime")
        found = cls.__new__(cls)
        found._serve(open_parts(folder, backend=backend, **options), batch_size, window, batch_tokens)
        return found

    @property
    def rule(self) -> DecisionRule:
        """The rule of the operating point in use."""
        return self.engine.rule

    def with_rule(self, rule: DecisionRule) -> RoutedPredictor:
        """Return a predictor of another rule on the same weights."""
        other = copy.copy(self)
        other.engine = self.engine.with_rule(rule)
        other.served = replace(self.served, engine=other.engine)
        return other

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Answer texts (pairs for a task of two) in their order, batched by length inside. Raise `ValueError` for
        anything that is not a text, and for an answer that is not finite, with its position."""
        return [_finite(answer, position) for position, answer in enumerate(self.try_predict(texts))]

    def stream(self, texts: Iterable[Text], max_wait: float | None = None) -> Iterator[Prediction]:
        """Yield the answers of `predict` one by one, from a source of any length.

        Every rung runs full groups, filled across batches. Held at any time are `window` batches of texts, the answers
        that wait for an earlier one (of two windows at most) and less than one batch of hidden states per rung. With
        `max_wait` (seconds) no text waits longer for others to come.
        """
        for position, answer in enumerate(self.try_stream(texts, max_wait)):
            yield _finite(answer, position)

    def try_predict(self, texts: Sequence[Text]) -> list[Prediction | None]:
        """Answer texts as `predict` does, with None for a text whose answer is NaN or infinite."""
        texts = _several(texts)
        found: dict[int, Prediction | None] = {}
        for batch in self.batches(texts, 0):
            found |= self.predictions(self.engine.answer(batch))
        return [found[index] for index in range(len(texts))]

    def try_stream(self, texts: Iterable[Text], max_wait: float | None = None) -> Iterator[Prediction | None]:
        """Yield answers as `stream` does, with None for a text whose answer is NaN or infinite."""
        texts = _several(texts)
        run = self.engine.pooled(self.batch_size, self.batch_tokens)
        found: dict[int, Prediction | None] = {}
        read = given = 0
        for number, (items, hurry) in enumerate(windows(texts, self.window * self.batch_size, max_wait)):
            for batch in self.batches(items, read, longest_first=number % 2 == 1):
                for answers in run.add(batch):
                    found |= self.predictions(answers)
            for answers in run.flush(None if hurry else read):
                found |= self.predictions(answers)
            read += len(items)
            while given in found:
                yield found.pop(given)
                given += 1
        for answers in run.flush():
            found |= self.predictions(answers)
        yield from (found[index] for index in range(given, read))

    def batches(self, texts: Sequence[Text], start: int, longest_first: bool = False) -> Iterator[Batch]:
        """Yield batches of texts of similar length, numbered from `start`. Every other window of a stream is
        `longest_first`, so that a pool that spans two of them holds similar lengths too."""
        table = self.tokenize(texts, start)
        order = np.argsort(table.lengths, kind="stable")
        order = order[::-1] if longest_first else order
        for first, end in cuts(table.lengths[order], self.batch_size, self.batch_tokens):
            rows = order[first:end]
            found = table.padded(rows)
            yield Batch(rows + start, found["input_ids"], table.lengths[rows], found.get("token_type_ids"))

    def tokenize(self, texts: Sequence[Text], start: int = 0) -> Tokens:
        """Return token ids, cut at `max_length` as in training; messages count texts from the position `start`."""
        rows = [_row(text, position) for position, text in enumerate(texts, start)]
        odd = next((position for position, row in enumerate(rows, start) if len(row) != len(rows[0])), None)
        if odd is not None:
            raise ValueError(f"text {odd}: some texts are pairs and others are not")
        return self.served.tokenize(rows)

    def predictions(self, answers: Answers) -> dict[int, Prediction | None]:
        """Return predictions by the position of their texts; None for an answer that is not finite."""
        rungs, scores = answers.rungs, answers.router_logits
        macs = self.cost.decided_macs(self.engine.rule, answers.lengths, answers.first, rungs)
        columns = (answers.index.tolist(), rungs.tolist(), macs.tolist(), sigmoid(scores).tolist())
        numbers = np.isfinite(np.concatenate([answers.logits, scores], 1))
        finite = numbers.sum(1) == numbers.shape[1]
        sure = zip(answers.first.tolist(), answers.certainties.tolist(), strict=True)
        found = zip(*columns, self._labels(answers.logits), sure, finite, strict=True)
        return {
            index: Prediction(
                label=label,
                probabilities=probabilities,
                rung=rung,
                width=self.widths[rung],
                macs=spent,
                router_scores=tuple(scores),
                certainties=tuple(certain[first : rung + 1]),
            )
            if fine
            else None
            for index, rung, spent, scores, (label, probabilities), (first, certain), fine in found
        }

    def _labels(self, logits: np.ndarray) -> Iterator[tuple[str | float | tuple[str, ...], tuple[float, ...]]]:
        if self.labels is None:
            yield from ((value, ()) for value in logits[:, 0].tolist())
        elif self.thresholds is not None:
            given = to_scores(logits, self.thresholds) >= 0
            for marks, row in zip(given.tolist(), sigmoid(logits).tolist(), strict=True):
                yield tuple(name for name, mark in zip(self.labels, marks, strict=True) if mark), tuple(row)
        else:
            best = logits.argmax(-1).tolist()
            for label, row in zip(best, softmax(logits).tolist(), strict=True):
                yield self.labels[label], tuple(row)


def _finite(answer: Prediction | None, position: int) -> Prediction:
    if answer is None:
        raise ValueError(f"text {position}: the model's answer to it is not finite (NaN or infinity)")
    return answer


def _several(texts: Any) -> Any:
    """Return the texts, those of an Arrow column as Python's own. Raise `ValueError` for a single text, whose letters
    would be read as texts."""
    if isinstance(texts, (str, bytes)):
        raise ValueError("one text was given in place of several; give a list of it: predict([text])")
    return texts.to_pylist() if hasattr(texts, "to_pylist") else texts


def _row(text: object, position: int) -> tuple[str, ...]:
    parts = text if isinstance(text, (tuple, list)) else (text,)
    row = tuple(part for part in parts if isinstance(part, str))
    if not 1 <= len(row) == len(parts) <= 2:
        raise ValueError(f"text {position}: {type(text).__name__} is not a text; give a str, or a pair of them")
    return row
