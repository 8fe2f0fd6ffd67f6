"""Versions that come and go under requests, on real SavedModels."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from c2al_serving.client import PredictClient
from c2al_serving.config.model_config import ModelConfig, VersionPolicy
from c2al_serving.lifecycle.models import Models
from c2al_serving.lifecycle.versions import find_versions
from c2al_serving.protocol.errors import RequestError
from c2al_serving.servable.loading import load_servable
from c2al_serving.server import Server

from c2al_tf.protocol.messages import ModelSpec, ModelVersionStatus

BIAS = {"1": 0.0, "2": 3.0}
"""Of the versions of `export`: their logits differ by it."""


@pytest.fixture
def publish(export, tmp_path) -> Callable[..., Path]:
    """`publish(number, source)` puts a copy of one of the export's versions into place at once."""

    def put(number: int, source: str = "1", model: str = "ads", without: str = "") -> Path:
        target = tmp_path / model / str(number)
        copy = tmp_path / model / f".copy-{number}"
        shutil.copytree(export.base_path / source, copy, ignore=shutil.ignore_patterns(without))
        os.rename(copy, target)
        return target

    return put


def config(tmp_path: Path, model: str = "ads", **rest) -> ModelConfig:
    return ModelConfig(model, tmp_path / model, **rest)


def spec(name: str = "ads", version: int | None = None, label: str = "") -> ModelSpec:
    asked = ModelSpec(name=name)
    if version is not None:
        asked.version.value = version
    if label:
        asked.version_label = label
    return asked


def answering(models: Models, **asked) -> int:
    with models.use(spec(**asked)) as servable:
        return servable.version


def states(models: Models, name: str = "ads") -> dict[int, str]:
    found = models.status(spec(name)).model_version_status
    return {status.version: ModelVersionStatus.State.Name(status.state) for status in found}


@pytest.fixture
def look_again(monkeypatch, until) -> Callable[[], None]:
    """Waits for a whole look for versions: of the two that end next, one may have begun before."""
    looks = []
    update = Models._update

    def counted(self, *args, **rest):
        try:
            update(self, *args, **rest)
        finally:
            looks.append(self)

    monkeypatch.setattr(Models, "_update", counted)

    def wait() -> None:
        enough = len(looks) + 2
        until(lambda: len(looks) >= enough)

    return wait


def test_a_new_version_takes_over(publish, tmp_path, until) -> None:
    publish(3)
    with Models([config(tmp_path)], poll_seconds=0.02) as models:
        assert answering(models) == 3
        publish(4, "2")
        until(lambda: states(models) == {4: "AVAILABLE", 3: "END"})
        assert answering(models) == 4
        with pytest.raises(RequestError, match=r"Specific\(ads, 3\). Versions: 4"):
            answering(models, version=3)


def test_the_old_version_goes_after_a_pause_with_the_new_one(publish, tmp_path, monkeypatch, until, look_again) -> None:
    publish(3)
    monkeypatch.setattr("c2al_serving.lifecycle.models._MAX_PAUSE", 0.02)
    with Models([config(tmp_path)], poll_seconds=0.02) as models:
        there, wait = [], models._closing.wait
        monkeypatch.setattr(models._closing, "wait", lambda s: there.append(models.available()["ads"]) or wait(s))
        publish(4, "2")
        until(lambda: states(models)[3] == "END")
        look_again()  # and finds nothing to do
    assert [3, 4] in there


def test_a_version_goes_when_its_requests_are_answered(publish, export, tmp_path, until) -> None:
    publish(1)
    with Models([config(tmp_path)], poll_seconds=0.02) as models:
        with models.use(spec()) as servable:
            publish(2, "2")
            until(lambda: states(models) == {2: "AVAILABLE", 1: "UNLOADING"})
            assert answering(models) == 2
            assert servable.model.run(export.columns)["logits"].shape == (64, 1)
        until(lambda: states(models)[1] == "END")


def test_a_bad_version_takes_no_place(publish, export, tmp_path, caplog, until, look_again) -> None:
    """It is tried again as often as asked for, then only after it was away."""
    publish(1)
    with Models([config(tmp_path)], poll_seconds=0.02, retries=2, retry_seconds=0.0) as models:
        bad = publish(5, "2", without="variables")
        until(lambda: states(models).get(5) == "END")
        assert answering(models) == 1
        status = models.status(spec(version=5)).model_version_status[0].status
        assert "incomplete SavedModel: it has no variables/variables.index" in status.error_message
        assert caplog.text.count("cannot be loaded; again in 0 s") == 2
        shutil.copytree(export.base_path / "2" / "variables", bad / "variables")
        look_again()
        assert states(models)[5] == "END"  # as in the real server
        bad.rename(tmp_path / "ads" / "away")
        look_again()
        (tmp_path / "ads" / "away").rename(bad)
        until(lambda: states(models)[5] == "AVAILABLE")
        assert answering(models) == 5


