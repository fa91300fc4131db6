"""Hard shapes and forms of operands, and a package of their own, for all tests."""

import os
import re
import shutil
from pathlib import Path

os.environ.setdefault("FASTMLP_COMPILERS", "1")  # the processes that share the tests have a CPU each

import numpy as np
import pytest

import fastmlp
import fastmlp._network
from fastmlp import _training, kernels
from fastmlp._memory import aligned_empty
from fastmlp.kernels.blocking import MR
from fastmlp.kernels.host import HOST


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def without_own_code(monkeypatch):
    """Tiny networks are trained as all small ones are."""
    own_code = _training.OwnCode()
    own_code.AT_ONCE, own_code.AFTER = 0, np.inf
    monkeypatch.setattr(_training, "OWN_CODE", own_code)


@pytest.fixture
def workspaces(monkeypatch, without_own_code):
    """All (memory, length) that networks take for calls from now on: behind each length is more, full of 7."""
    taken = []

    def with_more_behind(length, dtype):
        memory = aligned_empty(length + (1 << 13), dtype)
        memory[:length], memory[length:] = np.nan, 7
        taken.append((memory, length))
        return memory[:length]

    monkeypatch.setattr(fastmlp._network, "aligned_empty", with_more_behind)
    return taken


@pytest.fixture
def site(tmp_path):
    """A directory with an installed copy of the package."""
    package = tmp_path / "site" / "fastmlp"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(fastmlp.__file__).parent, package, ignore=ignore)
    shutil.copytree(Path(kernels.__file__).parent, package / "kernels", ignore=ignore)
    return package.parent


def name_of(value):
    """The same in every process, for those that share the tests."""
    return re.sub(r" (at 0x|from )[^>]+", "", repr(value))


def hard_extents(dtype):
    """0, 1, 2, around the MR rows of a tile, all numbers of vectors in a panel, and several panels."""
    lanes = HOST.lanes(np.dtype(dtype).itemsize)
    nr = HOST.vectors * lanes
    return sorted({0, 1, 2, MR - 1, MR + 1, nr - 1, 2 * nr + 1, 33, *range(lanes + 1, nr + 2, lanes)})


def _strided(array):
    return np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3]


FORMS = {
    "row-major": np.ascontiguousarray,
    "column-major": np.asfortranarray,
    "strided": _strided,
    "negative": lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
}
"""Ways in which the same matrix can lie in memory."""
