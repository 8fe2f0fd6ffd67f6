"""Is an export what a server needs? What `c2al verify-export` looks at, and how it says what it found."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from c2al_serving.servable.inference import INPUTS, read_examples
from c2al_serving.servable.loading import load_servable, read_warmup_logs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from c2al_tf.export.facts import ExportError, check_facts, inspect_export
from c2al_tf.protocol.tensors import from_proto
from c2al_tf.saved_model import DEFAULT_SIGNATURE
from c2al_tf.saved_model.conformance import Check, check_calls
from c2al_tf.types import Array


def verify_export(directory: Path, against: Path | None = None) -> list[Check]:
    """Loads a version folder as a server does, warms it up, calls every signature, and counts what is in it.

    Args:
        directory: A version folder.
        against: Another one, such as the baseline's, from which it may differ in the values of its weights alone.
    """
    loads = "loads on the C++ loader with XLA off, and answers its warm-up requests"
    try:
        with load_servable("verified", 1, directory) as servable:
            rows, bound = _warmup_rows(directory), inspect_export(directory).max_error
            checks = [Check(loads, True, str(directory)), *check_calls(servable.model, rows, bound)]
    except ValueError as error:
        return [Check(loads, False, str(error))]
    return [*checks, *_check_contents(directory, against)]


def print_checks(checks: list[Check], console: Console) -> None:
    """Prints what was looked at."""
    table = Table("", "check", "found", title="Verdict: " + ("good" if all(c.passed for c in checks) else "not good"))
    for check in checks:
        mark = "✓" if check.passed else "✗"
        table.add_row(mark, escape(check.what), escape(check.found), style=None if check.passed else "red")
    console.print(table)


def _warmup_rows(directory: Path) -> dict[str, dict[str, Array]]:
    """By signature the inputs of the largest warm-up request."""
    rows: dict[str, dict[str, Array]] = {}
    for log in read_warmup_logs(directory):
        kind = log.WhichOneof("log_type")
        if kind == "multi_inference_log":  # of several signatures
            continue
        request = getattr(log, kind).request
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if kind == "predict_log":
            inputs = {key: from_proto(proto) for key, proto in request.inputs.items()}
        else:
            inputs = {INPUTS: read_examples(request.input)}
        if name not in rows or _num_rows(inputs) > _num_rows(rows[name]):
            rows[name] = inputs
    return rows


def _num_rows(inputs: dict[str, Array]) -> int:
    return min(np.shape(values)[0] for values in inputs.values())


def _check_contents(directory: Path, against: Path | None) -> Iterator[Check]:
    facts = inspect_export(directory)
    yield Check("no node forces XLA, which the server has off", not facts.must_compile, f"{facts.must_compile} do")
    size = f"{facts.nodes:,} nodes, {len(facts.variables)} variables of {facts.variable_bytes / 1e6:,.1f} MB"
    if against is None:
        yield Check("what it holds", True, f"{size}, {facts.total_bytes / 1e6:,.1f} MB in all")
        return
    try:
        check_facts(facts, inspect_export(against))
        yield Check(f"holds what {against} holds, but for the values of its weights", True, size)
    except (ExportError, OSError) as error:
        yield Check(f"holds what {against} holds, but for the values of its weights", False, str(error))
