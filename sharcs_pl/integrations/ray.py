"""Answers for the texts of a data set in batches: with Ray Data on one machine or many, with datasets, with pandas."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sharcs_pl.config.checks import one_of
from sharcs_pl.core.decision import DecisionRule, stored_rule
from sharcs_pl.core.kinds import stored_names
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.files import text_fault
from sharcs_pl.inference.rows import InputRow
from sharcs_pl.inference.trained import TrainedModel, check_options, model_settings, open_trained, text_columns_of
from sharcs_pl.inference.writers import Columns, columns_of
from sharcs_pl.integrations.batches import read_column, with_columns

if TYPE_CHECKING:
    from ray.data import Dataset  # pyright: ignore[reportMissingImports]

    from sharcs_pl.inference.predictor import Prediction, Text
    from sharcs_pl.inference.two_passes import Deferred

FATAL, SKIP = "fatal", "skip"
ERROR, RUNG, LOGITS = "error", "deferred_rung", "deferred_logits"
_NOT_FINITE = "the model's answer to it is not finite"
_TYPES = {"label": pa.string(), "rung": pa.int64(), "width": pa.string(), "macs": pa.int64()}


class RoutedTexts:
    """A callable that adds to a batch of rows the answers of a trained model.

    ``Dataset.map_batches`` of Ray loads the model once per actor; ``Dataset.map`` of datasets and frames of pandas
    serve as well. A batch is a table of Arrow, a frame of pandas or a mapping of columns. What comes back is of the
    same kind: the columns of the batch, then those that ``sharcs predict`` writes to a table (``label``,
    ``p_<class>``, ``rung``, ``width``, ``macs``). A column of the batch that has the name of one of these gets
    ``input_`` before it. Texts are sorted by length inside; rows stay in their order.

    Args:
        run: run directory, checkpoint, saved model folder, folder of parts or hub id.
        text: text column, or two for pairs; None for those of the run.
        explain: add the router's scores, and a cascade's certainties.
        on_error: "fatal" raises `ValueError` for a row without a usable text or a finite answer; "skip" gives such a
            row nulls, and every row a column ``error``.
        half: 1 runs a cascade's first rung alone and leaves two columns for the rows that go on; 2 answers those rows
            (see `answer_dataset`); None for all at once.
        options: arguments of `RoutedPredictor`, such as `point`, `batch_size`, `batch_tokens` or `backend`, and
            `device`.
    """

    def __init__(
        self,
        run: str,
        text: str | Sequence[str] | None = None,
        *,
        explain: bool = False,
        on_error: str = FATAL,
        half: int | None = None,
        **options: Any,
    ) -> None:
        source = open_trained(run, record_needed=False)
        self.text, self.allow_empty = _check(source, text, explain, on_error, half, options)
        from sharcs_pl.inference.opening import open_predictor

        self.predictor = open_predictor(source, options.pop("device", "cpu"), options.pop("backend", None), **options)
        self.skip, self.half = on_error == SKIP, half
        self.columns = columns_of(self.predictor, (), explain)

    def __call__(self, batch: Any) -> Any:
        """Return a batch with its answers."""
        rows = list(zip(*(read_column(batch, name) for name in self.text), strict=True))
        faults = {at: fault for at, row in enumerate(rows) if (fault := text_fault(row, self.text, self.allow_empty))}
        usable = [at for at in range(len(rows)) if at not in faults]
        answers = self._answer(batch, usable, [rows[at][0] if len(self.text) == 1 else rows[at] for at in usable])
        faults |= dict.fromkeys((at for at in usable if answers[at] is None), _NOT_FINITE)
        if faults and not self.skip:
            at = min(faults)
            raise ValueError(f"row {at} of the batch: {faults[at]}; on_error='skip' goes on without such rows")
        added = self._added(len(rows), answers, faults)
        return with_columns(batch, added, (*added, RUNG, LOGITS) if self.half == 2 else ())

    def _answer(self, batch: Any, usable: list[int], texts: list[Text]) -> dict[int, Prediction | Deferred | None]:
        """Return the answers to usable rows by their position."""
        from sharcs_pl.inference.two_passes import Deferred, first_pass, second_pass

        if self.half == 1:
            found: Sequence[Any] = first_pass(self.predictor, texts)
        elif self.half == 2:
            rungs, logits = read_column(batch, RUNG), read_column(batch, LOGITS)
            found = second_pass(self.predictor, texts, [Deferred(rungs[at], tuple(logits[at])) for at in usable])
        else:
            found = list(self.predictor.try_stream(texts))
        return dict(zip(usable, found, strict=True))

    def _added(self, size: int, answers: dict[int, Any], faults: dict[int, str]) -> dict[str, pa.Array]:
        """Return the new columns, with nulls for rows without an answer."""
        from sharcs_pl.inference.predictor import Prediction

        names = self.columns.header[1:]  # without the number of the row
        empty: list[Any] = [None] * len(names)
        rows = [empty] * size
        for at, answer in answers.items():
            if isinstance(answer, Prediction):
                rows[at] = self.columns.values(self.columns.record(InputRow(at, (), ()), answer))[1:]
        types = dict(_TYPES)
        if self.columns.several or not self.columns.classes:
            types["label"] = pa.list_(pa.string()) if self.columns.several else pa.float64()
        columns = zip(names, zip(*rows, strict=True) if rows else [[]] * len(names), strict=True)
        found = {name: pa.array(values, types.get(name, pa.float64())) for name, values in columns}
        if self.skip:
            found[ERROR] = pa.array([faults.get(at) for at in range(size)], pa.string())
        return found | (self._left(size, answers) if self.half == 1 else {})

    def _left(self, size: int, answers: dict[int, Any]) -> dict[str, pa.Array]:
        """Return the columns of the rows that are left to the second pass, null for the others."""
        from sharcs_pl.inference.two_passes import Deferred

        left = {at: answer for at, answer in answers.items() if isinstance(answer, Deferred)}
        rungs = [left[at].rung if at in left else None for at in range(size)]
        logits = [list(left[at].logits) if at in left else None for at in range(size)]
        return {RUNG: pa.array(rungs, pa.int64()), LOGITS: pa.array(logits, pa.list_(pa.float32()))}


def answer_dataset(
    dataset: Dataset,
    run: str,
    text: str | Sequence[str] | None = None,
    *,
    passes: int = 1,
    key: str | None = None,
    actors: int | tuple[int, int] = 1,
    rows: int = 1024,
    resources: dict[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Return a data set of Ray with the answers of a model, which a pool of actors computes when it is read.

    Args:
        run, text, options: as of `RoutedTexts`; checked here, before an actor starts.
        passes: 2 runs a cascade's first rung on all texts, then the later rungs on those that are left, each in batches
            of one kind. What goes on pays the trunk twice. Ray's object store holds the answers of the first pass.
        key: column by which the rows are sorted at the end; None leaves them in the order in which they are done.
        actors: size of the pool, or its least and its largest.
        rows: rows that an actor gets at once.
        resources: what each actor takes, as ``map_batches`` reads it: ``{"num_cpus": 4}``, or ``{"num_gpus": 1}`` with
            ``device="cuda"``.
    """
    import ray.data  # pyright: ignore[reportMissingImports]

    if passes not in (1, 2):
        raise ValueError(f"passes={passes}: give 1, or 2 for a cascade in two passes")
    _check_dataset(dataset, open_trained(run, record_needed=False), text, passes, key, **options)
    size = actors if isinstance(actors, tuple) else (actors, actors)
    pool = ray.data.ActorPoolStrategy(min_size=size[0], max_size=size[1])

    def run_texts(part: Dataset, half: int | None) -> Dataset:
        settings = {"run": run, "text": text, "half": half, **options}
        return part.map_batches(
            RoutedTexts, fn_constructor_kwargs=settings, compute=pool, batch_size=rows, batch_format="pyarrow",
            **(resources or {}),
        )  # fmt: skip

    if passes == 1:
        found = run_texts(dataset, None)
    else:
        first = run_texts(dataset, 1).materialize()
        left = run_texts(first.map_batches(_left_rows, batch_format="pyarrow"), 2)
        found = first.map_batches(_done_rows, batch_format="pyarrow").union(left)
    return found if key is None else found.sort(key)


