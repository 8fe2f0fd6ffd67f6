import gzip

import pytest
from c2al_pipelines.datasets.text import read_lines, whole_numbers


def _write(tmp_path, content):
    path = tmp_path / "rows.dat"
    path.write_bytes(content)
    return path


def test_fields_are_trimmed_and_quotes_are_text(tmp_path):
    table = read_lines(_write(tmp_path, b' a, "b\n c ,?\n'), ("x", "y"), ",")
    assert table.to_pydict() == {"x": ["a", "c"], "y": ['"b', "?"]}


def test_long_separator_and_encoding(tmp_path):
    table = read_lines(_write(tmp_path, "1::Café: Noir, a::x\n".encode("latin1")), ("n", "title", "z"), "::", "latin1")
    assert table.to_pydict() == {"n": ["1"], "title": ["Café: Noir, a"], "z": ["x"]}


def test_compressed(tmp_path):
    path = tmp_path / "rows.dat.gz"
    path.write_bytes(gzip.compress(b"1,2\n"))
    assert read_lines(path, ("x", "y"), ",").num_rows == 1


@pytest.mark.parametrize(("line", "count"), [(b"5::6::7", 3), (b"5", 1)])
def test_wrong_number_of_fields(tmp_path, line, count):
    path = _write(tmp_path, b"1::2\n3::4\n" + line + b"\n7::8\n")
    with pytest.raises(
        ValueError, match=rf"rows\.dat: line 3 must have 2 fields, separated by `::`. Received: {count}"
    ):
        read_lines(path, ("x", "y"), "::")


def test_not_a_number(tmp_path):
    path = _write(tmp_path, b"1,2\n3,4.5\n")
    table = read_lines(path, ("x", "y"), ",")
    assert whole_numbers(table, "x", path).to_pylist() == [1, 3]
    with pytest.raises(ValueError, match=r"rows\.dat: line 2: `y` must be a whole number. Received: '4\.5'"):
        whole_numbers(table, "y", path)


def test_blank_line(tmp_path):
    path = _write(tmp_path, b"1,2\n\n3,4\n")
    with pytest.raises(ValueError, match=r"rows\.dat: line 2: `x` must be a whole number. Received: ''"):
        whole_numbers(read_lines(path, ("x", "y"), ","), "x", path)


def test_empty_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.dat: must be a whole, non-empty text file"):
        read_lines(_write(tmp_path, b""), ("x", "y"), ",")
    path = tmp_path / "torn.dat.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 1000)[:-10])
    with pytest.raises(ValueError, match=r"torn\.dat\.gz: must be a whole"):
        read_lines(path, ("x", "y"), ",")
