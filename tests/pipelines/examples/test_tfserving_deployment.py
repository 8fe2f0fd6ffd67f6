"""The way in for those who have a TensorFlow Serving deployment, run as written, on fewer rows."""

import re


def test_version_2_is_published_and_rolled_back(tmp_path, run_example) -> None:
    printed = run_example("tfserving_deployment", "--rows", 20_000, "--output", tmp_path)
    assert "Verdict: good" in printed
    answers = re.findall(r"version (\d) answers: (.*)", printed)
    assert [version for version, _ in answers] == ["1", "2", "1"]
    assert answers[0] == answers[2] != answers[1]
