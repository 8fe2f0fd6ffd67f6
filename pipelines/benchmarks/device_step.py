"""TensorFlow's own compiled training step, timed on a machine with an accelerator and JAX, where TensorFlow is not.

`export` writes the step as XLA's HLO, before any device's optimizations; `time` compiles and runs it, updates of
variables included, with JAX's runtime alone. Then it runs all gathers of the step as a program of their own, all
scatters, and all matrix products, at their shapes, on random values. These shares of the step's time need not add up:
in the step an operation is fused with those around it, and what is no such operation has no share.

Last, the step is compared with two bounds that are measured on the device: its matrix products at the rate of one large
product, and the bytes that the compiled program reads and writes, as XLA counts them, at the bandwidth of a large array
that is negated in place. A cache may serve some of these bytes: a small step can be faster than this bound.

Try it on a CPU first:

    python -m c2al_pipelines.benchmarks.device_step export runs/step --batches 256
    python pipelines/benchmarks/device_step.py time runs/step --steps 5 --rounds 3
"""

import argparse
import functools
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Those of `dhen_peak`, which cannot be imported where TensorFlow is not.
NUM_FIELDS, NUM_ROWS = 26, 100_000
CASES = {
    "no cohort head": (0, False),
    "two cohort heads": (2, False),
    "ten cohort heads": (10, False),
    "two cohort heads, bfloat16": (2, True),
}
"""Cohort heads, and whether the step computes in bfloat16, of each step that is exported."""
BATCHES = (4096, 65_536)

SHARES = {"gather": ("gather",), "scatter": ("scatter",), "matrix products": ("dot", "dot_general")}
"""The operations of each share."""

_IN_A_ROW = 8
"""Runs that one measurement of the device's bounds starts before it waits: the launch of one would count."""

_TYPE = r"tensor<[^>]*>"
_START = re.compile(r'= "?stablehlo\.(gather|scatter|dot_general|dot)\b')
# In the region of a scatter, which comes before its types, operations have one operand type at most.
_TYPES = re.compile(rf" : \(({_TYPE}(?:, {_TYPE})+)\) -> ({_TYPE})")
_LOCATION = re.compile(r" loc\((?:[^()]|\([^()]*\))*\)")


def export(folder: Path, batches: Sequence[int] = BATCHES) -> None:
    """Writes each case's step, and the shape and kind of every argument: two DHEN blocks, 26 fields x 16, k = 8."""
    import tensorflow as tf

    from c2al_tf.config import ModelConfig

    from .dhen_peak import prepare_step

    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for batch, (note, (heads, half)) in ((batch, case) for batch in batches for case in CASES.items()):
        name = f"batch {batch:,}, {note}"
        step, rows = prepare_step(ModelConfig(mixed_precision=half), batch, heads)
        file = name.replace(",", "").replace(" ", "_") + ".hlo"
        (folder / file).write_bytes(step.experimental_get_compiler_ir(*rows)(stage="hlo_serialized"))
        graph = step.get_concrete_function(*rows).graph
        by_handle = {id(variable.handle): variable for variable in graph.variables}
        variables = [by_handle[id(handle)] for handle in graph.external_captures]
        arguments = [("row", tensor) for tensor in tf.nest.flatten(rows)] + [("variable", v) for v in variables]
        described = [(kind, tensor.dtype.name, list(tensor.shape)) for kind, tensor in arguments]
        cases[name] = {"file": file, "batch": batch, "dtype": "bfloat16" if half else "float32", "arguments": described}
    (folder / "cases.json").write_text(json.dumps(cases))


def time_on_device(folder: Path, steps: int = 20, rounds: int = 7) -> None:
    """Prints of each case milliseconds of a step and rows per second, measured in turns; then shares and bounds."""
    import jax

    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    print(f"{device.device_kind}, JAX {jax.__version__}")
    cases = json.loads((folder / "cases.json").read_text())
    modules = {name: _read_step(folder / case["file"]) for name, case in cases.items()}
    programs = {name: Program(*modules[name], _draw_all(case["arguments"])) for name, case in cases.items()}
    medians = _in_turns({name: program.run for name, program in programs.items()}, steps, rounds)
    for name, case in cases.items():
        print(f"{name}: {medians[name]:.3f} ms a step, {case['batch'] / medians[name] * 1e3:,.0f} rows/s")
    bandwidth = copy_bandwidth(device.platform)
    peaks = {dtype: matmul_peak(device.platform, dtype) for dtype in sorted({case["dtype"] for case in cases.values()})}
    named = ", ".join(f"{peak / 1e12:.3g} TFLOP/s in {dtype}" for dtype, peak in peaks.items())
    print(f"memory {bandwidth / 1e9:,.3g} GB/s, a large matrix product {named}")
    for name, case in cases.items():
        found = operations(modules[name][0])
        print(f"{name}, alone: {_shares(found, medians[name], steps, rounds)}")
        moved = programs[name].moved_bytes(found)
        print(f"{name}, bounds: {_bounds(found, moved, bandwidth, peaks[case['dtype']], medians[name])}")


