"""Python processes that tests start, signal and wait for."""

import os
import subprocess
import sys
import textwrap
import time


def python(code, *arguments, **kwargs):
    """A Python process that runs `code`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def finished(process):
    """Standard output of a process that must succeed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def until(condition, seconds=60):
    """Waits for `condition` to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_is_gone(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False
