"""Measures contenders in turns and compares them."""

import contextlib
import itertools
import logging
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .contenders import Contender, Worker, WorkerError
from .machine import memory_bytes
from .results import Result, alternate

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        rounds: Rounds of each contender.
        seconds: Approximate length of a round.
    """

    rounds: int
    seconds: float


FULL = Effort(rounds=5, seconds=1.0)
QUICK = Effort(rounds=1, seconds=0.05)


@dataclass
class Standing:
    """The measurements of a contender.

    Args:
        name: The contender's.
        mode: The contender's.
        seconds: Seconds of a step, by round.
        peak_mb: Peak memory while it trained, by round.
        failure: Why there are no measurements.
        num_weights: Trainable weights of its model; 0 until it has started.
        compile_seconds: Of its first two steps, which compile; 0 until it has started.
        others: Summary of its other modes.
    """

    name: str
    mode: str
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    failure: str = ""
    num_weights: int = 0
    compile_seconds: float = 0.0
    others: str = ""

    @property
    def full_name(self) -> str:
        """Name and mode."""
        return f"{self.name}, {self.mode}"

    @property
    def step_ms(self) -> list[float]:
        """Milliseconds of a step, for each round."""
        return [1000 * seconds for seconds in self.seconds]

    @property
    def note(self) -> str:
        """Why there are no measurements, in a line, and the other modes."""
        lines = [line.strip() for line in self.failure.splitlines()]
        failure = ": ".join([self.full_name, lines[0], *lines[1:][-1:]]) if lines else ""
        return "; ".join(filter(None, (failure, self.others)))


@dataclass(frozen=True)
class Heat:
    """Contenders that were measured in turns: ours, and as many peers as fit into memory beside them."""

    ours: list[Standing]
    peers: list[Standing]


def race(
    ours: Sequence[Contender], peers: Sequence[Contender], effort: Effort = FULL, one_by_one: bool = False
) -> Iterator[Heat]:
    """Measures ours and the peers in turns, in as few heats as memory allows.

    Ours take part in each heat. If they leave no room for a peer, each of ours has heats of its own.

    Args:
        ours: Contenders that every peer is compared with.
        peers: The others; a heat returns the fastest of those of the same name. One that fails, or does not fit into
            memory beside ours, has a `failure` and no measurements.
        effort: How long, how often.
        one_by_one: Start one contender after the other, so that none compiles while another does.
    """
    space = 0.85 * memory_bytes() / 1e9
    needed = sum(contender.memory_gb for contender in ours)
    if len(ours) > 1 and needed + max(peer.memory_gb for peer in peers) > space:
        for one in ours:
            yield from race([one], peers, effort, one_by_one)
        return
    for group in _in_heats(peers, space - needed):
        entire = needed + sum(peer.memory_gb for peer in group)
        if entire > space:
            why = f"does not fit into memory: {entire:.1f} GB with ours, {space:.1f} GB are free"
            standings = [Standing(c.name, c.mode, failure=why) for c in (*ours, *group)]
        else:
            # While a model is built, memory may hold its table twice.
            standings = _run_heat([*ours, *group], effort, one_by_one=one_by_one or 2 * entire > space)
        yield Heat(standings[: len(ours)], _fastest(standings[len(ours) :]))


def rate_of(
    benchmark: str, case: str, ours: Standing, peer: Standing, *, batch_size: int, goal: float | None = None
) -> Result:
    """Rows per second of ours beside a peer's; the note says why one is missing.

    Raises:
        ValueError: If their models differ in their number of weights.
    """
    if ours.num_weights and peer.num_weights and ours.num_weights != peer.num_weights:
        raise ValueError(
            f"{ours.name} and {peer.name} must train the same model. Received: {ours.num_weights} and "
            f"{peer.num_weights} weights"
        )
    rates = [[1000 * batch_size / ms for ms in standing.step_ms] for standing in (ours, peer)]
    note = "; ".join(filter(None, (ours.note, peer.note)))
    return Result.of(benchmark, case, *rates, peer_name=peer.full_name, unit="rows/s", goal=goal, note=note)


def memory_of(benchmark: str, case: str, ours: Standing, peer: Standing) -> Result:
    """Peak memory of the two processes while they train."""
    case = f"{case}, peak memory"
    return Result.of(benchmark, case, ours.peak_mb, peer.peak_mb, peer_name=peer.full_name, unit="MB")


def compilation_of(benchmark: str, case: str, ours: Standing, peer: Standing) -> Result:
    """Seconds of the first two steps of both."""
    seconds = [[standing.compile_seconds] if standing.compile_seconds else [] for standing in (ours, peer)]
    return Result.of(benchmark, f"{case}, compile", *seconds, peer_name=peer.full_name, unit="s")


def _in_heats(peers: Sequence[Contender], space: float) -> Iterator[list[Contender]]:
    """Groups peers, in their order, that need at most `space` GB together; one that needs more is alone."""
    group: list[Contender] = []
    for peer in peers:
        if group and sum(c.memory_gb for c in (*group, peer)) > space:
            yield group
            group = []
        group.append(peer)
    yield group


def _run_heat(contenders: Sequence[Contender], effort: Effort, one_by_one: bool) -> list[Standing]:
    standings = [Standing(contender.name, contender.mode) for contender in contenders]
    names = "; ".join(standing.full_name for standing in standings)
    with contextlib.ExitStack() as stack:
        _log.info("warm up %s", names)
        workers = []
        for contender, standing in zip(contenders, standings, strict=True):
            workers.append(stack.enter_context(Worker(contender)))
            if one_by_one:
                _wait_for(workers[-1], standing)
        for worker, standing in zip(workers, standings, strict=True):
            _wait_for(worker, standing)
        laps = _laps(workers, standings, effort.seconds)
        _log.info("%d rounds of %s", effort.rounds, names)
        alternate(laps, effort.rounds + 1)
    for standing in standings:  # the first round is slower: the machine may use its memory for the first time
        del standing.seconds[:1], standing.peak_mb[:1]
    return standings


def _wait_for(worker: Worker, standing: Standing) -> None:
    if not standing.num_weights and not standing.failure:
        with _failure_of(standing):
            answer = worker.answer()
            standing.num_weights, standing.compile_seconds = answer["num_weights"], answer["compile_seconds"]


def _laps(workers: Sequence[Worker], standings: Sequence[Standing], seconds: float) -> dict[str, Callable[[], float]]:
    """A callable for each contender that is worth measuring, which measures it and adds to its standing."""
    steps: dict[str, float] = {}
    for worker, standing in zip(workers, standings, strict=True):
        with _failure_of(standing):
            if not standing.failure:
                steps[standing.full_name] = worker.run(3)["seconds"] / 3
    laps = {}
    for worker, standing in zip(workers, standings, strict=True):
        if standing.failure:
            continue
        step = steps[standing.full_name]
        times = step / min(steps[s.full_name] for s in standings if s.name == standing.name and not s.failure)
        if times > 3:  # it cannot be the faster mode
            standing.failure = f"{times:.1f} times slower"
            worker.close()
        else:
            laps[standing.full_name] = _lap(worker, standing, min(max(math.ceil(seconds / step), 2), 1000))
    return laps


def _lap(worker: Worker, standing: Standing, steps: int) -> Callable[[], float]:
    def lap() -> float:
        if standing.failure:
            return math.nan
        with _failure_of(standing):
            answer = worker.run(steps)
            standing.seconds.append(answer["seconds"] / steps)
            standing.peak_mb.append(answer["peak_mb"])
            return standing.seconds[-1]
        return math.nan

    return lap


@contextlib.contextmanager
def _failure_of(standing: Standing) -> Iterator[None]:
    """Notes the failure of a worker, so that the others go on."""
    try:
        yield
    except WorkerError as error:
        _log.warning("%s", error)
        standing.failure = str(error).removeprefix(f"{standing.full_name}: ")
        standing.seconds.clear()
        standing.peak_mb.clear()


def _fastest(standings: Sequence[Standing]) -> list[Standing]:
    """The fastest mode of each name, with a summary of the others."""
    winners = []
    for _, modes in itertools.groupby(standings, key=lambda standing: standing.name):
        first, *others = sorted(modes, key=lambda s: statistics.median(s.seconds) if s.seconds else math.inf)
        first.others = "; ".join(
            f"{other.mode} {statistics.median(other.step_ms):.3g} ms" if other.seconds else other.note
            for other in others
        )
        winners.append(first)
    return winners