class Operation(NamedTuple):
    """An operation of a module: its name, its text up to its result, and the types of its operands and result."""

    name: str
    text: str
    operands: list[str]
    result: str

    def flops(self) -> int:
        """Of a matrix product: 2 for each factor that a number of the result is a sum of."""
        contracted = re.search(r"contracting_dims = \[([\d, ]+)\]", self.text)
        left = _shape(self.operands[0])
        axes = [int(axis) for axis in contracted[1].split(",")] if contracted else [len(left) - 1]
        return 2 * math.prod(_shape(self.result)) * math.prod(left[axis] for axis in axes)

    def num_bytes(self) -> int:
        """Of its operands and its result."""
        return sum(math.prod(_shape(kind)) * _itemsize(kind) for kind in (*self.operands, self.result))


def operations(module: str) -> list[Operation]:
    """The gathers, scatters and matrix products of a module, in their order."""
    found = []
    for start in _START.finditer(module):
        types = _TYPES.search(module, start.end())
        if types is None:
            raise ValueError(f"An operation must have types. Received: {module[start.start() : start.end() + 200]}")
        text = _LOCATION.sub("", module[start.start() + 2 : types.end()])
        found.append(Operation(start[1], text, re.findall(_TYPE, types[1]), types[2]))
    return found


def program_of(found: Sequence[Operation]) -> tuple[str, list[tuple[int, int]]]:
    """A module with these operations alone, each on arguments of its own; a scatter updates its first in place.

    Returns:
        Its text; of every result that takes an argument's place, the number of both.
    """
    lines: list[str] = []
    parameters: list[str] = []
    updated = []
    for number, operation in enumerate(found):
        names = [f"%in{len(parameters) + place}" for place in range(len(operation.operands))]
        arguments = [f"{name}: {kind}" for name, kind in zip(names, operation.operands, strict=True)]
        if operation.name == "scatter":
            updated.append((number, len(parameters)))
            arguments[0] += f" {{tf.aliasing_output = {number} : i32}}"
        parameters += arguments
        # The operands come first in an operation's text.
        first, *others = re.split(r"%[\w.#]+", operation.text, maxsplit=len(names))
        lines.append(f"%out{number} = {first}" + "".join(map("".join, zip(names, others, strict=True))))
    results = ", ".join(operation.result for operation in found)
    lines.append(f"return {', '.join(f'%out{number}' for number in range(len(found)))} : {results}")
    body = "\n".join(lines)
    return f"module {{ func.func public @main({', '.join(parameters)}) -> ({results}) {{\n{body}\n}} }}", updated


class Program:
    """A compiled program with its arguments on the device; results that update arguments replace them.

    Args:
        module: Its text.
        updated: Of every result that replaces an argument, the number of both.
        arguments: Its arguments.
    """

    def __init__(self, module: str, updated: Sequence[tuple[int, int]], arguments: Sequence[Any]) -> None:
        import jax
        from jaxlib import xla_client

        device = jax.devices()[0]
        devices = xla_client._xla.DeviceList((device,))
        self._program = device.client.compile_and_load(module, devices, xla_client.CompileOptions())
        self._updated = list(updated)
        self._arguments = [jax.device_put(argument, device) for argument in arguments]

    def run(self, count: int) -> float:
        """Seconds of so many runs."""
        start = time.perf_counter()
        for _ in range(count):
            results = self._program.execute(self._arguments)
            for result, argument in self._updated:
                self._arguments[argument] = results[result]
        results[0].block_until_ready()
        return time.perf_counter() - start

    def moved_bytes(self, found: Sequence[Operation]) -> float:
        """Bytes read and written. XLA counts none for a library's products, which are taken for the largest ones."""
        products = sorted((each.num_bytes() for each in found if each.name in SHARES["matrix products"]), reverse=True)
        text = self._program.hlo_modules()[0].to_string()
        of_library = len(re.findall(r'custom_call_target="__(?:cublas|onednn)', text))
        return self._program.cost_analysis()["bytes accessed"] + sum(products[:of_library])


def copy_bandwidth(platform: str) -> float:
    """Bytes read and written per second by the negation of a large array in place."""
    import jax
    import jax.numpy as jnp

    size = 2**25 if platform == "cpu" else 2**28
    negate = jax.jit(jnp.negative, donate_argnums=0)
    values = negate(jnp.ones(size, "float32")).block_until_ready()
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(_IN_A_ROW):
            values = negate(values)
        values.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * values.nbytes * _IN_A_ROW / min(seconds)


def matmul_peak(platform: str, dtype: str) -> float:
    """FLOP per second of a large matrix product, at JAX's default precision, as that of the step's products."""
    import jax
    import jax.numpy as jnp

    size = 2048 if platform == "cpu" else 8192
    values = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(values, values).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(_IN_A_ROW):
            result = product(values, values)
        result.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 * _IN_A_ROW / min(seconds)


