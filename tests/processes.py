"""Scripts in processes of their own, with an installed copy of the package and a cache of kernels that is theirs."""

import os
import subprocess
import sys


def start(site, script, *arguments, **environment):
    """Start `script` with the copy first on the path, at the front of any editable installation."""
    settings = {"PYTHONPATH": str(site), "NUMBA_CACHE_DIR": str(site / "cache"), **environment}
    settings = {name: value for name, value in {**os.environ, **settings}.items() if value is not None}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=site)


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def run(site, script, *arguments):
    """(result, number of functions compiled) of a script."""
    result, _, compiled = finish(start(site, script, *arguments)).rpartition(" ")
    return result, int(compiled)
