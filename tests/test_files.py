from pathlib import Path

import pytest

from c2al_tf.files import read_json, replace_directory, replace_file, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replace_file(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError), replace_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "export" / "1"
    for text in ("one", "two"):
        with replace_directory(path) as temporary:
            (temporary / "file.txt").write_text(text)
        assert (path / "file.txt").read_text() == text
    with pytest.raises(RuntimeError), replace_directory(path) as temporary:
        (temporary / "other.txt").write_text("half")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["file.txt"]
    assert list(path.parent.iterdir()) == [path]


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "ü", "values": [1, None]})
    assert read_json(tmp_path / "a.json") == {"name": "ü", "values": [1, None]}
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"b.json: not valid JSON"):
        read_json(tmp_path / "b.json")
