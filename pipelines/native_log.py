"""Keeps TensorFlow's C++ notes off the terminal: no environment variable silences those before its logging starts."""

import os
import shutil
import subprocess
import sys

_NOTES = (
    "^([IW][0-9]{4} |E[0-9]{4} .*(cuInit|oneDNN supports)|WARNING: All log messages before absl"
    "|To enable the following instructions"
    "|[[:space:]]+\\[\\[\\{\\{(function_)?node )"  # the rest of a warning, where an operation refused its arguments
)


def hide_native_notes() -> None:
    """Drops information and warnings that native code writes to stderr; errors, and Python's stderr, pass unchanged."""
    grep = shutil.which("grep")
    if grep is None:
        return
    terminal = os.dup(2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    # A process of its own: what native code says last, before it aborts, still gets through. It ends with us; a Ctrl-C
    # in the terminal must not end it first.
    command = [grep, "--line-buffered", "--text", "--invert-match", "--extended-regexp", _NOTES]
    relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, start_new_session=True)
    assert relay.stdin is not None
    os.dup2(relay.stdin.fileno(), 2)
    relay.stdin.close()
