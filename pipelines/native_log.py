"""Keeps TensorFlow's C++ notes off the terminal: no environment variable silences those before its logging starts."""

import atexit
import os
import re
import sys
import threading

_NOTE = re.compile(
    rb"[IW]\d{4} |E\d{4} .*cuInit|WARNING: All log messages before absl|To enable the following instructions"
)


def hide_native_notes() -> None:
    """Drops information and warnings that native code writes to stderr; errors, and Python's stderr, pass unchanged."""
    terminal = os.dup(2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 2)
    os.close(write_end)

    def relay() -> None:
        with os.fdopen(read_end, "rb") as lines:
            for line in lines:
                if not _NOTE.match(line):
                    os.write(terminal, line)

    thread = threading.Thread(target=relay, name="native-log", daemon=True)
    thread.start()

    def drain() -> None:
        os.dup2(terminal, 2)  # closes the pipe, so that the relay ends
        thread.join(1.0)

    atexit.register(drain)
