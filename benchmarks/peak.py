"""The most floating-point operations that the cores do in a second: fused multiply-adds on registers alone."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmlp.kernels.host import HOST
from fastmlp.kernels.simd import Simd, fma

from .shapes import DTYPE

CHAINS = 12  # independent, to hide a latency of 4 cycles on two units with room to spare
SECONDS = 0.02


@intrinsic
def multiply_add(typingctx, x, y, times):
    """Sums of `times` multiply-adds in each lane of each chain; one of them is returned, so that none is left out."""

    def codegen(context, builder, signature, args):
        x, y, times = args
        simd = Simd.of_host(builder, signature.args[0])
        x, y = simd.splat(x), simd.splat(y)
        chains = [simd.variable() for _ in range(CHAINS)]
        for number, chain in enumerate(chains):
            chain.set(simd.constant(number))
        with cgutils.for_range(builder, times):
            for chain in chains:
                chain.set(fma(chain.get(), x, y))
        total = sum((chain.get() for chain in chains[1:]), chains[0].get())
        return builder.extract_element(total.llvm, cgutils.int32_t(0))

    return x(x, x, types.intp), codegen


@njit(nogil=True)
def _run(x, y, times):
    return multiply_add(x, y, times)


def flops_per_second():
    """Of all cores that this process may run on, together."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    x, y = DTYPE.type(0.999), DTYPE.type(0.001)
    times = 10_000
    _run(x, y, times)  # compiles
    while True:
        start = time.perf_counter()
        _run(x, y, times)
        seconds = time.perf_counter() - start
        if seconds > SECONDS / 2:
            break
        times *= 2
    with ThreadPoolExecutor(cores) as pool:
        start = time.perf_counter()
        list(pool.map(lambda _: _run(x, y, times), range(cores)))
        seconds = time.perf_counter() - start
    return cores * times * CHAINS * HOST.lanes(DTYPE.itemsize) * 2 / seconds
