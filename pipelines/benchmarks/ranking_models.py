"""A whole ranking model, DCN-V2 as TFRS has it: ours beside TFRS's own, keras-rs's layers, plain Keras 3 and PyTorch.

Twenty-six categorical and 13 dense features, batch 4096, Adagrad: 13 -> 256 -> 64 -> 16; three cross layers of rank 108
on the 432 floats of all embeddings; 448 -> 512 -> 256 -> 1. Ours is plain Keras layers on `FieldEmbedding`, trained by
`c2al_tf`'s compiled step with row-wise Adagrad, which also sums the metrics of a training history; the peers' steps
compute the loss alone.
"""

import itertools
import logging
from collections.abc import Iterator

from . import peers
from .machine import matmul_peak
from .race import FULL, QUICK, memory_of, race, rate_of
from .results import Result
from .vocabulary import case_of
from .workers.problem import NUM_DENSE, Problem

NAME = "ranking_models"
SIZES = (100_000, 5_000_000)

_log = logging.getLogger(__name__)


def run(quick: bool) -> Iterator[Result]:
    """Each size with skewed ids."""
    _log.info("arithmetic peak")
    peak = matmul_peak()
    for num_rows in SIZES[:1] if quick else SIZES:
        problem = Problem(num_rows).quick() if quick else Problem(num_rows)
        yield from compare_models(problem, peak, quick=quick)


def compare_models(problem: Problem, peak: float, *, quick: bool = False) -> Iterator[Result]:
    """Rows per second and memory beside each peer, and the step beside the bound of a machine with `peak` FLOP/s."""
    mine = [peers.ours(problem, "RowWiseAdagrad", model="our DCN-V2")]
    theirs = [
        *peers.tfrs(problem, "Adagrad", model="DCN-V2"),
        *peers.keras(problem, "Adagrad", model="keras-rs DCN-V2"),
        *peers.keras(problem, "Adagrad", model="DCN-V2"),
        *peers.torch(problem, "Adagrad", model="DCN-V2"),
    ]
    case = f"DCN-V2, {case_of(problem)}"
    for heat in race(mine, peers.one_mode(theirs) if quick else theirs, QUICK if quick else FULL):
        own = heat.ours[0]
        for peer in heat.peers:
            yield rate_of(NAME, case, own, peer, batch_size=problem.batch_size)
        for peer in heat.peers:
            yield memory_of(NAME, case, own, peer)
    bound = [1000 * step_flops(problem) / peak]
    yield Result.of(NAME, f"{case}, step", own.step_ms, bound, peer_name="arithmetic bound", unit="ms", note=own.note)


def step_flops(problem: Problem) -> int:
    """FLOP of a step's matrix products: 2 per weight and row forward, and twice that backward.

    The first layer of the dense features needs no gradient of its input, so it has one product less.
    """
    bottom = [NUM_DENSE, *problem.bottom]
    top = [problem.bottom[-1] + problem.num_inputs, *problem.top, 1]
    weights = sum(a * b for sizes in (bottom, top) for a, b in itertools.pairwise(sizes))
    weights += problem.num_crosses * 2 * problem.num_inputs * problem.projection
    return 2 * problem.batch_size * (3 * weights - bottom[0] * bottom[1])
