import dataclasses
import json
import math
from argparse import Namespace
from pathlib import Path

import pytest
from c2al_pipelines.commands import run as commands
from c2al_pipelines.run import steps
from c2al_pipelines.run.config import CohortsConfig, DataConfig, GivenCohort, GivenCondition, RunConfig

from c2al_tf.cohorts import Cohort, Guard, Interval, Values

ADULTS = GivenCohort("adults", (GivenCondition("age", low=18),))
CONFIGS = Path(__file__).parents[3] / "pipelines" / "configs"
OWN_DATA = """
title: My data
data:
  name: files
  files:
    train: train/*.csv
    test: test.parquet
    label: clicked
    features:
      - {name: city, kind: categorical, min_count: 5}
      - {name: user, kind: categorical, dtype: int64, num_hash_buckets: 100}
      - {name: tags, kind: categorical, length: 3, missing: slot}
      - {name: price, kind: numeric, scaling: log, missing: default, default: 1.5}
    axes: [[city], [city, region]]
    axis_columns:
      - {name: region, dtype: string}
    csv: {delimiter: ";", column_names: [a, b]}
cohorts:
  axes:
    - {columns: [price, city], edges: {price: [0, 10, .inf]}, name: spend}
    - {columns: [price], quantiles: {price: [0, 0.1, 1]}, categories: []}
  given:
    - {name: rich, conditions: [{column: price, low: 100}, {column: city, values: [Rome, Bonn]}]}
    - {name: poor, conditions: [{column: price, low: 0, high: 1.5}]}
    - {name: seven, conditions: [{column: user, values: [7]}]}
    - {name: member, conditions: [{column: member, values: [true]}]}
  guard: {min_positives: 50}
  lambdas: [0.3, 0.1, 0.1, 0.1]
unit: user
"""


@pytest.fixture
def prepared(c2al, monkeypatch, tmp_path):
    """Maps a configuration file to the configuration that the command makes of it, and leaves the run in `tmp_path`."""
    runs = []
    monkeypatch.setattr(steps, "prepare_run", runs.append)

    def prepare(file: Path) -> RunConfig:
        outcome = c2al("prepare", file, "--run-dir", tmp_path / "run")
        assert outcome.status == 0, outcome.error
        return runs.pop().config

    return prepare


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_configuration_is_read_and_survives_the_run_folder(prepared, tmp_path, name) -> None:
    config = prepared(CONFIGS / f"{name}.yaml")
    assert config.data.name.startswith(
        dict.fromkeys(
            ("demo", "planted_arms", "planted_alternatives", "planted_overall", "planted_curves", "tuned_worlds"),
            "synthetic_ads",
        ).get(name, name.partition("_")[0])
    )
    assert commands._opened(Namespace(run_dir=tmp_path / "run")).config == config