def test_a_version_that_is_tried_again_is_still_loading(publish, tmp_path, until, look_again) -> None:
    publish(1)
    with Models([config(tmp_path)], poll_seconds=0.02, retry_seconds=3600.0) as models:
        publish(5, "2", without="variables")
        until(lambda: 5 in states(models))
        look_again()
        assert states(models) == {5: "LOADING", 1: "AVAILABLE"}
        assert models.status(spec(version=5)).model_version_status[0].status.error_code == 0
        assert answering(models) == 1


def test_versions_that_are_all_removed_are_unloaded(publish, tmp_path, caplog, until) -> None:
    publish(1)
    with Models([config(tmp_path)], poll_seconds=0.02) as models:
        shutil.rmtree(tmp_path / "ads" / "1")
        until(lambda: states(models) == {1: "END"})
        with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(ads\)"):
            answering(models)
        assert "No versions of servable ads found under base path" in caplog.text
        publish(1)
        until(lambda: states(models) == {1: "AVAILABLE"})


def test_policies(publish, tmp_path) -> None:
    for number in (1, 2, 3):
        publish(number)
    policies = {
        VersionPolicy(latest=2): {2, 3},
        VersionPolicy(latest=None): {1, 2, 3},
        VersionPolicy(specific=(1, 3)): {1, 3},
    }
    with Models([config(tmp_path)], poll_seconds=None) as models:
        for policy, numbers in policies.items():
            models.reload([config(tmp_path, versions=policy)])
            available = {number for number, state in states(models).items() if state == "AVAILABLE"}
            assert available == numbers
            assert answering(models) == 3


def test_labels(publish, tmp_path) -> None:
    publish(1)
    publish(2)
    both = VersionPolicy(latest=None)
    with Models([config(tmp_path, versions=both)], poll_seconds=None) as models:
        models.reload([config(tmp_path, versions=both, labels={"stable": 1, "canary": 2})])
        assert [answering(models, label=label) for label in ("stable", "canary")] == [1, 2]
        with pytest.raises(RequestError, match="Unrecognized servable version label: beta. Labels: canary, stable"):
            answering(models, label="beta")
        assert len(models.status(spec(label="stable")).model_version_status) == 2  # no label is looked at, as there
        with pytest.raises(RequestError, match="label to version 7 of model ads, which is not currently") as no:
            models.reload([config(tmp_path, versions=both, labels={"stable": 7})])
        assert no.value.code == 9  # FAILED_PRECONDITION
        assert answering(models, label="stable") == 1  # as before
        models.reload([config(tmp_path, versions=both, labels={"stable": 2})])
        assert answering(models, label="stable") == 2


def test_labels_of_versions_that_are_still_to_come(publish, tmp_path) -> None:
    publish(1)
    labelled = config(tmp_path, labels={"stable": 1})
    with pytest.raises(RequestError, match="--allow-version-labels-for-unavailable-models"):
        Models([labelled], poll_seconds=None).start()
    with Models([labelled], poll_seconds=None, allow_unavailable_labels=True) as models:
        assert answering(models, label="stable") == 1
        models.reload([config(tmp_path, labels={"stable": 1, "canary": 2})])
        with pytest.raises(RequestError, match=r"Specific\(ads, 2\)"):
            answering(models, label="canary")
        with pytest.raises(RequestError, match="label to version 2"):  # one that is set moves to what is loaded
            models.reload([config(tmp_path, labels={"stable": 2})])
        publish(2)
        models.reload([config(tmp_path, versions=VersionPolicy(latest=2), labels={"canary": 2})])
        assert answering(models, label="canary") == 2


