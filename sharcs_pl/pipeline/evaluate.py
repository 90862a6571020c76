"""The light checks of an evaluation, then the import that does the work. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.evaluation_inputs import check_audited, check_comparable, check_results, prepare


def run(config: EvaluateConfig) -> dict[str, Any] | None:
    """Evaluate, print and write; return the contents of ``metrics.json``, or None where the labels are hidden."""
    sources = [(path, open_trained(path)) for path in (config.run, config.compare) if path is not None]
    plain = replace(config, backend=None, precision=None)  # what is compared with answers as it lies
    one, *others = (prepare(path, source, each) for (path, source), each in zip(sources, (config, plain), strict=False))
    other = others[0] if others else None
    if other is not None:
        check_comparable(one, other)
    if config.cost.audit:
        check_audited(one.config, one.source)
    check_results(one, config)
    for each in (one, *others):
        each.serving.warn_of_point(each.source)
    silence_libraries()
    from sharcs_pl.pipeline.validate import audit_costs, compare_with, evaluate_model, present

    done = evaluate_model(one)
    metrics = present(one, done, config)
    if other is not None:
        compare_with(one, done, other, config)
    if config.cost.audit:
        audit_costs(done)
    return metrics
