"""The `graded` task, short reviews from a small grammar with a planted, known difficulty.

The label is the sentiment of the text. There are four levels of difficulty:

0. one clause: its cue word decides (`the soup was tasty`);
1. one clause with a negator, which turns its cue around (`the soup was never tasty`);
2. two clauses that disagree; after `but` and `yet` the second decides, before `though` and `although` the first (`the
   soup was tasty but the room was dirty`, `the room was dirty though the soup was tasty`);
3. two clauses that disagree with one or both negated, where each negator applies to its own clause only.

Neutral words pad every text to a length drawn independently of level and label. Counting cue words solves level 0, is
wrong on level 1, and is right for half of levels 2 and 3.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sharcs_pl.data.tasks import GRADED, Examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["GRADED", "LENGTHS", "SHARES", "SIZES", "graded_examples", "word_tokenizer"]


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


SIZES = {"train": 8000, "validation": 2000}
SHARES = (0.55, 0.15, 0.15, 0.15)  # of the levels
LENGTHS = (11, 20)  # words, both ends included; the longest skeleton (level 3, both clauses negated) has 11

PLAIN = ("was", "seemed", "looked", "felt")
NEGATED = ("was not", "was never", "was hardly", "never seemed", "hardly seemed", "never felt", "hardly felt")
CONTRASTS = {"but": 1, "yet": 1, "though": 0, "although": 0}  # which of the two clauses decides
SUBJECTS = _list(
    """soup bread coffee dessert breakfast salad kitchen menu waiter service room bed lobby pool view garden
    film plot cast music ending script hero scene novel chapter story poem lesson teacher guide tour museum hotel train
    bus seat ticket phone screen camera keyboard battery jacket speech painting song dance puppet market"""
)
# Negative (0) and positive (1) words, without overlap.
CUES = (
    _list(
        """bad awful dreadful stale boring clumsy rude dirty terrible horrible dull poor ugly noisy bland broken shabby
        tedious annoying disappointing gloomy useless cold mediocre"""
    ),
    _list(
        """good great lovely tasty superb clever charming pleasant brilliant delightful wonderful excellent fine funny
        warm fresh comfortable splendid marvellous impressive graceful friendly bright perfect"""
    ),
)
# Neutral phrases by number of words. Asides stand at the edge of any clause, tails only at the end of a text.
ASIDES = {
    1: ("today", "yesterday", "there", "again", "apparently", "later", "here", "earlier", "meanwhile", "outside"),
    2: ("last week", "this morning", "on monday", "in spring", "by noon", "at home", "on sunday", "in town"),
    3: (
        *("near the river", "at the corner", "with my sister", "after the meeting", "before the storm"),
        *("for two hours", "during our visit", "as we arrived", "in the evening", "behind the station"),
    ),
}
TAILS = {
    4: ("and we walked home", "as my brother waited", "and then we left"),
    5: ("while my brother waited outside", "and we took a taxi", "and my sister paid later"),
    6: ("and then we walked to town", "so we told my brother today", "while my sister read a map"),
}


def graded_examples(
    split: str, *, size: int | None = None, seed: int = 0, shares: Sequence[float] = SHARES
) -> Examples:
    """Return texts with labels and their planted difficulty (0..3), drawn with `seed`.

    The `shares` of the levels are exact up to rounding, and the labels are balanced within a level. No text occurs
    twice or in two splits, whatever their seeds, because its checksum assigns it to a split. Raise `ValueError` for an
    unknown split or invalid shares.
    """
    if split not in SIZES:
        raise ValueError(f"the graded task has no split {split!r}; there are {', '.join(SIZES)}")
    if len(shares) != 4 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"the shares of the four levels must add up to 1, not {list(shares)}")
    rng = random.Random(f"graded {split} {seed}")
    cells = _cells(SIZES[split] if size is None else size, shares, rng)
    seen: set[str] = set()
    texts = [(_new_text(level, label, split, seen, rng),) for level, label in cells]
    levels, labels = (np.array([cell[i] for cell in cells]) for i in (0, 1))
    return Examples(texts, labels.astype(np.int64), levels.astype(np.int8))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the grammar's words, one token each, with BERT's special tokens and segments."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *_words()])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, model_max_length=512, **names)


def _words() -> list[str]:
    asides = [phrase for choices in (*ASIDES.values(), *TAILS.values()) for phrase in choices]
    phrases = [*PLAIN, *NEGATED, *CONTRASTS, *SUBJECTS, *CUES[0], *CUES[1], *asides, "the"]
    return sorted(set(" ".join(phrases).split()))


def _cells(size: int, shares: Sequence[float], rng: random.Random) -> list[tuple[int, int]]:
    """Return the (level, label) of each sample, shuffled."""
    ends = [round(size * sum(shares[: level + 1])) for level in range(4)]
    counts = np.diff([0, *ends])
    cells = [(level, (i + level) % 2) for level, count in enumerate(counts) for i in range(count)]
    rng.shuffle(cells)
    return cells


def _new_text(level: int, label: int, split: str, seen: set[str], rng: random.Random) -> str:
    length = rng.randint(*LENGTHS)  # drawn once, so that refused texts do not bias the length
    while True:
        text = _text(level, label, length, rng)
        if ("train", "validation")[zlib.crc32(text.encode()) & 1] == split and text not in seen:
            seen.add(text)
            return text


def _text(level: int, label: int, length: int, rng: random.Random) -> str:
    contrast = rng.choice(list(CONTRASTS))
    clauses = _clauses(level, label, CONTRASTS[contrast], rng)
    spare = length - sum(map(len, clauses)) - (len(clauses) - 1)
    tail = rng.choice([size for size in (0, *TAILS) if size <= spare])
    slots: list[list[str]] = [[] for _ in range(len(clauses) + 1)]  # before the first clause, and after each
    for aside in _asides(spare - tail, rng):
        slots[rng.randrange(len(slots))].append(aside)
    if tail:
        slots[-1].append(rng.choice(TAILS[tail]))
    words = [*slots[0]]
    for i, clause in enumerate(clauses):
        words += [contrast] * (i > 0) + [*clause, *slots[i + 1]]
    return " ".join(words)


def _clauses(level: int, label: int, decides: int, rng: random.Random) -> list[list[str]]:
    """Return a clause that means `label`, and for a contrast also a clause that means the opposite."""
    if level < 2:
        return [_clause(label, level == 1, rng)]
    negated = (False, False) if level == 2 else rng.choice([(True, False), (False, True), (True, True)])
    return [_clause(label if i == decides else 1 - label, negated[i], rng) for i in (0, 1)]


def _clause(meaning: int, negated: bool, rng: random.Random) -> list[str]:
    verb = rng.choice(NEGATED if negated else PLAIN)
    return ["the", rng.choice(SUBJECTS), *verb.split(), rng.choice(CUES[meaning ^ negated])]


def _asides(spare: int, rng: random.Random) -> list[str]:
    """Return asides of `spare` words in total, without repeats as long as possible."""
    asides: list[str] = []
    while spare:
        size = rng.choice([size for size in ASIDES if size <= spare])
        asides.append(rng.choice([aside for aside in ASIDES[size] if aside not in asides] or ASIDES[size]))
        spare -= size
    return asides
