"""Compiled kernels on disk: found by the next process, never stale, never needed, safe among processes.

Each test works on a copy of the package in an empty directory, with a cache of its own.
"""

import contextlib
import gc
import os

import pytest
from processes import finish, run, start

from fastmlp.kernels import compiling
from fastmlp.kernels.compiling import without_collections

PREDICT = """
import sys
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from fastmlp import Network
    g = Network([3, 4, 2], dtype=sys.argv[1], seed=0).predict([[0.25, 1.0, -1.0]])
print(g.tolist(), len(recorder.buffer) // 2)
"""

DELTA = """
import sys
import numpy as np
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from fastmlp import kernels
    g = np.array([[0.25, 1.0]], sys.argv[1])
    delta = np.empty_like(g)
    kernels.output_delta(delta, g, g)
print(delta.tolist(), len(recorder.buffer) // 2)
"""

FIT = """
import sys
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    from fastmlp import Network
    losses = []
    for dtype in ("float32", "float64"):
        net = Network([2, 3, 1], dtype=dtype, seed=0)
        losses += net.fit([[0, 1], [1, 0], [1, 1]], [[0], [1], [1]], epochs=2, batch_size=2).loss
assert recorder.buffer or "numba.np.linalg" not in sys.modules  # which Numba compiles with, and imports SciPy
print(losses, len(recorder.buffer) // 2)
"""

CALLER = """
import numpy as np
from numba import njit
from fastmlp import kernels

@njit(cache=True)
def double(c, a, b, panels):
    kernels.product(c, a, b, panels, kernels.SERIAL)
    c *= 2

a = np.eye(3)
c = np.empty((3, 3))
double(c, a, a, np.empty(kernels.panels_size(3, 3, 3, 8)))
print(c.sum())
"""


def test_the_next_process_compiles_nothing_and_gives_the_same(site, monkeypatch):
    """Nor what another dtype needs too, for functions that are called by their address are kept without bitcode."""
    monkeypatch.setenv("FASTMLP_COMPILERS", "1")  # what another one compiles is not counted
    first, compiled = run(site, PREDICT, "f4")
    assert run(site, PREDICT, "f4") == (first, 0)
    first, of_other = run(site, PREDICT, "f8")
    assert 0 < of_other < compiled
    assert run(site, PREDICT, "f8") == (first, 0)


def test_code_that_is_generated_for_a_network_is_kept_too(site):
    first, compiled = run(site, FIT)
    assert compiled > 0
    assert run(site, FIT) == (first, 0)


def test_an_edited_kernel_is_not_run_stale_through_the_files_that_import_it(site, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # Python itself believes the size and time of a source
    before, _ = run(site, DELTA, "f4")
    source = site / "fastmlp" / "kernels" / "activation.py"
    stat, text = source.stat(), source.read_text()
    assert "return g * (1 - g)" in text
    source.write_text(text.replace("return g * (1 - g)", "return g * (2 - g)"))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time: only the content tells
    after, compiled = run(site, DELTA, "f4")
    assert compiled > 0
    assert after != before
    source.write_text(text)
    assert run(site, DELTA, "f4")[0] == before


def test_damaged_files_are_compiled_again(site):
    before, _ = run(site, FIT)
    files = list((site / "cache").rglob("*.nbc"))
    assert len(files) >= 3
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes((content[: len(content) // 2], b"", content[:-1] + b"?")[number % 3])
    after, compiled = run(site, FIT)
    assert after == before
    assert compiled > 0
    assert run(site, FIT) == (before, 0)


def test_a_file_of_other_sources_is_none(tmp_path):
    """It is not taken for one that another process has compiled, either."""
    file = compiling._File(tmp_path, "name")
    assert not file.has("key")
    file.save("key", "code")
    assert file.has("key")
    assert file.load("key") == "code"
    content = file.path("key").read_bytes()
    file.path("key").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert not file.has("key")
    assert file.load("key") is None


def test_processes_that_compile_at_the_same_time(site):
    together = [start(site, PREDICT, dtype, FASTMLP_COMPILERS=None) for dtype in ("f4", "f8", "f4", "f8")]
    results = [finish(process).rpartition(" ")[0] for process in together]
    assert results[0] == results[2]
    assert results[1] == results[3]
    assert [run(site, PREDICT, "f4"), run(site, PREDICT, "f8")] == [(results[0], 0), (results[1], 0)]


def test_a_read_only_installation_without_a_home_trains_uncached(site):
    for folder in ("fastmlp", "fastmlp/kernels"):
        (site / folder / "__pycache__").write_text("a file here makes the folder impossible, for root too")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "NUMBA_CACHE_DIR": None}
    script = """
from fastmlp import Network
history = Network([2, 3, 1], seed=0).fit([[0, 1], [1, 0]], [[0], [1]], epochs=2)
print(len(history.loss))
"""
    assert finish(start(site, script, PYTHONDONTWRITEBYTECODE="1", **nowhere)) == "2\n"
    assert not list(site.rglob("*.nb[ci]"))


def test_a_cached_caller_of_cached_kernels_is_compiled_again_after_one_is_edited(site):
    """Its code reaches the threading layer without having compiled what does: whoever loads it must load the layer."""
    assert finish(start(site, CALLER.replace("cache=True", "cache=False"))) == "6.0\n"
    (site / "caller.py").write_text(CALLER)
    for _ in range(3):
        assert finish(start(site, "import caller")) == "6.0\n"
    source = site / "fastmlp" / "kernels" / "epilogue.py"
    text = source.read_text()
    assert "c, scale: total)," in text
    source.write_text(text.replace("c, scale: total),", "c, scale: total + total),"))
    assert finish(start(site, "import caller")) == "12.0\n"


def fails():
    raise ValueError


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("compile_function", [gc.isenabled, fails])
def test_garbage_is_collected_after_a_compilation_as_before_it(collecting, compile_function):
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with contextlib.suppress(ValueError):
            assert not without_collections(compile_function)()
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
