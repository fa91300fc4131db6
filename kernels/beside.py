"""Compiling by two processes: of what a function that is compiled calls by address, another process compiles a part.

Such a function is a task, as `tasks` has it. Where one is asked for it is only noted, and offered as a file in a
directory; this process and the other take what nobody has taken, what takes longest first, then the oldest, and find in
the on-disk cache what the other has compiled. Before any code runs, all that it calls is compiled and has its address
in this process: what the other one leaves undone, because it is late, or ended, or cannot be had, is done here.
"""

import atexit
import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
from numba.core.registry import cpu_target

COMPILERS = "FASTMLP_COMPILERS"
"""The environment variable that says by how many processes: 1, or 2, as without it where two CPUs can be used."""

IDLE = 5  # seconds without anything to compile after which the other process ends
PAUSE = 0.003  # seconds from one look to the next

# Functions that take longest to compile, and that first ask for such a one, in the order in which they are taken: else
# one process compiles them last, for up to 3 s, while the other has nothing left.
LONGEST = "compute_tiles", "in_blocks", "compute", "of_shard", "few_rows", "some_rows"

PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import work; work({directory!r})"


class Offers:
    """Tasks as files: in `open`, and moved to `taken` by the process that compiles it, until that is done."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.open, self.taken = self.directory / "open", self.directory / "taken"

    def make(self):
        self.open.mkdir()
        self.taken.mkdir()

    def add(self, task):
        if not (self.open / task.symbol).exists() and not self.is_taken(task):
            written = self.directory / f"{task.symbol}.{os.getpid()}"
            with contextlib.suppress(OSError):  # the directory has ended with the other process
                written.write_bytes(pickle.dumps(task))
                written.replace(self.open / task.symbol)

    def is_taken(self, task):
        return (self.taken / task.symbol).exists()

    def compile_one(self):
        """Take the task that is the next of those that are open and compile it; whether there was one."""
        try:
            following = min(self.open.iterdir(), key=lambda file: (turn(file.name), file.stat().st_mtime_ns))
            taken = following.replace(self.taken / following.name)
        except (OSError, ValueError):  # the other process was faster, or there is none
            return False
        try:
            task = _task_in(taken)
            if task:
                task.compile()
        finally:
            taken.unlink(missing_ok=True)
        return True


def turn(symbol):
    """Where among those that are taken first the function is that a task's symbol names; behind them for all others."""
    function = symbol.partition(".")[2].rpartition(".")[0]
    return LONGEST.index(function) if function in LONGEST else len(LONGEST)


def _task_in(file):
    """A task that was offered, or None if it is of a module that only the process that offered it can import."""
    with contextlib.suppress(ImportError, AttributeError):
        return pickle.loads(file.read_bytes())


class Help:
    """The other process, started when it is first wanted and again when it has ended for want of tasks."""

    def __init__(self):
        self.process = self.offers = None
        self.possible = os.environ.get(COMPILERS) != "1" and cpus() > 1 and _has_interpreter()

    def is_there(self):
        if self.process is not None and self.process.poll() is not None:
            self.possible = self.process.returncode == 0
            self.end()
        return self.process is not None

    def come(self):
        """Start it, if it does not run and that is possible."""
        if not self.is_there() and self.possible:
            self.start()

    def offer(self, task):
        """Leave a task to it, if it runs or can be started."""
        self.come()
        if self.offers:
            self.offers.add(task)

    def start(self):
        """Start it; where that fails, it is not tried again."""
        environment = {**os.environ, "NUMBA_CACHE_DIR": numba.config.CACHE_DIR}
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        try:
            directory = tempfile.mkdtemp(prefix="fastmlp-")
            self.offers = Offers(directory)
            self.offers.make()
            program = PROGRAM.format(path=sys.path, module=__name__, directory=directory)
            self.process = subprocess.Popen([sys.executable, "-c", program], env=environment, **quiet)
        except OSError:
            self.possible = False
            self.end()

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.offers is not None:
            shutil.rmtree(self.offers.directory, ignore_errors=True)
        self.process = self.offers = None

    def forget(self):
        """Leave it to the process that this one is a fork of."""
        if self.process is not None:
            self.process.returncode = 0  # for Python, which minds those that are left running
        self.process = self.offers = None


class Agenda:
    """The tasks that are asked for in this process and have no address in it yet."""

    def __init__(self):
        self.asked = {}
        self.located = []  # since the outermost compilation began
        self.depth = 0  # of compilations within each other
        self.help = Help()

    @contextlib.contextmanager
    def compilation(self, callable_alone, calls_many=False):
        """Within it, a function is compiled; behind it, all that this calls is too, if it is `callable_alone`.

        Behind the outermost one that is so in any case. If it `calls_many`, the other process comes before it is asked
        for anything. Where one fails, or is interrupted, all is as before it, for functions that call what has not been
        compiled must not run.
        """
        asked, located = self.asked.copy(), len(self.located)
        self.depth += 1
        try:
            if calls_many:
                self.help.come()
            yield
            if self.depth == 1 or (callable_alone and self.asked != asked):
                self.finish()
        except BaseException:
            self.asked = asked
            for task in self.located[located:]:
                task.lose_address()
            raise
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.located.clear()

    def ask(self, task):
        """Give a task its address: now, or at the end of the outermost compilation."""
        self.asked[task.symbol] = task
        if self.depth == 0:
            with self.compilation(True):
                return
        if task.is_to_be_cached():
            self.help.offer(task)

    def finish(self):
        while self.asked:
            beside = self.help.offers if self.help.is_there() else None
            if beside and beside.compile_one():
                continue
            task = next((task for task in self.asked.values() if not (beside and beside.is_taken(task))), None)
            if task:
                del self.asked[task.symbol]
                self.located.append(task)
                task.locate()
            else:
                time.sleep(PAUSE)


def ask_for_tasks_of(library):
    """Ask for the tasks of a library that was compiled, or loaded: parts of it may be of a compilation that failed."""
    for task in library._reload_init:
        if hasattr(task, "locate"):
            task()


class Offering:
    """The agenda of the other process, which runs nothing, so that no task needs an address."""

    def __init__(self, offers):
        self.offers = offers

    def compilation(self, callable_alone, calls_many=False):
        return contextlib.nullcontext()

    def ask(self, task):
        if task.is_to_be_cached():
            self.offers.add(task)


def work(directory):
    """What the other process does."""
    global agenda
    offers = Offers(directory)
    cpu_target.target_context.refresh()  # which takes most of a second, and is done before a first compilation
    agenda, since = Offering(offers), time.monotonic()
    while time.monotonic() - since < IDLE:
        if offers.compile_one():
            since = time.monotonic()
        else:
            time.sleep(PAUSE)
    shutil.rmtree(directory, ignore_errors=True)


def cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _has_interpreter():
    """Whether `sys.executable` is Python, and not an application that contains it."""
    return Path(sys.executable or "").stem.lower().startswith("python") and not hasattr(sys, "frozen")


agenda = Agenda()
atexit.register(agenda.help.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=agenda.help.forget)
