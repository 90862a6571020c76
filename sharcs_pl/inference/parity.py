"""The comparison of an exported file with the model that it is made of, at every rung and at mixtures of them.

Dimensions: `B` batch, `W` rungs, `C` labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sharcs_pl.core.cascade import certainty_of
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.inference.graph import input_names
from sharcs_pl.models.base import LadderModel
from sharcs_pl.models.decision import decide
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.outputs import EveryRung
from sharcs_pl.models.routed import SharcsForSequenceClassification

TOLERANCE = 1e-4  # of a logit; a file that is further from the model is not handed out
BATCHES = ((1, 5), (2, 12), (7, 33), (16, 64))  # samples and tokens that the check runs

Inputs = dict[str, Tensor]
Answer = Callable[[Inputs], tuple[Tensor, ...]]


def point_of(rule: DecisionRule, top: int) -> Inputs:
    """Return a rule as the graph's inputs: `thresholds` and `stops` [W-1], `average` [1]."""
    starts = rule.starts if rule.routed else (-NEVER,) * top  # a cascade begins at the narrowest rung
    return {
        "thresholds": torch.full((top,), math.nan) if starts is None else torch.tensor(starts),
        "stops": torch.full((top,), math.nan) if rule.stops is None else torch.tensor(rule.stops),
        "average": torch.tensor([float(rule.average)]),
    }


def given_point(model: SharcsForSequenceClassification, rule: DecisionRule, rung: int | None = None) -> Inputs:
    """Return those inputs of a rule that the graph of a model, or of one rung, has."""
    names = input_names(model, rung)
    return {name: x for name, x in point_of(rule, model.ladder.top).items() if name in names}


def random_inputs(model: LadderModel, size: int, tokens: int, generator: torch.Generator) -> Inputs:
    """Return random token ids of texts of 1 to `tokens` tokens, at least one of them that long, padded on the right."""
    encoder = model.config.encoder
    pad = encoder.get("pad_token_id") or 0
    lengths = torch.randint(1, tokens + 1, (size, 1), generator=generator)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths).long()
    ids = torch.randint(0, encoder["vocab_size"], (size, tokens), generator=generator)
    ids = torch.where(ids == pad, (pad + 1) % encoder["vocab_size"], ids)
    inputs = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    if "token_type_ids" in input_names(model, 0):
        inputs["token_type_ids"] = torch.randint(0, 2, (size, tokens), generator=generator) * mask
    return inputs


def sampled_inputs(model: LadderModel) -> Iterator[Inputs]:
    """Yield the batches on which a written file is compared with its model."""
    generator = torch.Generator().manual_seed(1)
    longest = encoder_sizes(model.config.encoder).max_tokens
    for size, tokens in BATCHES:
        yield random_inputs(model, size, min(tokens, longest), generator)


@torch.no_grad()
def largest_difference(model: SharcsForSequenceClassification, answer: Answer, rung: int | None = None) -> float:
    """Return the largest difference of a logit to the model's own, over batches at every rung and at mixtures of them.
    It is infinite where the rungs do not follow from the operating point, NaN where a logit is none."""
    found = []
    for inputs in sampled_inputs(model):
        if rung is None and model.ladder.top:
            every = model.all_rungs(**inputs)
            tried = rules_to_try(model, every)
            found += [_difference(rule, every, answer(inputs | given_point(model, rule))) for rule in tried]
        else:
            found.append(_gap(answer(inputs)[0], model(**inputs, rungs=rung or 0).logits))
    return float(torch.tensor(found).max())  # NaN wins, which Python's max would drop


def rules_to_try(model: SharcsForSequenceClassification, every: EveryRung) -> list[DecisionRule]:
    """Return rules that send a batch all to one rung, for each; by likelihood; evenly to all rungs; and, for classes,
    cascades in which none, some and all go on, from the narrowest rung and from the router's."""
    top, size = model.ladder.top, len(every.logits)
    routed = [DecisionRule(starts=(NEVER,) * rung + (-NEVER,) * (top - rung)) for rung in range(top + 1)]
    routed = [*routed, DecisionRule()] if model.router is not None else [DecisionRule()]
    starts: list[tuple[float, ...]] = []
    if size > 1 and model.router is not None and every.signals is not None:
        starts = [_between(every.signals.cummax(-1).values[:, :-1])]
    routed += [DecisionRule(starts=each) for each in starts]
    if not model.kind.has_classes:
        return routed
    sure = certainty_of(model.kind, "probability", every.logits)[:, :-1]
    ways = [(0.0,) * top, (1.0,) * top, *([_between(sure)] if size > 1 else [])]
    cascades = [DecisionRule("cascade", None, stops, average=average) for stops in ways for average in (False, True)]
    cascades += [DecisionRule("router+cascade", each, ways[-1]) for each in starts]
    return [*routed, *(replace(rule, multi_label=model.kind.multi_label) for rule in cascades)]


def _between(scores: Tensor) -> tuple[float, ...]:
    """Return a threshold for each column of `scores` [B, W-1] that part of a batch reaches, between two samples, so
    that rounding sends none to the other side."""
    size, narrow = scores.shape
    ordered = scores.sort(0).values
    cuts = [min(max(round(size * (1 - (rung + 1) / (narrow + 1))), 1), size - 1) for rung in range(narrow)]
    return tuple(ordered[cut - 1 : cut + 1, rung].mean().item() for rung, cut in enumerate(cuts))


def _difference(rule: DecisionRule, every: EveryRung, answer: tuple[Tensor, ...]) -> float:
    """Return the largest difference of the graph's answer to the model's; infinite where another rung answers."""
    logits, rungs, *scores = answer
    decision = decide(rule, every.logits, scores[0] if scores else None)
    if not torch.equal(rungs, decision.rungs):
        return math.inf
    gaps = [_gap(logits, decision.logits), *(_gap(x, every.signals) for x in scores if every.signals is not None)]
    return float(torch.tensor(gaps).max())


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def checked(model: SharcsForSequenceClassification, answer: Answer, rung: int | None) -> float:
    """Return the largest difference of a logit. Raise `ValueError` where it is above `TOLERANCE`."""
    difference = largest_difference(model, answer, rung)
    if math.isnan(difference):
        raise ValueError("a logit of the model, or of the exported graph, is not finite; nothing is written")
    if not difference <= TOLERANCE:
        raise ValueError(f"the exported graph answers otherwise than the model: {difference:.1e} from its logits")
    return difference
