"""Three days of the daily job, run as written: a bad model stays away, a drift is said on its day."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CONFIG = """
title: Clicks of a day
data:
  name: files
  files:
    train: train.parquet
    test: test.parquet
    label: click
    more_labels: [buy]
    features:
      - {name: city, kind: categorical}
      - {name: age, kind: numeric, num_buckets: 10}
    axes: [[city]]
    axis_columns: [{name: user, dtype: int64}]
unit: user
training: {batch_size: 200, learning_rate: 0.03}
seeds: 2
"""
CITIES = np.array(["Bern", "Oslo", "Rome"], object)


def write_day(folder: Path, seed: int, favoured: str, mislabelled: str | None = None) -> None:
    """Clicks, which people of one city make far more often; some trains on labels that are wrong in one city."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rng = np.random.default_rng((seed, split == "train"))
        city, age = rng.choice(CITIES, 8000), rng.integers(18, 80, 8000)
        rate = np.where(city == favoured, 0.7, 0.15) * np.where(age < 50, 1.0, 0.5)
        click = (rng.random(8000) < rate).astype(np.int64)
        if split == "train" and mislabelled:
            click = np.where(city == mislabelled, 1 - click, click)
        columns = {"city": city, "age": age, "user": rng.integers(0, 6000, 8000), "click": click}
        columns["buy"] = click * (rng.random(8000) < 0.5)
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")


@pytest.mark.slow
def test_three_days(tmp_path, run_example, tiny_model, capsys) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    base_path = tmp_path / "ranker"

    def job(day: str, **what: str) -> tuple[int, str]:
        folder = tmp_path / "logs" / f"day={day}"
        if not folder.exists():
            write_day(folder, int(day), **what)
        words = ["--data", folder, "--day", day, "--runs", tmp_path / "runs", "--base-path", base_path]
        with pytest.raises(SystemExit) as end:
            run_example("daily_job", tmp_path / "config.yaml", *words, *tiny_model)
        return end.value.code, capsys.readouterr().out

    def served() -> list[str]:
        return sorted(path.name for path in base_path.iterdir())

    assert job("1", favoured="Oslo")[0] == 0
    assert served() == ["1"]
    status, said = job("2", favoured="Oslo", mislabelled="Rome")
    assert (status, served()) == (3, ["1"])
    assert "city_Rome" in said[said.index("$ c2al gate") :]
    status, said = job("3", favoured="Bern")
    assert (status, served()) == (4, ["1", "2"])
    assert f"--warm_start {tmp_path}/runs/1" in said, "the last that was published"
    assert "Drift: " in said
    assert "Bern" in said[said.rindex("Drift: ") :]
    status, said = job("3")
    assert (status, served()) == (4, ["1", "2"]), "once"
    assert "Published before" in said
