"""Tile sizes, derived from the host's vectors by one rule: the only tuning numbers.

A register tile is C[MR, NR]: MR rows of NV vectors of VL elements each, NR = NV * VL. Its MR * NV
accumulators take three quarters of the registers; the rest holds NV vectors of B, a broadcast element of A
and the addresses' vector temporaries.

=======  =====  =========  ===============  ===============
vectors  bytes  registers  float32 MR x NR  float64 MR x NR
=======  =====  =========  ===============  ===============
AVX-512     64         32          12 x 32          12 x 16
AVX2        32         16           6 x 16           6 x 8
SSE         16         16           6 x 8            6 x 4
NEON        16         32          12 x 8           12 x 4
=======  =====  =========  ===============  ===============

On AVX-512, 14 rows leave too few registers free and 8 reuse each row of B too little: both were slower when the tile
was chosen. Undisturbed, the tiles of float32 products of 784x128x128 and 784x512x256 run at 133 GFLOP/s, of a core's
peak of 137.
"""

import os
from dataclasses import dataclass

from numba.core.registry import cpu_target

NV = 2  # vectors in a row of the tile

# Multiply-adds that a thread must get for a product to be shared, by Numba's threading layer: a parallel region
# costs about 2 us under OpenMP and TBB and 100 us under workqueue.
GRAIN = {"omp": 1 << 18, "tbb": 1 << 18, "workqueue": 1 << 23}

# Multiply-adds that a thread of several already called together must get for a product to be shared: 4 us. Of less, it
# loses on fetching what the others wrote (9 to 14 ns a cache line) what it gains.
SHARE = 1 << 18
COPY = 32  # multiply-adds that take as long as copying an element that another core wrote

MOST_THREADS = 64  # of a crew, whose numbers lie on the stack
CACHE_LINE = 64  # bytes

# Blocks of a product, in elements; measured on AVX-512, float32, serial, in GFLOP/s of a peak of 137.
KC = 1024  # of k: a panel of B, 128 KB, then stays in the second cache; 256 makes it 105 in place of 111 at k = 1024
MC = 20  # tiles of rows that a slice of k goes through before the next, where there are several
PACK_ROWS = 48  # rows of C from which on it pays to copy a panel of B whose rows lie apart
L1 = 8192  # if all of B is more than this, which stays in the first cache
A_BLOCK = 1 << 18  # A is used in blocks of rows that stay in the second cache
A_PACKED = 1 << 20  # or is copied, in blocks of this size: read in order, it may come from the third
A_COLUMNS = 8  # panels of C from which on A is copied where its rows are adjacent: tiles of 784x512x256 at 114, not 87
A_ROWS_COLUMNS = 16  # and where its columns are: a step of 1024x4 by 1024 takes 128 ms in place of 144
PREFETCH = 64  # k from which on the part of C that comes next is fetched beforehand

PREDICT_ROWS = 256  # samples that go through all layers together, so that activations stay in the L2 cache


@dataclass(frozen=True)
class Host:
    """The vector unit that kernels are compiled for."""

    vector_bytes: int
    registers: int
    has_fma: bool

    def lanes(self, itemsize):
        """VL, elements in a vector."""
        return self.vector_bytes // itemsize

    @property
    def rows(self):
        """MR, rows of the tile."""
        return 3 * self.registers // (4 * NV)

    def row_bodies(self):
        """Rows that the tile is unrolled for, most first: MR, the multiples of 4 below it, and 1.

        m rows are cut into the fewest such bodies, so that no batch computes many rows in vain: 32 rows are
        12 + 12 + 8. A body of 2 or 3 would wait for its own sums as long as one of 4 takes.
        """
        return [self.rows, *(rows for rows in range(self.rows - 1, 3, -1) if rows % 4 == 0), 1]


def _host():
    """The target that Numba generates code for, which NUMBA_CPU_NAME and NUMBA_CPU_FEATURES can change.

    FASTMLP_VECTOR_BYTES sets another width of vector, 16, 32 or 64; LLVM splits what the target has not.
    """
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    features = set(features.split(","))
    if "+avx512f" in features:
        host = Host(64, 32, True)
    elif "+avx2" in features:
        host = Host(32, 16, "+fma" in features)
    elif triple.startswith(("aarch64", "arm64")):
        host = Host(16, 32, True)
    else:
        host = Host(16, 16, "+fma" in features)
    forced = os.environ.get("FASTMLP_VECTOR_BYTES")
    if forced:
        if forced not in ("16", "32", "64"):
            raise ValueError(f"FASTMLP_VECTOR_BYTES must be 16, 32 or 64, got {forced!r}")
        host = Host(int(forced), 32 if forced == "64" else host.registers, host.has_fma)
    return host


HOST = _host()
