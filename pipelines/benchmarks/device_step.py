"""TensorFlow's own compiled training step, timed on a machine with an accelerator and JAX, where TensorFlow is not.

`export` writes the step as XLA's HLO, before any device's optimizations; `time` compiles and runs it, updates of
variables included, with JAX's runtime alone. Try it on a CPU first:

    python -m c2al_pipelines.benchmarks.device_step export runs/step
    python pipelines/benchmarks/device_step.py time runs/step
"""

import argparse
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

# Those of `dhen_peak`, which cannot be imported where TensorFlow is not.
NUM_FIELDS, NUM_ROWS = 26, 100_000
CASES = {
    f"batch {batch:,}, {note}": (batch, heads, half)
    for batch in (4096, 65_536)
    for note, heads, half in (
        ("no cohort head", 0, False),
        ("two cohort heads", 2, False),
        ("ten cohort heads", 10, False),
        ("two cohort heads, bfloat16", 2, True),
    )
}
"""Batch, cohort heads, and whether the step computes in bfloat16, of each step that is exported."""

_STEPS, _ROUNDS = 20, 7


def export(folder: Path) -> None:
    """Writes each case's step, and the shape and kind of every argument: two DHEN blocks, 26 fields x 16, k = 8."""
    import tensorflow as tf

    from c2al_tf.config import ModelConfig

    from .dhen_peak import prepare_step

    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for name, (batch, heads, half) in CASES.items():
        step, rows = prepare_step(ModelConfig(mixed_precision=half), batch, heads)
        file = name.replace(",", "").replace(" ", "_") + ".hlo"
        (folder / file).write_bytes(step.experimental_get_compiler_ir(*rows)(stage="hlo_serialized"))
        graph = step.get_concrete_function(*rows).graph
        by_handle = {id(variable.handle): variable for variable in graph.variables}
        variables = [by_handle[id(handle)] for handle in graph.external_captures]
        arguments = [("row", tensor) for tensor in tf.nest.flatten(rows)] + [("variable", v) for v in variables]
        described = [(kind, tensor.dtype.name, list(tensor.shape)) for kind, tensor in arguments]
        cases[name] = {"file": file, "batch": batch, "arguments": described}
    (folder / "cases.json").write_text(json.dumps(cases))


def time_on_device(folder: Path) -> None:
    """Prints milliseconds of a step and rows per second of each case, measured in turns."""
    import jax

    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    print(f"{device.device_kind}, JAX {jax.__version__}")
    cases = json.loads((folder / "cases.json").read_text())
    steps = {name: _Step(folder / case["file"], case["arguments"], device) for name, case in cases.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            step.run(1)
            milliseconds[name].append(step.run(_STEPS) / _STEPS * 1e3)
    for name, case in cases.items():
        median = statistics.median(milliseconds[name])
        print(f"{name}: {median:.3f} ms a step, {case['batch'] / median * 1e3:,.0f} rows/s")


class _Step:
    """A compiled step with its arguments on the device; what it updates replaces them."""

    def __init__(self, file: Path, arguments: list[Any], device: Any) -> None:
        import jax
        from jaxlib import xla_client

        computation = xla_client.XlaComputation(file.read_bytes())
        header = computation.get_hlo_module().to_string().split("entry_computation_layout")[0]
        self._updated = [(int(o), int(i)) for o, i in re.findall(r"\{\s*(\d+)\s*\}: \((\d+),", header)]
        module = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
        # JAX's compiler knows no copy; a reshape to the same shape is one.
        module = re.sub(r"mhlo\.copy (%\S+) : (tensor<[^>]*>)", r"stablehlo.reshape \1 : (\2) -> \2", module)
        devices = xla_client._xla.DeviceList((device,))
        self._program = device.client.compile_and_load(module, devices, xla_client.CompileOptions())
        rng = np.random.default_rng(0)
        self._arguments = [jax.device_put(_draw(rng, *argument), device) for argument in arguments]

    def run(self, count: int) -> float:
        """Seconds of so many steps."""
        start = time.perf_counter()
        for _ in range(count):
            results = self._program.execute(self._arguments)
            for result, argument in self._updated:
                self._arguments[argument] = results[result]
        results[0].block_until_ready()
        return time.perf_counter() - start


def _draw(rng: np.random.Generator, kind: str, dtype: str, shape: list[int]) -> np.ndarray:
    """Ids in range, labels, weights of rows; small positive values for variables, which second moments must have."""
    if kind == "row" and dtype == "int32":
        return rng.integers(1, NUM_ROWS // NUM_FIELDS - 2, shape).astype(dtype)
    if kind == "row":
        return (rng.random(shape) < 0.1).astype(dtype) if len(shape) == 2 else np.ones(shape, dtype)
    return (np.full(shape, 3) if "int" in dtype else rng.random(shape) * 0.05 + 1e-3).astype(dtype)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("export", "time"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    (export if chosen.action == "export" else time_on_device)(chosen.folder)
