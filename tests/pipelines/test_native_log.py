from collections.abc import Callable

import pytest

BEFORE = """
import os, sys, threading
from c2al_pipelines.native_log import hide_native_notes
hide_native_notes()
"""


@pytest.fixture
def stderr_of(run_python) -> Callable[[str], list[str]]:
    def run(code: str) -> list[str]:
        done = run_python(BEFORE + code, check=False)
        assert done.stdout == ""
        return done.stderr.splitlines()

    return run


def test_notes_are_dropped(stderr_of) -> None:
    notes = [
        "I0000 00:00:1700000000.000000   42 port.cc:153] oneDNN custom operations are on.",
        "W0000 00:00:1700000000.000000   42 gpu_device.cc:2] Cannot dlopen some GPU libraries.",
        "E0000 00:00:1700000000.000000   42 cuda_platform.cc:51] failed call to cuInit: INTERNAL",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "\t [[{{function_node __inference_serving_default_1}}{{node stack}}]]",
        "\t [[{{node serving_default_age}}]]",
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow",
    ]
    assert stderr_of("; ".join(f"os.write(2, {note!r}.encode() + b'\\n')" for note in notes)) == []


def test_errors_pass_even_when_the_process_ends_at_once(stderr_of) -> None:
    error = "E0000 00:00:1700000000.000000   42 saved_model.cc:7] no such op"
    lines = ["I0000 a note", error, "Traceback of a thread", "the last line, without an end"]
    assert stderr_of(f"os.write(2, {chr(10).join(lines)!r}.encode())") == lines[1:]


def test_pythons_own_stderr_passes_unchanged(stderr_of) -> None:
    code = "print('I0000 looks like a note, ö', file=sys.stderr); sys.exit('c2al: a message')"
    assert stderr_of(code) == ["I0000 looks like a note, ö", "c2al: a message"]


def test_an_uncaught_error_shows_its_traceback(stderr_of) -> None:
    assert stderr_of("raise ValueError('an error')")[-1] == "ValueError: an error"
