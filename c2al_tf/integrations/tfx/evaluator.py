"""What TFX's Evaluator (tensorflow-model-analysis) needs to compare two models on cohorts and to refuse the worse."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...cohorts import Cohort, Values
from ...export.signatures import EXAMPLES

_MODEL = """\
model_specs {{
  name: "{name}"
  signature_name: "{signature}"
  label_key: {label}
  prediction_key: "probabilities"{more}
}}
"""
_METRICS = """\
metrics_specs {{
  metrics {{ class_name: "ExampleCount" }}
  metrics {{ class_name: "AUC" }}
  metrics {{ class_name: "Calibration" }}
  metrics {{
    class_name: "BinaryCrossentropy"
{thresholds}
  }}
}}
"""
_THRESHOLD = """\
    per_slice_thresholds {{
      slicing_specs {{ {slice} }}
      threshold {{ change_threshold {{ direction: LOWER_IS_BETTER relative {{ value: {max_increase} }} }} }}
    }}"""


def tfma_config(cohorts: Sequence[Cohort], label_key: str, *, max_increase: float) -> str:
    """The EvalConfig, in text form, of an Evaluator that refuses a model that is worse on all rows or on a cohort.

    On each it gives the number of rows, log loss, AUC and calibration; the threshold is on the log loss, whose relative
    change is NE_diff. Read it with `text_format.Parse(text, tfma.EvalConfig())`. The model is one of
    `export_for_serving` with `from_logits` given, on the Evaluator's raw tf.Examples.

    A cohort of one string or integer on each of its columns is a slice by the values of raw columns. Any other one, as
    an interval, is the slice in which the column of the cohort's name is 1: `add_cohort_slices` makes it. (SQL slices
    of tensorflow-model-analysis need a build of tfx-bsl that is not on PyPI.)

    Args:
        cohorts: The slices, beside all rows, on raw columns.
        label_key: The feature of the raw tf.Examples that is the label.
        max_increase: Largest relative change of the log loss against the baseline: 0.001 is 0.1 %.

    Raises:
        ValueError: If `max_increase` is negative or not finite.
    """
    if not 0 <= max_increase < np.inf:
        raise ValueError(f"`max_increase` must be finite and at least 0. Received: max_increase={max_increase}")
    slices = ["", *map(_slice, cohorts)]
    models = [("candidate", ""), ("baseline", "\n  is_baseline: true")]
    parts = [
        *(_MODEL.format(name=n, signature=EXAMPLES, label=json.dumps(label_key), more=more) for n, more in models),
        *(f"slicing_specs {{ {each} }}\n" for each in slices),
        _METRICS.format(
            thresholds="\n".join(_THRESHOLD.format(slice=each, max_increase=float(max_increase)) for each in slices)
        ),
    ]
    return "".join(parts)


def add_cohort_slices(extracts: Mapping[str, Any], cohorts: Sequence[Cohort]) -> dict[str, Any]:
    """Adds membership, 1 or 0, under each cohort's name to the features of one row of tensorflow-model-analysis.

    Args:
        extracts: The row's extracts after `UnbatchExtractor`: each of its `features` is an array of the row's values.
        cohorts: On raw columns of the row.
    """
    features = extracts["features"]
    added = {cohort.name: np.array([int(_contains(cohort, features))]) for cohort in cohorts}
    return {**extracts, "features": {**features, **added}}


def _contains(cohort: Cohort, features: Mapping[str, Any]) -> bool:
    columns = {}
    for name in cohort.columns:
        columns[name] = np.ravel(features[name] if features.get(name) is not None else [])
        if not len(columns[name]):  # no value is in no cohort
            return False
    return bool(np.all(cohort.contains(columns)))


def _slice(cohort: Cohort) -> str:
    """The content of the SlicingSpec of a cohort."""
    values = {
        c.column: c.values for c in cohort.conditions if isinstance(c, Values) and type(c.values[0]) in (str, int)
    }
    plain = len(values) == len(cohort.conditions) and all(len(each) == 1 for each in values.values())
    chosen = {column: each[0] for column, each in values.items()} if plain else {cohort.name: 1}
    return " ".join(f"feature_values {{ key: {_text(k)} value: {_text(v)} }}" for k, v in chosen.items())


def _text(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)