def _left_rows(table: pa.Table) -> pa.Table:
    """Return the rows that the first pass has left."""
    return table.filter(table[RUNG].is_valid())


def _done_rows(table: pa.Table) -> pa.Table:
    """Return the rows that the first pass has answered, or given up."""
    return table.filter(table[RUNG].is_null()).drop_columns([RUNG, LOGITS])


def _check(
    source: TrainedModel,
    text: str | Sequence[str] | None,
    explain: bool,
    on_error: str,
    half: int | None,
    options: Mapping[str, Any],
) -> tuple[tuple[str, ...], bool]:
    """Return the text columns, and whether a text may be empty. Raise `ValueError` for what does not fit the model."""
    from sharcs_pl.inference.predictor import RoutedPredictor

    one_of("on_error", on_error, (FATAL, SKIP))
    known = [*inspect.signature(RoutedPredictor).parameters][2:]  # after the model and its tokenizer
    for name in options:
        if name not in (*known, "device"):
            raise ValueError(f"there is no argument {name}; the options are {', '.join([*known, 'device'])}")
    point = options.get("point")
    settings, _ = check_options(source, point, options.get("max_length"))
    columns, allow_empty = text_columns_of(source, text)
    if half is not None:
        if not _rule(settings, point).cascades:
            raise ValueError("passes=2 needs an operating point of a cascade, and at this one the router decides")
        if taken := set(_answer_names(source, point, explain, on_error)).intersection(columns):
            raise ValueError(f"text={taken.pop()}: an answer has a column of this name; passes=2 needs another one")
    return columns, allow_empty


def _check_dataset(
    dataset: Dataset,
    source: TrainedModel,
    text: str | Sequence[str] | None,
    passes: int,
    key: str | None,
    explain: bool = False,
    on_error: str = FATAL,
    **options: Any,
) -> None:
    """Raise `ValueError` for what fits neither the model nor the columns of the data set."""
    columns, _ = _check(source, text, explain, on_error, passes - 1 or None, options)
    given = dataset.schema()
    for name in (*columns, *([] if key is None else [key])):
        if given is not None and name not in given.names:
            raise ValueError(f"the data set has no column {name!r}; it has {', '.join(given.names)}")
    if key is not None and key in _answer_names(source, options.get("point"), explain, on_error):
        raise ValueError(f"key={key}: an answer has a column of this name; rename it first")


def _rule(settings: Mapping[str, Any], point: str | None) -> DecisionRule:
    return stored_rule(settings, len(settings["widths"]), len(stored_names(settings)), point)


def _answer_names(source: TrainedModel, point: str | None, explain: bool, on_error: str) -> tuple[str, ...]:
    """Return the names of the columns that answers have."""
    settings = model_settings(source)
    classes, widths = stored_names(settings), WidthLadder.parse(settings["widths"]).labels()
    columns = Columns((), classes if len(classes) > 1 else (), tuple(widths), explain, _rule(settings, point))
    return (*columns.header[1:], *([ERROR] if on_error == SKIP else []))
