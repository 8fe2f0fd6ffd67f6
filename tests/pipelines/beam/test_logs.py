"""Logs in pieces say what all rows at once say, in this process and by Beam."""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from c2al_pipelines.beam.discovery import discover_log
from c2al_pipelines.beam.evaluation import evaluate_log
from c2al_pipelines.beam.log import Log
from c2al_pipelines.beam.pieces import list_pieces, read_piece
from c2al_pipelines.beam.totals import Runner
from scipy.special import expit

from c2al_tf.cohorts import Axis, Cohort, Values, cut_axes, discover_cohorts, sample_rows
from c2al_tf.evaluation import evaluate_by_cohort
from c2al_tf.feature import Column

ROWS = 20_000
PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
AXES = [Axis(("age",)), Axis(("city",))]
CITIES = [Cohort(f"city_{city}", (Values("city", (city,)),)) for city in ("Rome", "Oslo")]


def make_rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    city = rng.choice(np.array(["Rome", "Oslo", "Bern"], object), ROWS, p=[0.6, 0.3, 0.1])
    logits = rng.normal(-1 + 0.5 * (city == "Oslo"), 1)
    columns: dict[str, Any] = {
        "age": rng.integers(18, 80, ROWS),
        "city": city,
        "user": rng.integers(0, 2000, ROWS),
        "weight": rng.choice([0.0, 1.0, 2.5], ROWS).astype(np.float32),
        "click": (rng.random(ROWS) < expit(logits)).astype(np.int64),
    }
    for name in ("b0", "b1", "c0", "c1"):
        columns[name] = (logits * (0.8 if name[0] == "b" else 1) + rng.normal(0, 0.3, ROWS)).astype(np.float32)
    return columns


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a piece has several."""
    monkeypatch.setattr(read_piece, "__defaults__", (3000, None, None))


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    return make_rows()


@pytest.fixture(scope="module", params=[1, 2, 7])
def folder(request: pytest.FixtureRequest, rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as Parquet files of several row groups."""
    made = tmp_path_factory.mktemp("log")
    table = pa.table(rows)
    bounds = np.linspace(0, ROWS, request.param + 1).astype(int).tolist()
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        pq.write_table(table.slice(start, stop - start), made / f"part-{number}.parquet", row_group_size=700)
    return made


def log_of(*files: Any) -> Log:
    return Log(tuple(map(str, files)), "click", "weight", "user")


@pytest.fixture(scope="module")
def found_at_once(rows) -> Any:
    """What discovery finds in all rows at once."""
    predictions = expit(np.stack([rows["b0"], rows["b1"]]).astype(np.float64))
    options: dict[str, Any] = {"labels": rows["click"], "weights": rows["weight"], "units": rows["user"]}
    return discover_cohorts(predictions, rows, AXES, **options, progress=False).to_json()


