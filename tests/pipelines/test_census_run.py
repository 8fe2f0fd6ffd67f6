"""The whole run on Census-Income (KDD), one seed: minutes, so `slow`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from c2al_serving.client import PredictClient
from c2al_serving.server import Server

from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.saved_model import SavedModel
from c2al_tf.schema import Column, Schema

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run_dir(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; `C2AL_CENSUS_RUN` names one to be used, or to be finished, instead of a new one."""
    folder = Path(os.environ.get("C2AL_CENSUS_RUN") or tmp_path_factory.mktemp("runs") / "census")
    config = folder / "config.json"
    seeds = json.loads(config.read_text())["seeds"] if config.exists() else 1
    command = [Path(sys.executable).with_name("c2al"), "run", ROOT / "pipelines/configs/census.yaml"]
    data = real_data / "census_income_kdd"
    subprocess.run([*command, "--data", data, "--run-dir", folder, "--seeds", str(seeds)], check=True)
    return folder


@pytest.fixture(scope="module")
def test_rows(run_dir: Path) -> dict[str, np.ndarray]:
    columns = Schema.load(run_dir / "schema.json").columns
    return dict(concatenate(list(read_columns(sorted((run_dir / "data").glob("test-*")), columns))))


@pytest.fixture(scope="module")
def exported(run_dir: Path) -> dict:
    return json.loads((run_dir / "export.json").read_text())


def test_the_baseline_is_as_good_as_a_public_one(run_dir: Path) -> None:
    baseline = json.loads((run_dir / "metrics.json").read_text())["baseline"]["all"]
    assert (baseline["rows"], baseline["positives"]) == (99_762, 6_186)
    assert baseline["ne"] <= 0.525
    assert baseline["auc"] >= 0.954


def test_the_under_18_cohort_is_refused_and_the_reason_said(run_dir: Path) -> None:
    pairs = json.loads((run_dir / "cohorts.json").read_text())["pairs"]
    young = [pair for pair in pairs if "age_0_18" in (pair["head"], pair["tail"])]
    assert young
    assert all("age in [0, 18)` has 2 positives" in p["reasons"]["positives"] for p in young)


def test_the_export_on_the_c_api_gives_what_the_server_gives(run_dir: Path, test_rows: dict, exported: dict) -> None:
    """On all 99,762 test rows; and NE and AUC recomputed from it are its seed's in `metrics_by_seed.json`."""
    schema = Schema.load(run_dir / "schema.json")
    rows = {feature.name: test_rows[feature.name] for feature in schema.features}
    with SavedModel(run_dir / "export" / exported["version"]) as model:
        logits = model.run(rows)["logits"]
    with Server(run_dir / "export") as server, PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        served = client.predict(rows)["logits"]
    np.testing.assert_allclose(logits, served, rtol=0, atol=1e-5)
    figures = slice_metrics(logits, test_rows["label"])
    by_seed = json.loads((run_dir / "metrics_by_seed.json").read_text())["seeds"]
    recorded = next(entry for entry in by_seed if entry["seed"] == exported["seed"])["c2al"]["all"]
    assert figures["ne"] == pytest.approx(recorded["ne"], abs=1e-6)
    assert figures["auc"] == pytest.approx(recorded["auc"], abs=1e-6)


def test_the_archives_text_gives_the_same_rows(run_dir: Path, real_data: Path, test_rows: dict, tmp_path: Path) -> None:
    """`census-income.test.gz`, as the UCI archive has it, through `c2al prepare`."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train.parquet", "census-income.test.gz"):
        (data / name).symlink_to(real_data / "census_income_kdd" / name)
    command = [Path(sys.executable).with_name("c2al"), "prepare", ROOT / "pipelines/configs/census.yaml"]
    subprocess.run([*command, "--data", data, "--run-dir", tmp_path / "run"], check=True)
    columns = {name: Column(name, c.dtype) for name, c in Schema.load(run_dir / "schema.json").columns.items()}
    rows = concatenate(list(read_columns(sorted((tmp_path / "run" / "data").glob("test-*")), columns)))
    assert set(rows) == set(test_rows)
    for name, values in rows.items():
        np.testing.assert_array_equal(values, test_rows[name], err_msg=name)