def _shares(found: Sequence[Operation], step: float, steps: int, rounds: int) -> str:
    """Milliseconds of the operations of each share, alone, and their part of the step's."""
    programs: dict[str, Callable[[int], float]] = {}
    for share, names in SHARES.items():
        chosen = [operation for operation in found if operation.name in names]
        if chosen:
            programs[share] = Program(*program_of(chosen), _draw_operands(chosen)).run
    medians = _in_turns(programs, steps, rounds)
    return ", ".join(f"{share} {ms:.3f} ms ({ms / step:.0%})" for share, ms in medians.items())


def _bounds(found: Sequence[Operation], moved: float, bandwidth: float, peak: float, step: float) -> str:
    flops = sum(operation.flops() for operation in found if operation.name in SHARES["matrix products"])
    arithmetic, memory = flops / peak * 1e3, moved / bandwidth * 1e3
    return (
        f"{flops / 1e9:.3g} GFLOP of products {arithmetic:.3f} ms, {moved / 1e6:,.0f} MB {memory:.3f} ms; "
        f"the step takes {step / max(arithmetic, memory):.2f} times the larger"
    )


def _in_turns(calls: dict[str, Callable[[int], float]], steps: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of one run of each, measured in turns, each after a run that is not counted."""
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call(1)
            milliseconds[name].append(call(steps) / steps * 1e3)
    return {name: statistics.median(values) for name, values in milliseconds.items()}


def _read_step(file: Path) -> tuple[str, list[tuple[int, int]]]:
    """The text of an exported step, and of every result that replaces an argument the number of both."""
    from jaxlib import xla_client

    computation = xla_client.XlaComputation(file.read_bytes())
    header = computation.get_hlo_module().to_string().split("entry_computation_layout")[0]
    updated = [(int(o), int(i)) for o, i in re.findall(r"\{\s*(\d+)\s*\}: \((\d+),", header)]
    module = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    # JAX's compiler knows no copy; a reshape to the same shape is one.
    return re.sub(r"mhlo\.copy (%\S+) : (tensor<[^>]*>)", r"stablehlo.reshape \1 : (\2) -> \2", module), updated


def _draw_all(arguments: Sequence[tuple[str, str, list[int]]]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [_draw(rng, *argument) for argument in arguments]


def _draw(rng: np.random.Generator, kind: str, dtype: str, shape: list[int]) -> np.ndarray:
    """Ids in range, labels, weights of rows; small positive values for variables, which second moments must have."""
    if kind == "row" and dtype == "int32":
        return rng.integers(1, NUM_ROWS // NUM_FIELDS - 2, shape).astype(dtype)
    if kind == "row":
        return (rng.random(shape) < 0.1).astype(dtype) if len(shape) == 2 else np.ones(shape, dtype)
    return (np.full(shape, 3) if "int" in dtype else rng.random(shape) * 0.05 + 1e-3).astype(dtype)


def _draw_operands(found: Sequence[Operation]) -> list[Any]:
    """Random operands, drawn on the device; the indices of a gather or scatter are rows of its first operand."""
    import jax

    drawn: list[Any] = []
    for operation in found:
        rows = _shape(operation.operands[0])[0]
        for kind in operation.operands:
            key, shape, dtype = jax.random.key(len(drawn)), _shape(kind), _dtype_of(kind)
            draw = (
                functools.partial(jax.random.randint, minval=0, maxval=rows) if "int" in dtype else jax.random.uniform
            )
            drawn.append(draw(key, shape, dtype=dtype))
    return drawn


def _shape(kind: str) -> tuple[int, ...]:
    """The shape of `tensor<2x3xf32>`: (2, 3)."""
    return tuple(int(size) for size in re.findall(r"(\d+)x", kind))


_DTYPES = {"f32": "float32", "bf16": "bfloat16", "i32": "int32", "i64": "int64"}


def _dtype_of(kind: str) -> str:
    name = kind[:-1].removeprefix("tensor<").rpartition("x")[2]
    if name not in _DTYPES:
        raise ValueError(f"Operands must be of {', '.join(_DTYPES)}. Received: {kind}")
    return _DTYPES[name]


def _itemsize(kind: str) -> int:
    return {"float32": 4, "bfloat16": 2, "int32": 4, "int64": 8}[_dtype_of(kind)]


def main() -> None:
    """Exports or times, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("export", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="of the steps that are exported")
    parser.add_argument("--steps", type=int, default=20, help="steps of one measurement")
    parser.add_argument("--rounds", type=int, default=7, help="measurements, of which the median counts")
    given = parser.parse_args()
    if given.action == "export":
        export(given.folder, given.batches)
    else:
        time_on_device(given.folder, given.steps, given.rounds)


if __name__ == "__main__":
    main()
