"""The same DHEN with two cohort heads, trained by ours, by plain PyTorch and by plain JAX, all on the CPU.

Two blocks, an attention MLP of 32 units, a representation and three task heads of 64 units; Adam on the dense weights
and row-wise Adagrad on the table. PyTorch has no row-wise Adagrad: its table has `torch.optim.Adagrad` with sparse
gradients, and is gathered outside of `torch.compile`, which refuses these. Ours also sums the metrics of a training
history; the peers' steps compute the loss alone. Compilation is the time of the first two steps, without any cache.

Last, ours with freed memory kept, as the commands that train keep it, beside ours with glibc's defaults.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from .contenders import Contender, peers_python, worker_command
from .peers import one_mode
from .race import FULL, QUICK, compilation_of, memory_of, race, rate_of
from .results import Result
from .workers.problem import Problem

NAME = "dhen_peers"
GOAL = 1.0
PROBLEMS = (
    Problem(100_000, learning_rate=1e-3),
    Problem(20_000, num_fields=10, dim=8, batch_size=2048, num_outputs=4, mixing_outputs=4, learning_rate=1e-3),
    Problem(2_000, num_fields=40, batch_size=1024, learning_rate=1e-3),
)
"""The sizes of `dhen_peak`, of the demo, and of Census-Income."""


def run(quick: bool) -> Iterator[Result]:
    """Each problem; a quick run does without `torch.compile`, which takes half a minute."""
    for problem in PROBLEMS[1:2] if quick else PROBLEMS:
        yield from compare_models(problem.quick() if quick else problem, quick=quick)
    for problem in PROBLEMS[1:2] if quick else PROBLEMS:
        yield from compare_allocation(problem.quick() if quick else problem, quick=quick)


def compare_models(problem: Problem, *, quick: bool = False) -> Iterator[Result]:
    """Rows per second, memory and seconds to compile, with XLA and without, beside each peer."""
    case = f"{problem.num_fields} fields x {problem.dim}, batch {problem.batch_size:,}, {problem.table_rows:,} rows"
    mine, theirs = contenders(problem)
    for heat in race(mine, one_mode(theirs) if quick else theirs, QUICK if quick else FULL, one_by_one=True):
        pairs = [(f"{case}, ours, {own.mode}", own, peer) for own, peer in itertools.product(heat.ours, heat.peers)]
        for name, own, peer in pairs:
            goal = GOAL if own.mode == "XLA" and not quick else None
            yield rate_of(NAME, name, own, peer, batch_size=problem.batch_size, goal=goal)
        for measure in (memory_of, compilation_of):
            for name, own, peer in pairs:
                yield measure(NAME, name, own, peer)


def compare_allocation(problem: Problem, *, quick: bool = False) -> Iterator[Result]:
    """Rows per second and memory after `keep_freed_memory`, beside glibc's defaults."""
    case = f"{problem.num_fields} fields x {problem.dim}, batch {problem.batch_size:,}, freed memory kept"
    default = contenders(problem)[0][0]
    kept = dataclasses.replace(default, name="kept", spec={**default.spec, "keep_freed_memory": True})
    for heat in race([kept], [dataclasses.replace(default, name="glibc's defaults")], QUICK if quick else FULL):
        for own, peer in itertools.product(heat.ours, heat.peers):
            yield rate_of(NAME, case, own, peer, batch_size=problem.batch_size)
            yield memory_of(NAME, case, own, peer)


def contenders(problem: Problem) -> tuple[list[Contender], list[Contender]]:
    """Ours, and the peers, which run in `.venv-bench`."""
    python, spec = peers_python(), {"problem": dataclasses.asdict(problem)}

    def make(name: str, mode: str, command: list[str], **environment: str) -> Contender:
        return Contender(name, mode, command, {**spec, "mode": mode}, environment=environment)

    torch, no_cache = worker_command("torch_dhen", python), {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    ours = [make("our DHEN", mode, worker_command("keras_dhen")) for mode in ("XLA", "no XLA")]
    return ours, [
        *(make("PyTorch (table: Adagrad)", mode, torch, **no_cache) for mode in ("compile", "eager")),
        make("JAX", "jit", worker_command("jax_dhen", python)),
    ]
