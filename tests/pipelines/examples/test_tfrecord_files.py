"""The way in for those who have TFRecords, run as written, on fewer rows; then its page's Python, as printed."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "pipelines" / "datasets" / "TFRECORD.md"


@pytest.fixture
def python_of_the_page() -> str:
    _, block = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return block


def test_it_answers_and_its_export_takes_records(
    tmp_path, monkeypatch, run_example, tiny_model, python_of_the_page
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_example("tfrecord_files", "--rows", 8000, "--seeds", 1, *tiny_model)
    assert "answer: undecided" in printed  # one seed decides nothing
    (answers,) = re.findall(r"click probabilities of two records: \[(.*)\]", printed)
    assert all(0 < float(value) < 1 for value in answers.split())
    namespace: dict[str, object] = {}
    exec(python_of_the_page, namespace)
    assert namespace["logits"].shape == (512, 1)
