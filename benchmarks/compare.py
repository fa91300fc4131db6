"""Table and picture of fastmlp beside its peers, measured in turn in one run.

    python -m benchmarks.compare [--shapes 0 3] [--what epoch gradient predict predict_one] [--rounds 7]
                                 [--picture FILE]

Every library runs in processes of its own, one with one core and one with all, and counts with the better. In each
round all of them are timed one after the other, and the machine's peak between them; medians over the rounds count, of
the peak too: on a machine that other programs use the most that it did in any moment is not what it did while the
libraries were timed. Both are printed.
Set BENCHMARK_DTYPE=float64 for double precision.
"""

import argparse
import contextlib
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .peers import LIBRARIES, build, having
from .shapes import DTYPE, SHAPES, Shape

SAMPLE_SECONDS = 0.15  # of calls in a sample, and that other processes' threads are given to fall asleep
PREDICTED = 10_000
METHODS = {"epoch": "epoch", "gradient": "gradient", "predict": "predict", "predict_one": "predict"}
OURS = "fastmlp"
COLOURS = {
    "fastmlp": "#d62728",
    "NumPy": "#1f77b4",
    "scikit-learn": "#17becf",
    "torch": "#ff7f0e",
    "torch.compile": "#e7ba52",
    "jax": "#2ca02c",
    "jax scan": "#98df8a",
}


class Worker:
    """A process that has warmed up a library's method, and times a sample of calls when it is told to."""

    def __init__(self, library, shape, what, cores):
        command = [sys.executable, "-m", "benchmarks.compare", "--worker", library, json.dumps(shape), what]
        environment = dict(os.environ)
        for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[variable] = str(len(cores))
        self.library, self.threads, self.times = library, len(cores), []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def sample(self):
        """Time a sample; False where the library is not there."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            self.times.append(json.loads(answer))
        return bool(answer)

    def end(self):
        self.process.kill()
        self.process.communicate()


def work(library, shape, what):
    """The other side of a Worker: microseconds of a call, for every line that comes in."""
    peer, (X, Y, order) = build(library, shape)
    arguments = {"epoch": (X, Y, order), "gradient": (X, Y), "predict": (X,)}[METHODS[what]]
    call = functools.partial(getattr(peer, METHODS[what]), *arguments)
    call()
    for _ in sys.stdin:
        call()
        times = []
        end = time.perf_counter() + SAMPLE_SECONDS
        while time.perf_counter() < end:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(statistics.median(times) * 1e6 / shape.minibatches, flush=True)


def measure(shape, what, rounds):
    """Microseconds of each library, the better of one thread and all; ours by threads; and the peaks in between."""
    from .peak import flops_per_second

    cores = sorted(os.sched_getaffinity(0))
    teams = [cores[:1], cores] if len(cores) > 1 else [cores]
    workers = [Worker(library, shape, what, team) for library in having(METHODS[what]) for team in teams]
    try:
        workers = [worker for worker in workers if worker.sample()]
        for worker in workers:
            worker.times.clear()
        peaks = []
        for _ in range(rounds):
            for worker in workers:
                peaks.append(flops_per_second())
                worker.sample()
                time.sleep(SAMPLE_SECONDS)
    finally:
        for worker in workers:
            worker.end()
    results = {}
    for worker in workers:
        results.setdefault(worker.library, {})[worker.threads] = statistics.median(worker.times)
    return {
        "times": {library: min(by_threads.values()) for library, by_threads in results.items()},
        "ours": results[OURS],
        "peaks": peaks,
    }


def shape_of(what, shape):
    if what == "epoch":
        return shape
    if what == "gradient":
        return shape._replace(minibatches=1)
    return Shape(shape.sizes, PREDICTED if what == "predict" else 1, 1)


def line(what, shape, measured):
    """A row of the table: microseconds of each library, then the ratio, the share of peak and the gain of threads."""
    times = measured["times"]
    peers = [time for library, time in times.items() if library != OURS]
    cells = [f"{times[library]:,.1f}" if library in times else "" for library in LIBRARIES]
    ratio = f"{min(peers) / times[OURS]:.2f}" if peers else ""
    share = f"{shape.flops / times[OURS] * 1e6 / statistics.median(measured['peaks']):.2f}" if what == "epoch" else ""
    ours = measured["ours"]
    gain = f"{ours[1] / ours[max(ours)]:.2f}" if len(ours) > 1 else ""
    return f"| {what} {shape} | " + " | ".join([*cells, ratio, share, gain]) + " |"


def draw(results, path):
    """Bars per shape, a colour for each library, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(LIBRARIES)
    for i, library in enumerate(LIBRARIES):
        at = [n + (i - len(LIBRARIES) / 2 + 0.5) * width for n in range(len(results))]
        heights = [measured["times"].get(library, float("nan")) for _, measured in results]
        axes.bar(at, heights, width, label=library, color=COLOURS[library])
    axes.set_yscale("log")
    axes.set_ylabel("µs per minibatch")
    axes.set_xticks(range(len(results)), [repr(shape).replace(" by ", "\nby ") for shape, _ in results], fontsize=7)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=len(LIBRARIES), fontsize=8, loc="upper left")
    axes.set_title(f"A minibatch of a shuffled epoch, {DTYPE.name}: shorter is better")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)), help="by number; all")
    parser.add_argument("--what", nargs="*", default=["epoch"], choices=METHODS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", type=Path, help="where to draw the times of epochs")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        library, shape, what = options.worker
        sizes, *numbers = json.loads(shape)
        with contextlib.suppress(NotImplementedError):
            work(library, Shape(tuple(sizes), *numbers), what)
        return
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {DTYPE.name}, microseconds per minibatch\n")
    print("| | " + " | ".join([*LIBRARIES, "ratio", "share", "threads"]) + " |")
    print("|---|" + "---:|" * (len(LIBRARIES) + 3), flush=True)
    epochs, peaks = [], []
    for what in options.what:
        for number in options.shapes:
            shape = shape_of(what, SHAPES[number])
            measured = measure(shape, what, options.rounds)
            print(line(what, shape, measured), flush=True)
            peaks += measured["peaks"]
            if what == "epoch":
                epochs.append((shape, measured))
    median, most = (peak / 1e9 for peak in (statistics.median(peaks), max(peaks)))
    print(f"\nPeak of all cores, GFLOP/s: {median:.0f} in the median of {len(peaks)} times, {most:.0f} at most")
    if options.picture:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        draw(epochs, options.picture)


if __name__ == "__main__":
    main()
