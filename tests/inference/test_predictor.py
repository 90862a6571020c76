"""Texts through the predictor: order, parity between the ways, odd input."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
from sharcs_pl.inference.torch_backend import TorchBackend
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert
from tests.inference.conftest import WORDS
from tests.inference.made import texts


@pytest.fixture
def predictor(folder: Path) -> RoutedPredictor:
    return RoutedPredictor.from_pretrained(folder, batch_size=8, window=4)


def check(found: list[Prediction], expected: list[Prediction]) -> None:
    assert [(p.label, p.rung, p.macs) for p in found] == [(p.label, p.rung, p.macs) for p in expected]
    for name in ("probabilities", "router_scores"):
        a, b = (torch.tensor([getattr(p, name) for p in each]) for each in (found, expected))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def model_of(predictor: RoutedPredictor) -> SharcsForSequenceClassification:
    backend = predictor.engine.backend
    assert isinstance(backend, TorchBackend)
    return backend.model


def test_batches_streams_and_one_by_one_agree_in_the_order_of_the_input(predictor: RoutedPredictor) -> None:
    given = texts(200)
    batched = predictor.predict(given)
    assert {p.rung for p in batched} == {0, 1, 2}
    assert {p.width for p in batched} == {"0.25", "0.5", "1"}
    check(list(predictor.stream(given)), batched)
    check(list(predictor.stream(iter(given), max_wait=30)), batched)
    check([predictor.predict([text])[0] for text in given], batched)


@torch.no_grad()
def test_an_answer_is_the_models_own(predictor: RoutedPredictor, folder: Path) -> None:
    model = SharcsForSequenceClassification.from_pretrained(folder)
    text = texts(1, seed=3)[0]
    encoded = predictor.tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
    out = model(**encoded)
    (found,) = predictor.predict([text])
    assert found.label == ["no", "maybe", "yes"][int(out.logits.argmax())]
    torch.testing.assert_close(torch.tensor(found.probabilities), out.logits[0].softmax(-1))
    torch.testing.assert_close(torch.tensor(found.router_scores), out.router_logits[0].sigmoid())
    length = encoded["input_ids"].shape[1:]
    assert found.macs == model.cost.rung_macs(torch.tensor(length).numpy())[0, found.rung]


def test_a_pickled_predictor_answers_alike(predictor: RoutedPredictor) -> None:
    given = texts(20)
    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301
    assert again.predict(given) == predictor.predict(given)


def test_one_text_is_no_list_of_its_letters_and_an_arrow_column_is_a_list(predictor: RoutedPredictor) -> None:
    for call in (predictor.predict, lambda text: list(predictor.stream(text))):
        with pytest.raises(ValueError, match=r"one text was given in place of several; give a list of it"):
            call("tasty")
    given = texts(12)
    column = pa.chunked_array([given[:5], given[5:]])
    assert predictor.predict(column) == predictor.predict(given)  # pyright: ignore[reportArgumentType]


def test_predictors_of_one_tokenizer_cut_their_own_texts_under_threads(folder: Path) -> None:
    first = RoutedPredictor.from_pretrained(folder, max_length=32)
    others = {n: RoutedPredictor(model_of(first), first.tokenizer, max_length=n) for n in (6, 20)}
    long, found = " ".join(WORDS * 20), {n: set() for n in others}

    def cut(length: int) -> None:
        for _ in range(60):
            found[length] |= set(others[length].tokenize([long]).lengths.tolist())

    threads = [threading.Thread(target=cut, args=(n,)) for n in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: {n} for n in others}


def test_threads_that_share_a_predictor_get_the_answers_that_each_would_get_alone(folder: Path) -> None:
    given, size = texts(160), 8
    expected = RoutedPredictor.from_pretrained(folder, batch_size=8).predict(given)
    shared = RoutedPredictor.from_pretrained(folder, batch_size=8, batch_tokens=40)
    gate, found = threading.Barrier(size), dict[int, list[Prediction]]()

    def work(number: int) -> None:
        gate.wait()  # the first calls meet, before anything is set up
        mine = given[number::size]
        found[number] = shared.predict(mine) if number % 2 else list(shared.stream(mine))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(size):
        check(found[number], expected[number::size])


def test_long_texts_make_smaller_batches(folder: Path) -> None:
    given = texts(60)
    predictor = RoutedPredictor.from_pretrained(folder, batch_size=8, batch_tokens=120)
    sizes = [batch.input_ids.shape for batch in predictor.batches(given, 0)]
    assert max(rows for rows, _ in sizes) == 8
    assert all(rows * longest <= 120 for rows, longest in sizes)
    check(predictor.predict(given), RoutedPredictor.from_pretrained(folder).predict(given))


def test_an_unknown_precision_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="precision=float16 is unknown; choose one of: float32, bfloat16"):
        RoutedPredictor.from_pretrained(folder, precision="float16")


def test_long_texts_are_cut_as_in_training(predictor: RoutedPredictor, folder: Path) -> None:
    assert predictor.max_length == 32
    long = " ".join(WORDS * 20)
    assert predictor.tokenize([long]).lengths.tolist() == [32]
    shorter = RoutedPredictor.from_pretrained(folder, max_length=9)
    assert shorter.tokenize([long]).lengths.tolist() == [9]
    assert shorter.predict([long])[0].macs < predictor.predict([long])[0].macs


def test_a_tokenizer_that_is_not_the_models_is_refused(predictor: RoutedPredictor, folder: Path) -> None:
    model = SharcsForSequenceClassification.from_pretrained(folder)
    known = len(predictor.tokenizer)
    predictor.tokenizer.add_tokens(["<new>"])
    with pytest.raises(ValueError, match=f"its tokenizer has {known + 1} ids, its encoder {known} embeddings"):
        RoutedPredictor(model, predictor.tokenizer)


def test_pairs_and_what_is_no_text(predictor: RoutedPredictor) -> None:
    assert predictor.predict([("good film", "bad film")]) != predictor.predict([("bad film", "good film")])
    with pytest.raises(ValueError, match="text 1: int is not a text"):
        predictor.predict(["good", 7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="text 40: NoneType is not a text"):
        list(predictor.stream([*texts(40), None]))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="text 1: some texts are pairs"):
        predictor.predict(["good", ("good", "bad")])
    assert predictor.predict([]) == list(predictor.stream([])) == []


def test_a_regression_gives_values(predictor: RoutedPredictor) -> None:
    stock = model_of(predictor).encoder
    model = SharcsForSequenceClassification.from_encoder(stock, widths=[0.5, 1], split_layer=1, num_labels=1)
    (found,) = RoutedPredictor(model, predictor.tokenizer).predict(["good film"])
    assert isinstance(found.label, float)
    assert found.probabilities == ()


def test_a_stream_reads_no_further_than_its_window(predictor: RoutedPredictor) -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for text in texts(1000):
            read += 1
            yield text

    found = predictor.stream(source())
    for given in range(1, 200):
        next(found)
        assert read - given <= 3 * 32  # a window of 4 batches of 8, and what waits of the one before


def test_a_stream_that_is_left_leaves_nothing_behind(predictor: RoutedPredictor) -> None:
    left = predictor.stream(texts(100, seed=5))
    next(left)
    given = texts(50)
    check(list(predictor.stream(given)), predictor.predict(given))


def test_a_slow_source_gets_its_answers_before_it_ends(predictor: RoutedPredictor) -> None:
    gate = threading.Event()
    given = texts(3)

    def source() -> Iterator[str]:
        yield from given[:2]
        gate.wait(60)
        yield given[2]

    found = predictor.stream(source(), max_wait=0.05)
    first = [next(found), next(found)]
    gate.set()
    check([*first, *found], predictor.predict(given))


@pytest.mark.slow
def test_ten_thousand_texts_of_mixed_length_agree_in_all_three_ways(folder: Path) -> None:
    predictor = RoutedPredictor.from_pretrained(folder)
    given = texts(10_000, seed=7)
    batched = predictor.predict(given)
    assert {p.rung for p in batched} == {0, 1, 2}
    check(list(predictor.stream(given)), batched)
    check([predictor.predict([text])[0] for text in given], batched)


@pytest.mark.slow
def test_a_hundred_thousand_texts_hold_memory_flat(folder: Path) -> None:
    """Resident memory after each 10,000 texts; the first 20,000 let the allocator and the tokenizer's cache settle."""
    predictor = RoutedPredictor.from_pretrained(folder)
    given = (text for seed in range(100) for text in texts(1000, seed))
    resident = []
    for number, _ in enumerate(predictor.stream(given), 1):
        if number % 10_000 == 0:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    print("MiB after each 10,000 texts:", [round(value) for value in resident])
    assert len(resident) == 10
    assert max(resident) - resident[1] < 30


def test_a_model_without_a_router_runs_all_at_the_top_whatever_its_recipe_says() -> None:
    tokenizer = word_tokenizer()
    slimmable = SharcsForSequenceClassification.from_encoder(
        tiny_bert(num_hidden_layers=2, vocab_size=len(tokenizer)), widths=[0.25, 1], split_layer=1, router_hidden_size=0
    )
    slimmable.config.router_threshold = 0.7
    assert {answer.rung for answer in RoutedPredictor(slimmable, tokenizer).predict(["good film", "bad"])} == {1}


def test_another_rule_answers_with_the_same_weights(predictor: RoutedPredictor) -> None:
    given = texts(20)
    before = predictor.predict(given)
    narrow = predictor.with_rule(DecisionRule(starts=(-NEVER, -NEVER)))
    assert {p.rung for p in narrow.predict(given)} == {0}
    assert narrow.engine.backend is predictor.engine.backend
    assert (narrow.rule, narrow.served.engine) == (narrow.engine.rule, narrow.engine)
    check(predictor.predict(given), before)
