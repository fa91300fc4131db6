"""The vector unit that kernels are compiled for, and the tiles that are derived from it by one rule.

C is computed in panels of NR columns, of up to NV vectors of VL elements each, by register tiles of as many rows as
three quarters of the registers can hold accumulators for; the rest holds the vectors of B, a broadcast element of A and
the addresses' vector temporaries.

=======  =====  =========  ================  ===============  =====================
vectors  bytes  registers  float32 VL, NR    float64 VL, NR   rows by 4, 2, 1 vector
=======  =====  =========  ================  ===============  =====================
AVX-512     64         32  16, 64            8, 32            6, 12, 12
AVX2        32         16  8, 16             4, 8             -, 6, 12
SSE         16         16  4, 8              2, 4             -, 6, 12
NEON        16         32  4, 16             2, 8             6, 12, 12
=======  =====  =========  ================  ===============  =====================

A wide tile loads less for the same multiply-adds: on AVX-512, 10 values for 24 of them with 6 rows of 4 vectors and 14
with 12 rows of 2, and there are half as many panels. Either runs at 137 GFLOP/s of a peak of 138 alone on a core, and
at 103 beside another program's thread on it (float32, 240 rows, k = 256).
"""

import os
from dataclasses import dataclass, replace

from numba.core.registry import cpu_target

from .blocking import MR, SUMS


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
    def vectors(self):
        """NV, vectors in a panel."""
        return 4 if self.registers >= 32 else 2

    @property
    def group(self):
        """Tiles one below the other whose sums are there together."""
        return max(2, SUMS // (MR * self.vectors * self.vector_bytes))

    def row_bodies(self, vectors):
        """Rows that a tile of so many vectors is unrolled for, most first.

        m rows are cut into the fewest such bodies, so that no batch computes more than one row in vain, or a few where
        less than 8 accumulators are left, which would wait for their own sums as long as 8 take. One has the rows of a
        tile of whole panels, in which A is copied.
        """
        most, of_panels = (min(MR, 3 * self.registers // (4 * some)) for some in (vectors, self.vectors))
        fewer = [rows for rows in range(most - 1, 1, -1) if rows % 2 == 0]
        return [most, *(rows for rows in fewer if rows * vectors >= 8 or rows == of_panels), 1]


def _host():
    """The target that Numba generates code for, which NUMBA_CPU_NAME and NUMBA_CPU_FEATURES can change.

    FASTMLP_VECTOR_BYTES sets another width of vector, 16, 32 or 64, with 16 registers, or 32 if it is 64;
    FASTMLP_VECTOR_REGISTERS another number of them. LLVM splits, and spills, what the target has not.
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
    vector_bytes = _forced("FASTMLP_VECTOR_BYTES", 16, 32, 64)
    if vector_bytes:
        host = replace(host, vector_bytes=vector_bytes, registers=32 if vector_bytes == 64 else 16)
    return replace(host, registers=_forced("FASTMLP_VECTOR_REGISTERS", 16, 32) or host.registers)


def _forced(variable, *values):
    """The number in an environment variable, if it is set."""
    value = os.environ.get(variable)
    if value and value not in map(str, values):
        raise ValueError(f"{variable} must be one of {', '.join(map(str, values))}, got {value!r}")
    return int(value or 0)


HOST = _host()