def test_models_come_and_go_by_reload(publish, tmp_path) -> None:
    publish(1)
    publish(1, model="feed")
    with Models([config(tmp_path)], poll_seconds=None) as models:
        with models.use(spec()) as before:
            models.reload([config(tmp_path), config(tmp_path, "feed")])
        with models.use(spec()) as after:
            assert after is before  # it was not loaded anew
        assert answering(models, name="feed") == 1
        models.reload([config(tmp_path, "feed")])
        with pytest.raises(RequestError, match=r"Latest\(ads\). Models: feed"):
            answering(models)
        with pytest.raises(ValueError, match="Could not find base path .*absent"):
            models.reload([config(tmp_path), config(tmp_path, "absent")])
        publish(1, model="bad", without="variables")
        with pytest.raises(ValueError, match="did not become available: .*name: bad version: 1. due to error"):
            models.reload([config(tmp_path), config(tmp_path, "bad")])
        assert models.available() == {"feed": [1]}


def test_storage_that_is_away_changes_nothing(publish, tmp_path, caplog, until, look_again) -> None:
    publish(1)
    with Models([config(tmp_path)], poll_seconds=0.02) as models:
        os.rename(tmp_path / "ads", tmp_path / "away")
        until(lambda: "model ads: Could not find base path" in caplog.text)
        look_again()
        assert caplog.text.count("Could not find base path") == 1
        assert answering(models) == 1
        os.rename(tmp_path / "away", tmp_path / "ads")
        publish(2)
        until(lambda: answering(models) == 2)


def test_a_version_whose_storage_fails_is_tried_again(publish, tmp_path, caplog) -> None:
    publish(1)
    failures = [OSError("the storage is away")]

    def load(*args, **rest):
        if failures:
            raise failures.pop()
        return load_servable(*args, **rest)

    with Models([config(tmp_path)], poll_seconds=None, load=load, retry_seconds=0.01) as models:
        assert answering(models) == 1
    assert "again in 0.01 s: the storage is away" in caplog.text


def test_a_broken_version_ends_the_start_once_it_was_tried(publish, tmp_path) -> None:
    publish(2)
    publish(3, without="variables")
    with pytest.raises(ValueError, match=r"1 servable\(s\) did not become available: .*name: ads version: 3."):
        Models([config(tmp_path)], poll_seconds=0.02, retries=1, retry_seconds=0.0).start()


def test_folders_whose_number_no_version_can_have_are_none(tmp_path) -> None:
    for name in ("1", "007", str(2**63 - 1), str(2**63), "9" * 200, "1a", "-1"):
        (tmp_path / name).mkdir()
    assert list(find_versions(tmp_path)) == [1, 7, 2**63 - 1]


def test_a_model_without_a_version_that_its_policy_chooses(publish, tmp_path) -> None:
    publish(1)
    with pytest.raises(ValueError, match=r"No versions of servable ads found .* VersionPolicy\(.*specific=\(4,\)\)"):
        Models([config(tmp_path, versions=VersionPolicy(specific=(4,)))], poll_seconds=None).start()


def test_no_request_fails_while_versions_change(publish, export, tmp_path, until) -> None:
    """20 versions, 3 that cannot be loaded and 5 reloads under requests: each answer is that of one whole version."""
    publish(1)
    publish(1, model="feed")
    expected = {number: export.logits - BIAS["2"] + BIAS[source] for number, source in ((0, "2"), (1, "1"))}
    seen: set[int] = set()
    done = threading.Event()
    kinds: set[int] = set()
    with (
        Server([config(tmp_path)], poll_seconds=0.02, retries=0) as server,
        ThreadPoolExecutor(4) as pool,
        contextlib.ExitStack() as stack,
    ):

        def ask() -> None:
            with PredictClient(f"127.0.0.1:{server.grpc_port}", "ads") as client:
                while not done.is_set():
                    logits = client.predict(export.columns)["logits"]
                    (kind,) = (k for k, value in expected.items() if np.allclose(logits, value, atol=1e-5))
                    seen.add(kind)

        stack.callback(done.set)
        asking = [pool.submit(ask) for _ in range(4)]
        for number in range(2, 22):
            if number in (5, 11, 17):
                publish(number + 100, without=("variables", "saved_model.pb", "assets")[number % 3])
                until(lambda: states(server.models).get(number + 100) == "END")  # noqa: B023
                shutil.rmtree(tmp_path / "ads" / str(number + 100))
            if number % 4 == 0:
                server.models.reload([config(tmp_path), config(tmp_path, "feed")][: 1 + number // 4 % 2])
            publish(number, "2" if number % 2 == 0 else "1")
            until(lambda: answering(server.models) == number)  # noqa: B023
            seen.clear()
            until(lambda: seen or any(future.done() for future in asking))  # an answer of this version
            kinds |= seen
        done.set()
        for future in asking:
            future.result()
    assert kinds == {0, 1}
