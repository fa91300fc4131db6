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

On AVX-512 one core runs a float32 tile of 12 x 32 at 97 GFLOP/s, 14 x 32 at 91, 8 x 32 at 82 (medians over k =
32 to 784 on a busy machine): 14 rows leave too few registers free, 8 reuse each row of B too little. Undisturbed,
12 x 32 runs at 126 for k = 64 and 133 for k = 256, of a peak of 137.
"""

import os
from dataclasses import dataclass

from numba.core.registry import cpu_target

NV = 2  # vectors in a row of the tile

# Multiply-adds that a thread must get for a product to be shared, by Numba's threading layer: a parallel region
# costs about 2 us under OpenMP and TBB and 100 us under workqueue.
GRAIN = {"omp": 1 << 18, "tbb": 1 << 18, "workqueue": 1 << 23}

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
        """Rows that the tile is unrolled for, most first: MR and the powers of two below it.

        m rows are cut into the fewest such bodies, so that no batch computes many rows in vain: 32 rows are
        12 + 12 + 8.
        """
        smaller = [1 << s for s in range(self.rows.bit_length()) if 1 << s < self.rows]
        return [self.rows, *reversed(smaller)]


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

import os as _os
KC = int(_os.environ.get("KC","256"))
PACK_ROWS = int(_os.environ.get("PACK","48"))
MC = int(_os.environ.get("MCT","20")) * HOST.rows
A_BLOCK = int(_os.environ.get("L2E", str(1 << 18)))
CACHE_LINE = 64
MOST_THREADS = 64
SHARE = int(_os.environ.get("SHARE", str(1<<18)))
PREFETCH_K = 64
A_PACKED = 1 << 20
A_COLUMNS = int(_os.environ.get("ACOL", "4"))
