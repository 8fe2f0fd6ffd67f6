"""What is freed stays with the process, once it is told so."""

import platform
from importlib.util import find_spec

import pytest

# Run as a file: it needs nothing of its package, which would load TensorFlow.
MODULE = find_spec("c2al_tf.training.allocation").origin

CODE = """
import runpy
import sys
from pathlib import Path

import numpy as np

told = sys.argv[1] == "kept" and runpy.run_path(sys.argv[2])["keep_freed_memory"]()
megabytes = [np.ones(2**20, np.uint8) for _ in range(3)] + [np.ones(200 * 2**20, np.uint8)]
del megabytes
resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
print(told, int(resident.split()[1]) // 1024)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_freed_memory_is_kept(run_python) -> None:
    (_, returned), (told, kept) = (run_python(CODE, word, MODULE).stdout.split() for word in ("returned", "kept"))
    assert told == "True"
    assert int(kept) > int(returned) + 150
