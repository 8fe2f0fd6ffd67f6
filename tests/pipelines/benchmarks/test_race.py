"""Turns between workers: who computes when, which mode counts, and what becomes of those that fail."""

import itertools
import statistics
from pathlib import Path
from typing import Any

import pytest
from c2al_pipelines.benchmarks import race as module
from c2al_pipelines.benchmarks.contenders import Contender
from c2al_pipelines.benchmarks.race import Effort, Standing, compilation_of, memory_of, race, rate_of

EFFORT = Effort(rounds=3, seconds=0.02)


def test_only_one_computes_at_a_time(contender: Any, tmp_path: Path) -> None:
    (heat,) = race([contender("ours")], [contender("a"), contender("b")], EFFORT)
    assert [len(standing.seconds) for standing in (*heat.ours, *heat.peers)] == [3, 3, 3]
    lines = [line.split() for line in (tmp_path / "diary").read_text().splitlines()]
    rounds = lines[-12:]  # before: warming up, all at once, and trying out
    assert "".join(name[0] for name, *_ in rounds) == "oabbaooabbao"  # the first does not count
    assert all(float(end) <= float(start) for (_, _, end), (_, start, _) in itertools.pairwise(rounds))


def test_the_fastest_mode_counts_and_the_others_are_accounted_for(contender: Any) -> None:
    modes = [("slow", 0.02), ("fast", 0.008), ("hopeless", 0.2)]
    peers = [contender("peer", mode, step) for mode, step in modes]
    peers += [contender("peer", "broken", broken=True), contender("other", step=0.03)]
    (heat,) = race([contender("ours")], peers, EFFORT)
    peer, other = heat.peers
    assert (peer.full_name, other.full_name) == ("peer, fast", "other, only")
    assert "slow 20 ms" in peer.note
    assert "peer, hopeless: 25.0 times slower" in peer.note
    assert "peer, broken: ended with status 1: ValueError: no such table" in peer.note


def test_rows_per_second_and_memory_come_from_the_figures() -> None:
    ours, peer = Standing("ours", "XLA", [0.1, 0.2, 0.4], [10.0]), Standing("peer", "sparse", [0.5], [40.0])
    rate = rate_of("b", "case", ours, peer, batch_size=100, goal=1.5)
    assert (rate.ours, rate.ours_range) == (pytest.approx(500), (pytest.approx(250), pytest.approx(1000)))
    assert (rate.peer, rate.unit, rate.peer_name) == (pytest.approx(200), "rows/s", "peer, sparse")
    assert rate.ratio == pytest.approx(2.5)
    memory = memory_of("b", "case", ours, peer)
    assert (memory.ours, memory.peer, memory.unit, memory.ratio) == (10.0, 40.0, "MB", 4.0)


def test_seconds_to_compile_are_those_of_the_first_answer(contender: Any) -> None:
    ours, broken = contender("ours", step=0.01), contender("peer", broken=True)
    (heat,) = race([ours], [broken], Effort(1, 0.01), one_by_one=True)
    compilation = compilation_of("b", "case", heat.ours[0], heat.peers[0])
    assert (compilation.ours, compilation.peer) == (pytest.approx(0.02), None)
    assert (compilation.case, compilation.unit) == ("case, compile", "s")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"broken": True}, "ended with status 1: ValueError: no such table"),
        ({"dies": True}, "ended with status 1: out of rows"),
    ],
)
def test_a_failing_worker_is_named_and_the_others_go_on(contender: Any, fault: dict[str, bool], why: str) -> None:
    (heat,) = race([contender("ours")], [contender("bad", **fault), contender("good")], EFFORT)
    bad, good = heat.peers
    assert bad.note == f"bad, only: {why}"
    assert len(good.seconds) == 3
    rate = rate_of("b", "case", heat.ours[0], bad, batch_size=1)
    assert (rate.peer, rate.ratio, rate.note) == (None, None, bad.note)
    assert rate.ours == pytest.approx(1 / statistics.median(heat.ours[0].seconds))


def test_different_models_are_not_compared(contender: Any) -> None:
    (heat,) = race([contender("ours")], [contender("peer", num_weights=8)], Effort(1, 0.01))
    with pytest.raises(ValueError, match="ours and peer must train the same model. Received: 7 and 8 weights"):
        rate_of("b", "case", heat.ours[0], heat.peers[0], batch_size=1)


def test_peers_share_a_heat_as_far_as_memory_goes(contender: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_bytes", lambda: 12_000_000_000)
    ran: list[list[str]] = []

    def run_heat(group: list[Contender], effort: Effort, one_by_one: bool) -> list[Standing]:
        assert one_by_one  # a table that is built may be there twice: 20 GB
        ran.append([one.name for one in group])
        return [Standing(one.name, one.mode) for one in group]

    monkeypatch.setattr(module, "_run_heat", run_heat)
    sizes = {"a": 3.0, "b": 3.0, "huge": 9.0, "c": 7.0, "d": 1.0}
    heats = list(race([contender("ours", memory_gb=2.0)], [contender(n, memory_gb=gb) for n, gb in sizes.items()]))
    assert ran == [["ours", "a", "b"], ["ours", "c", "d"]]
    assert [peer.name for heat in heats for peer in heat.peers] == list(sizes)
    assert heats[1].peers[0].failure == "does not fit into memory: 11.0 GB with ours, 10.2 GB are free"


def test_where_ours_leave_no_room_each_has_its_own_heats(contender: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_bytes", lambda: 12_000_000_000)
    ran: list[list[str]] = []

    def run_heat(group: list[Contender], effort: Effort, one_by_one: bool) -> list[Standing]:
        ran.append([one.name for one in group])
        return [Standing(one.name, one.mode) for one in group]

    monkeypatch.setattr(module, "_run_heat", run_heat)
    list(race([contender(n, memory_gb=4.0) for n in ("x", "y")], [contender(n, memory_gb=3.0) for n in ("a", "b")]))
    assert ran == [["x", "a", "b"], ["y", "a", "b"]]
