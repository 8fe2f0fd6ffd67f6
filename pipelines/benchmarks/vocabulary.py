"""The time of a step by the size of the vocabulary: an MLP on embeddings, with our optimizers and the peers'.

Twenty-six fields share a table of dim 16; batch 4096; one hidden layer of 128. In each field ids follow a power law
with exponent 1.05, as clicks on ads do, or are uniform, where few rows of a batch are the same and caches help least.
At 20 M rows each peer takes part in its fastest mode at 5 M rows, as the others need more memory.
"""

import itertools
import logging
from collections.abc import Generator, Iterator, Set
from dataclasses import replace

import numpy as np

from . import peers
from .contenders import Contender
from .machine import matmul_peak, row_bandwidth
from .race import FULL, QUICK, Heat, Standing, memory_of, race, rate_of
from .results import Result
from .workers.problem import Problem, draw_batches

NAME = "vocabulary"
SIZES = (10_000, 100_000, 1_000_000, 5_000_000, 20_000_000)
SMALL, LARGE = 100_000, 5_000_000
NO_SLOWER = 1 / 1.1
"""The ratio to reach at `SMALL` rows against any peer: at most 10 % slower."""
LARGE_GOALS = {
    ("RowWiseAdagrad", "TFRS (tf_keras) Adagrad"): 2.0,
    ("RowWiseAdagrad", "Keras 3 Adagrad"): 6.0,
    ("RowWiseAdagrad duplicates=each", "TFRS (tf_keras) Adagrad"): 2.5,
    ("RowWiseAdagrad duplicates=each", "Keras 3 Adagrad"): 7.0,
}
FLAT = 1 / 1.25
"""The ratio to reach between a step at `SMALL` and one at `LARGE` rows."""

_log = logging.getLogger(__name__)


def run(quick: bool) -> Iterator[Result]:
    """All sizes with skewed ids, `SMALL` and `LARGE` with uniform ones too, and `LARGE` beside `SMALL` in one heat."""
    _log.info("arithmetic peak")
    peak = matmul_peak()
    modes: set[str] = set()
    for num_rows in (1_000,) if quick else SIZES:
        problem = _problem(num_rows, quick)
        only = modes if num_rows > LARGE else None
        modes = yield from compare_adagrad(problem, peak, quick=quick, only=only)
        modes |= yield from compare_adam(problem, quick=quick, only=only)
    if not quick:
        for num_rows in (SMALL, LARGE):
            yield from compare_adagrad(Problem(num_rows, zipf=0.0), peak)
    for zipf in (Problem.zipf,) if quick else (Problem.zipf, 0.0):
        yield from compare_sizes(_problem(10_000 if quick else LARGE, quick, zipf), quick=quick)


def compare_adagrad(
    problem: Problem, peak: float, *, quick: bool = False, only: Set[str] | None = None
) -> Generator[Result, None, set[str]]:
    """Our Adagrads beside the peers', and beside the bounds of a machine with `peak` FLOP/s.

    Args:
        problem: What is trained.
        peak: See `machine.matmul_peak`.
        quick: One short round.
        only: Full names of the peers to take part, all by default.

    Returns:
        Full names of the peers, each in its fastest mode.
    """
    theirs = [*peers.keras(problem, "Adagrad"), *peers.tfrs(problem, "Adagrad"), *peers.torch(problem, "Adagrad")]
    heats = yield from _compare(problem, _adagrads(problem), _those(theirs, only), quick)
    yield from _bounds(problem, heats[0].ours[0], peak)
    return {peer.full_name for heat in heats for peer in heat.peers}


def compare_adam(
    problem: Problem, *, quick: bool = False, only: Set[str] | None = None
) -> Generator[Result, None, set[str]]:
    """Our lazy Adam beside the peers' Adam; PyTorch's SparseAdam is lazy too, the others' update every row."""
    theirs = [*peers.keras(problem, "Adam"), *peers.tfrs(problem, "Adam"), *peers.torch(problem, "Adam")]
    heats = yield from _compare(problem, [peers.ours(problem, "LazyAdam")], _those(theirs, only), quick)
    return {peer.full_name for heat in heats for peer in heat.peers}


