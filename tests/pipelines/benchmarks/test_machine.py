import re
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.benchmarks.machine import process_mb


def test_resident_memory_falls_and_its_peak_stays() -> None:
    before = process_mb("VmRSS")
    block = np.ones(300_000_000 // 8)
    risen = process_mb("VmRSS")
    assert risen - before > 200
    del block
    assert risen - process_mb("VmRSS") > 200
    assert process_mb("VmHWM") >= risen - 1
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert process_mb("VmRSS") == pytest.approx(int(kilobytes[1]) * 1024 / 1e6, rel=0.05)


def test_a_process_that_has_ended_has_no_memory() -> None:
    assert process_mb("VmRSS", 2**30) == 0