def assert_close(found: Any, wanted: Any) -> None:
    """Integers and texts are equal, floats to 1e-12."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_close(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    else:
        assert found == wanted


@pytest.mark.parametrize("piece_rows", [1, 1000, 1_000_000])
def test_pieces_hold_every_row_once_with_its_number(rows, folder, piece_rows) -> None:
    pieces = list_pieces(folder, piece_rows)
    batches = [batch for piece in pieces for batch in read_piece(piece, {"age": Column("age", "int64")}, 300)]
    assert np.concatenate([numbers for numbers, _ in batches]).tolist() == list(range(ROWS))
    assert np.concatenate([batch["age"] for _, batch in batches]).tolist() == rows["age"].tolist()
    assert max(len(numbers) for numbers, _ in batches) <= 300
    assert all(piece.num_rows <= max(piece_rows, 700) for piece in pieces)


def test_a_column_in_the_names_of_folders_is_one_in_the_files(rows, tmp_path) -> None:
    """As Hive and Spark part logs; in files without any type, too."""
    table = pa.table(rows).sort_by("city")
    pq.write_table(table, tmp_path / "whole.parquet")
    for city in ("Bern", "Oslo", "Rome"):
        (tmp_path / "parts" / f"city={city}").mkdir(parents=True)
        part = table.filter(pa.compute.equal(table["city"], city)).drop_columns("city")
        pq.write_table(part, tmp_path / "parts" / f"city={city}" / "part-0.parquet", row_group_size=700)
    whole, parts = (
        discover_log(log_of(tmp_path / name), ["b0", "b1"], AXES, from_logits=True)
        for name in ("whole.parquet", "parts")
    )
    assert [axis.name for axis in parts.axes] == ["age", "city"]
    assert_close(parts.to_json(), whole.to_json())


def test_discovery_in_pieces_is_that_of_all_rows(folder, found_at_once) -> None:
    found = discover_log(log_of(folder), ["b0", "b1"], AXES, from_logits=True)
    assert_close(found.to_json(), found_at_once)


@pytest.mark.parametrize("targeted", [[], CITIES])
def test_evaluation_in_pieces_is_that_of_all_rows(rows, folder, targeted) -> None:
    arms = {"baseline": ["b0", "b1"], "c2al": ["c0", "c1"]}
    found = evaluate_log(log_of(folder), arms, targeted, CITIES)
    logits = {arm: np.stack([rows[name] for name in names]) for arm, names in arms.items()}
    slices = {cohort.name: cohort.contains(rows) for cohort in CITIES}
    if targeted:
        slices["rest"] = rows["city"] == "Bern"
    options: dict[str, Any] = {"weights": rows["weight"], "units": rows["user"], "progress": False}
    wanted = evaluate_by_cohort(logits, rows["click"], slices, named=[*slices] if targeted else [], **options)
    for figures, exact in ((found.metrics[arm], wanted.metrics[arm]) for arm in arms):
        for name in exact:
            for one, other in zip(figures[name], exact[name], strict=True):
                assert one.pop("auc") == pytest.approx(other.pop("auc"), abs=found.auc_error)
                assert_close(one, other)
    assert 0 < found.auc_error < 2e-3
    assert_close(found.to_json("c2al")["ne_diff"], wanted.to_json("c2al")["ne_diff"])


def test_training_rows_are_what_the_guard_counts(rows, folder) -> None:
    found = discover_log(log_of(folder), ["b0"], ["city"], from_logits=True, training=[str(folder), str(folder)])
    sizes = {each.cohort.name: each.training_rows for each in found.axes[0].cohorts}
    assert sizes["city_Rome"] == 2 * np.count_nonzero((rows["city"] == "Rome") & (rows["weight"] > 0))


def test_csv_files_are_read_by_the_types_given(rows, tmp_path) -> None:
    pa.csv.write_csv(pa.table({name: rows[name] for name in ("city", "click", "b0")}), tmp_path / "rows.csv")
    log = Log((str(tmp_path),), "click", dtypes={"city": "string", "click": "int64"})
    found = discover_log(log, ["b0"], ["city"], from_logits=True)
    wanted = discover_cohorts(expit(rows["b0"].astype(float)), rows, ["city"], labels=rows["click"])
    assert [each.rows for each in found.axes[0].cohorts] == [each.rows for each in wanted.axes[0].cohorts]
    with pytest.raises(ValueError, match="`dtypes` must say .* Received: nothing for city, click"):
        discover_log(Log((str(tmp_path),), "click"), ["b0"], ["city"])


def test_what_is_wrong_is_named(folder, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"part-0.parquet: no column `town`. Received: age, city"):
        discover_log(log_of(folder), ["b0"], ["town"])
    with pytest.raises(ValueError, match=r"(?s)[Pp]redictions? .*\[0, 1\]"):
        discover_log(log_of(folder), ["b0"], ["city"])
    with pytest.raises(ValueError, match="at least one axis"):
        discover_log(log_of(folder), ["b0"], [])
    with pytest.raises(ValueError, match="`divergence` must be one of .* Received: divergence='jss'"):
        discover_log(log_of(folder), ["b0"], ["city"], divergence="jss")
    with pytest.raises(ValueError, match="`arms` must be 'baseline', the reference, and others. Received: baseline"):
        evaluate_log(log_of(folder), {"baseline": ["b0"]}, [])
    with pytest.raises(ValueError, match="none of them 'rest'"):
        evaluate_log(log_of(folder), {"baseline": ["b0"], "c2al": ["c0"]}, [Cohort("rest", CITIES[0].conditions)])
    with pytest.raises(ValueError, match="`predictions` must name at least one column"):
        discover_log(log_of(folder), [], ["city"])
    with pytest.raises(ValueError, match="no such file"):
        discover_log(log_of(tmp_path / "absent.parquet"), ["b0"], ["city"])
    twice = [Cohort("a", (Values("city", ("Rome",)),)), Cohort("a", (Values("city", ("Oslo",)),))]
    with pytest.raises(ValueError, match=r"distinct names, .* Received: a, a"):
        evaluate_log(log_of(folder), {"baseline": ["b0"], "c2al": ["c0"]}, twice)


def test_an_empty_file_among_others_is_skipped_with_a_note(rows, tmp_path) -> None:
    table = pa.table(rows)
    for name, start, stop in (("a", 0, 100), ("b", 100, 100), ("c", 100, 300)):
        pq.write_table(table.slice(start, stop - start), tmp_path / f"{name}.parquet")
    with pytest.warns(UserWarning, match="b.parquet: the file has no rows; it is skipped"):
        assert [piece.first_row for piece in list_pieces(tmp_path)] == [0, 100]


def test_a_wrong_value_is_named_with_its_file(rows, tmp_path) -> None:
    for name, wrong in (("a", 1), ("b", 2)):
        click = rows["click"].copy()
        click[4321] = wrong
        pq.write_table(pa.table({**rows, "click": click}), tmp_path / f"{name}.parquet", row_group_size=1500)
    with pytest.raises(
        ValueError, match=r"b.parquet: among the 3,000 rows from row 3,000 on: .* Received: 2 in row 1321"
    ):
        discover_log(log_of(tmp_path), ["b0"], ["city"], from_logits=True)
    pq.write_table(pa.table({**rows, "weight": np.zeros(ROWS, np.float32)}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="needs rows of a weight above 0"):
        discover_log(log_of(tmp_path / "c.parquet"), ["b0"], ["city"], from_logits=True)


def test_axes_are_cut_on_a_sample_of_many_rows(rows, tmp_path, monkeypatch) -> None:
    """Of many rows only those leave a worker that are probably among the sample; the sample is as that of all rows."""
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=700)
    monkeypatch.setattr("c2al_pipelines.beam.discovery.SAMPLE_ROWS", 2000)
    monkeypatch.setattr(sample_rows, "__kwdefaults__", {**sample_rows.__kwdefaults__, "size": 2000})
    axis, log, drawn = Axis(("age",)), Log((str(tmp_path),), "click"), list[int]()

    def noted(columns: Any, **rest: Any) -> Any:
        drawn.append(len(columns["age"]))
        return sample_rows(columns, **rest)

    monkeypatch.setattr("c2al_pipelines.beam.discovery.sample_rows", noted)
    found = discover_log(log, ["b0"], [axis], from_logits=True)
    (wanted,) = cut_axes([axis], sample_rows({"age": rows["age"]}).columns)
    assert [each.cohort for each in found.axes[0].cohorts] == list(wanted.cohorts)
    assert 2000 <= sum(drawn) < 2500


def test_a_file_that_changes_meanwhile_is_noticed(rows, tmp_path) -> None:
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=700)
    (piece,) = list_pieces(tmp_path)
    pq.write_table(pa.table(rows).slice(0, 5000), tmp_path / "a.parquet", row_group_size=700)
    with pytest.raises(
        ValueError, match=r"must stay as it is meanwhile. Received: 5,000 rows, where there were 20,000"
    ):
        list(read_piece(piece, {"age": Column("age", "int64")}))


@pytest.mark.parametrize("options", [(), pytest.param(PROCESSES, marks=pytest.mark.slow)], ids=["one", "two processes"])
def test_beam_finds_the_same(folder, found_at_once, tmp_path, options) -> None:
    pytest.importorskip("apache_beam", reason="the extra `beam` has it")
    if folder.joinpath("part-1.parquet").exists() == folder.joinpath("part-6.parquet").exists():
        pytest.skip("two files are enough for Beam's own part")
    runner = Runner("DirectRunner", options, str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Beam's own
        found = discover_log(log_of(folder), ["b0", "b1"], AXES, from_logits=True, runner=runner)
        evaluation = evaluate_log(log_of(folder), {"baseline": ["b0"], "c2al": ["c0"]}, CITIES, runner=runner)
    assert_close(found.to_json(), found_at_once)
    here = evaluate_log(log_of(folder), {"baseline": ["b0"], "c2al": ["c0"]}, CITIES)
    assert_close(evaluation.to_json("c2al"), here.to_json("c2al"))
    assert list(tmp_path.iterdir()) == []


def test_a_runner_without_scratch_is_refused() -> None:
    with pytest.raises(ValueError, match="`scratch` must be a folder or URL that all workers reach"):
        Runner("DirectRunner")


def test_the_commands(folder, tmp_path, c2al) -> None:
    cohorts, metrics = tmp_path / "cohorts.json", tmp_path / "metrics.json"
    log = [folder, "--label=click", "--unit=user"]
    axes = "--axes=[age, {columns: [city], max_cohorts: 2}]"
    found = c2al("discover-logs", *log, "--predictions", "b0", "b1", "--from-logits=true", axes, "--output", cohorts)
    assert "Pairs of cohorts that pass the guard" in found.output
    assert len(json.loads(cohorts.read_text())["axes"][1]["cohorts"]) == 2
    arms = "--arms.baseline=[b0, b1]", "--arms.c2al=[c0, c1]"
    found = c2al("evaluate-logs", *log, *arms, "--cohorts", cohorts, "--output", metrics)
    assert "c2al against baseline" in found.output
    written = json.loads(metrics.read_text())
    assert written["arms"]["c2al"]["ne_diff"]["all"]["high"] < 0
    assert 0 < written["auc_error"] < 2e-3


def write_day(path: Path, seed: int, favoured: str, is_good: bool) -> None:
    """A day's log: clicks of one city are far more likely; the new model knows it, or is bad on it."""
    rng = np.random.default_rng(seed)
    city = rng.choice(np.array(["Rome", "Oslo", "Bern"], object), ROWS, p=[0.4, 0.3, 0.3])
    truth = rng.normal(-1.5 + 1.0 * (city == favoured), 0.8)
    new = truth + rng.normal(0, 0.2, ROWS) + (0.0 if is_good else 2.0 * (city == favoured))
    columns = {"city": city, "click": (rng.random(ROWS) < expit(truth)).astype(np.int64)}
    columns |= {"old": (truth + rng.normal(0, 0.3, ROWS)).astype(np.float32), "new": new.astype(np.float32)}
    pq.write_table(pa.table(columns), path)


def test_three_days(tmp_path, c2al) -> None:
    """What a scheduler calls each day: drift is named on its day, and a bad model is not published."""
    days = [("Oslo", True), ("Oslo", False), ("Bern", True)]
    statuses = []
    for day, (favoured, is_good) in enumerate(days):
        log, cohorts, metrics = (tmp_path / f"{day}.{suffix}" for suffix in ("parquet", "cohorts.json", "metrics.json"))
        write_day(log, day, favoured, is_good)
        before = ["--before", tmp_path / f"{day - 1}.cohorts.json"] if day else []
        words = [log, "--label=click", "--predictions", "old", "--from-logits=true", "--axes=[city]", *before]
        found = c2al("discover-logs", *words, "--output", cohorts)
        arms = "--arms.baseline=[old]", "--arms.c2al=[new]"
        c2al("evaluate-logs", log, "--label=click", *arms, "--cohorts", cohorts, "--output", metrics)
        assert found.status in (0, 3), found.error
        statuses.append((found.status, c2al("gate", metrics).status))
    assert statuses == [(0, 0), (0, 3), (3, 0)]
    drift = found.output[found.output.index("Drift:") :]
    assert "city_Bern" in drift