def test_own_data_survives_the_run_folder(prepared, tmp_path) -> None:
    """Every kind of value: nested lists of dataclasses, infinity, a union, tuples."""
    file = tmp_path / "own.yaml"
    file.write_text(OWN_DATA)
    config = prepared(file)
    assert config.data.files.features[3].default == 1.5
    assert config.data.files.csv.column_names == ("a", "b")
    assert tuple(cohort.cohort() for cohort in config.cohorts.given) == (
        Cohort("rich", (Interval("price", 100), Values("city", ("Rome", "Bonn")))),
        Cohort("poor", (Interval("price", 0, 1.5),)),
        Cohort("seven", (Values("user", (7,)),)),
        Cohort("member", (Values("member", (True,)),)),
    )
    assert type(config.cohorts.given[3].conditions[0].values[0]) is bool
    assert config.cohorts.given[2].conditions[0].values == (7,)
    assert config.cohorts.axes[0].edges == {"price": (0.0, 10.0, float("inf"))}
    assert config.cohorts.lambdas == (0.3, 0.1, 0.1, 0.1)
    assert (config.cohorts.guard.min_positives, config.unit) == (50, "user")
    assert commands._opened(Namespace(run_dir=tmp_path / "run")).config == config


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("['18', '25']", ("18", "25")),
        ("['yes', 'no']", ("yes", "no")),
        ('["true"]', ("true",)),
        ("['null']", ("null",)),
        ("['1e3', '1.5']", ("1e3", "1.5")),
        ("['[a]', '{a: 1}', '2024-01-01']", ("[a]", "{a: 1}", "2024-01-01")),
        ("[Rome, Bonn]", ("Rome", "Bonn")),
        ("[18, 25]", (18, 25)),
        ("[true, false]", (True, False)),
    ],
)
def test_given_values_keep_their_types(prepared, tmp_path, written, values) -> None:
    file = tmp_path / "own.yaml"
    given = f"given: [{{name: mine, conditions: [{{column: x, values: {written}}}]}}]"
    file.write_text(f"title: t\ndata: {{name: census}}\ncohorts: {{{given}}}\n")
    for config in (prepared(file), commands._opened(Namespace(run_dir=tmp_path / "run")).config):
        read = config.cohorts.given[0].conditions[0].values
        assert (read, [type(value) for value in read]) == (values, [type(value) for value in values])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CohortsConfig(lambdas=()), r"`lambdas` must hold one value, or one for each of the 2 cohorts"),
        (
            lambda: CohortsConfig(lambdas=(-0.1,)),
            r"`lambdas` must be finite and at least 0 each\. .* lambdas=\(-0.1,\)",
        ),
        (lambda: CohortsConfig(lambdas=(0.1, math.nan)), r"`lambdas` must be finite and at least 0 each\."),
        (lambda: CohortsConfig(num_cohorts=1), r"`num_cohorts` must be at least 2: .* Received: num_cohorts=1"),
        (
            lambda: CohortsConfig(divergence="jensen"),
            r"`divergence` must be one of 'js', 'kl', 'wasserstein', 'cosine'",
        ),
        (lambda: DataConfig("cencus"), r"`name` must be one of 'synthetic_ads', 'census', .* Received: name='cencus'"),
        (
            lambda: DataConfig("census", negative_sampling=0.0),
            r"`negative_sampling` must be in \(0, 1\], or null. Received: negative_sampling=0.0",
        ),
        (lambda: DataConfig("census", negative_sampling=10), r"must be in \(0, 1\].* negative_sampling=10"),
        (lambda: Guard(min_positives=0.5), r"`min_positives` must be a whole number. Received: min_positives=0.5"),
        (lambda: CohortsConfig(lambdas=(1.0, 2.0, 3.0)), r"Received: lambdas=\(1.0, 2.0, 3.0\)"),
        (lambda: CohortsConfig(num_cohorts=3, lambdas=(1.0, 2.0)), r"one for each of the 3 cohorts"),
        (lambda: CohortsConfig(given=(ADULTS,), lambdas=(1.0, 2.0)), r"one for each of the 1 cohorts"),
        (lambda: CohortsConfig(given=(ADULTS, ADULTS)), r"distinct names. Received: \['adults', 'adults'\]"),
        *(
            (
                lambda name=name: CohortsConfig(given=(GivenCohort(name, ADULTS.conditions),)),
                rf"must not be named \['all', 'rest'\]: evaluation has slices of these names. Received: \['{name}'\]",
            )
            for name in ("all", "rest")
        ),
        (
            lambda: GivenCondition("age"),
            r"must give `values`, or `low`, `high` or both. Received: values=None, low=None",
        ),
        (lambda: GivenCondition("age", (1,), low=2.0), r"Received: values=\(1,\), low=2.0"),
        (lambda: GivenCohort("my cohort", (GivenCondition("age", low=18),)), r"Received: name='my cohort'"),
        (lambda: RunConfig("t", DataConfig("census"), seeds=0), r"`seeds` must be at least 1. Received: seeds=0"),
        (
            lambda: RunConfig("t", DataConfig("census"), first_seed=-1),
            r"`first_seed` must be at least 0. Received: first_seed=-1",
        ),
    ],
)
def test_rules(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_one_lambda_is_for_any_number_of_cohorts() -> None:
    assert CohortsConfig(num_cohorts=5, lambdas=(0.1,)).lambdas == (0.1,)
    assert CohortsConfig(num_cohorts=3, lambdas=(0.1, 0.2, 0.3)).num_cohorts == 3


def test_json_holds_plain_values() -> None:
    config = RunConfig("t", DataConfig("census", Path("some/folder")))
    value = config.to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["data"]["path"] == "some/folder"
    assert value["cohorts"]["lambdas"] == [0.1]


def test_values_are_frozen() -> None:
    config = RunConfig("t", DataConfig("census"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seeds = 1


def test_a_found_cohort_becomes_one_that_is_given() -> None:
    """Also one with no edge, which holds every value but a missing one."""
    cohort = Cohort("c", (Interval("age", low=18.0), Interval("gain"), Values("sex", ("F",)), Interval("x", 1.0, 2.0)))
    assert GivenCohort.of(cohort).cohort() == cohort