def compare_sizes(problem: Problem, *, quick: bool = False) -> Iterator[Result]:
    """Each of our optimizers at the problem's size beside itself at a fiftieth: 5 M rows beside 100 k."""
    small = _problem(problem.num_rows // (LARGE // SMALL), quick, problem.zipf)
    here, there = ([*_adagrads(size), peers.ours(size, "LazyAdam")] for size in (problem, small))
    for large, little in list(zip(here, there, strict=True))[: 1 if quick else None]:
        little = replace(little, name=f"{little.name} at {_count(small.num_rows)} rows")
        for heat in race([large], [little], QUICK if quick else FULL):
            own, same = heat.ours[0], heat.peers[0]
            case = f"{case_of(problem)}, {own.name}, step"
            beside = {"peer_name": same.name, "unit": "ms", "goal": FLAT, "note": own.note or same.note}
            yield Result.of(NAME, case, own.step_ms, same.step_ms, **beside)


def _adagrads(problem: Problem) -> list[Contender]:
    return [
        peers.ours(problem, "RowWiseAdagrad"),
        peers.ours(problem, "RowWiseAdagrad", duplicates="each"),
        peers.ours(problem, "SparseAdagrad"),
    ]


def _those(contenders: list[Contender], only: Set[str] | None) -> list[Contender]:
    return [contender for contender in contenders if only is None or contender.full_name in only]


def _compare(
    problem: Problem, mine: list[Contender], theirs: list[Contender], quick: bool
) -> Generator[Result, None, list[Heat]]:
    """Each of ours beside each of theirs; returns what was measured."""
    heats = []
    theirs = peers.one_mode(theirs) if quick else theirs
    for heat in race(mine, theirs, QUICK if quick else FULL):
        heats.append(heat)
        pairs = list(itertools.product(heat.ours, heat.peers))
        for own, peer in pairs:
            case, goal = f"{case_of(problem)}, {own.name}", _goal(problem, own, peer)
            yield rate_of(NAME, case, own, peer, batch_size=problem.batch_size, goal=goal)
        for own, peer in pairs:
            yield memory_of(NAME, f"{case_of(problem)}, {own.name}", own, peer)
    return heats


def _goal(problem: Problem, own: Standing, peer: Standing) -> float | None:
    if problem.num_rows == LARGE:
        return LARGE_GOALS.get((own.name, peer.name))
    return NO_SLOWER if problem.num_rows == SMALL else None


def _bounds(problem: Problem, exact: Standing, peak: float) -> Iterator[Result]:
    """The row-wise step beside what its matrix products, and the rows it moves, take at the machine's best."""
    case = f"{case_of(problem)}, {exact.name}, step"
    for name, seconds in (
        ("arithmetic bound", arithmetic_seconds(problem, peak)),
        ("bytes bound", bytes_seconds(problem)),
    ):
        yield Result.of(NAME, case, exact.step_ms, [1000 * seconds], peer_name=name, unit="ms", note=exact.note)


def arithmetic_seconds(problem: Problem, peak: float) -> float:
    """Seconds of a step's matrix products at `peak` FLOP/s: 2 FLOP per weight and row, forward and twice backward."""
    weights = problem.num_fields * problem.dim * problem.hidden + problem.hidden
    return 3 * 2 * problem.batch_size * weights / peak


def bytes_seconds(problem: Problem) -> float:
    """Seconds that moving a step's rows takes at the bandwidth measured for random rows of such a table.

    Forward all ids' rows are gathered; the update gathers and scatters each different row and its accumulator once.
    """
    ids = problem.num_fields * problem.batch_size
    different = float(np.mean([len(np.unique(batch.ids)) for batch in draw_batches(problem)]))
    gather, scatter = row_bandwidth(problem.num_rows, problem.dim, ids)
    row, accumulator = 4 * problem.dim, 4
    return (ids * row + different * (row + accumulator)) / gather + different * (row + accumulator) / scatter


def case_of(problem: Problem) -> str:
    """Size and frequencies, in words."""
    return f"{_count(problem.num_rows)} rows, {'skewed' if problem.zipf else 'uniform'} ids"


def _count(number: int) -> str:
    return f"{number / 1e6:g} M" if number >= 1e6 else f"{number / 1e3:g} k"


def _problem(num_rows: int, quick: bool, zipf: float = Problem.zipf) -> Problem:
    problem = Problem(num_rows, zipf=zipf)
    return problem.quick() if quick else problem
