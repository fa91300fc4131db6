"""No kernel reads or writes outside its arrays: operands between unreadable pages, in a process that would die."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
SCRIPT = Path(__file__).with_name("guard.py")


def run(argument):
    return subprocess.run([sys.executable, SCRIPT, argument], check=False, capture_output=True, text=True)


def test_nothing_outside_the_arrays_is_touched(dtype):
    done = run(dtype.name)
    assert done.returncode == 0, done.stderr


def test_the_guard_would_notice():
    assert run("touch").returncode in (-signal.SIGSEGV, -signal.SIGBUS)
