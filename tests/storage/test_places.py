"""A URL and the path of its copy name each other."""

from pathlib import Path

import pytest

from c2al_tf.storage import is_input, is_kept, is_url, local_path, shown, with_urls
from c2al_tf.storage.places import as_input, of_shown


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("C2AL_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "url", ["s3://logs/day=2026-11-26/part 0.parquet", "gs://b", "abfss://c@a.dfs.x/k", "hdfs://h:9000/k"]
)
def test_a_copy_is_shown_by_its_url(url: str, cache: Path) -> None:
    path = local_path(url)
    assert is_url(url)
    assert path.is_relative_to(cache)
    assert is_kept(path)
    assert not is_input(path)
    assert shown(path) == url
    assert is_input(as_input(path))
    assert shown(as_input(path)) == url
    assert of_shown(url) == as_input(path)


def test_a_path_object_of_a_url_is_a_url() -> None:
    assert local_path(Path("s3://logs/x")) == local_path("s3://logs/x")
    assert local_path(Path("s3://logs") / "x") == local_path("s3://logs/x/")


@pytest.mark.parametrize("path", ["runs/s3", "/data/s3:x", "s3", "file.parquet", "C:/x"])
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert not is_url(path)
    assert local_path(path) == Path(path)
    assert shown(Path(path)) == path
    assert of_shown(path) == Path(path)


@pytest.mark.parametrize("url", ["s3://b//k", "s3://b/../k", "s3://b/./k"])
def test_a_url_that_is_no_path_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="whose parts are not empty"):
        local_path(url)


def test_a_url_without_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="must name a bucket or host"):
        local_path("hdfs:///user/me")


def test_a_folder_of_copies_that_reads_as_a_pattern_is_refused_for_urls_alone(monkeypatch) -> None:
    monkeypatch.setenv("C2AL_CACHE", "/data/[x]")
    assert local_path("runs/x") == Path("runs/x")
    assert not is_kept(Path("/data/x"))
    with pytest.raises(ValueError, match="set C2AL_CACHE"):
        local_path("s3://b/k")


def test_a_text_calls_copies_by_their_urls() -> None:
    kept, read = local_path("s3://b/x/y"), of_shown("gs://c/z")
    text = f"{kept}: 3 rows; also in {read}. See s3:/b/k and https://s3://no, not /a/s3:/b"
    assert with_urls(text) == "s3://b/x/y: 3 rows; also in gs://c/z. See s3://b/k and https://s3://no, not /a/s3:/b"
