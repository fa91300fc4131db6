"""Compiling by two processes: the same code, whatever becomes of the other one, and nothing left behind."""

import threading
import time

import numpy as np
import pytest
from processes import finish, run, start

from fastmlp.kernels import beside, gemm, minibatch, thin, tiles
from fastmlp.kernels.compiling import jit
from fastmlp.kernels.tasks import outlined

TASKS = """
from fastmlp.kernels.compiling import jit
from fastmlp.kernels.tasks import outlined

@outlined
def add(x, n) -> None:
    x[0] += n

@outlined
def add_twice(x) -> None:
    add(x, 1)
    add(x, 1)

@jit
def run(x):
    add_twice(x)
"""
"""A module whose `run` adds 2 to x[0], by functions that it calls by their address: three in all."""

RUN = """
import numpy as np
from numba.core import event
from fastmlp.kernels import beside
CHANGE
with event.install_recorder("numba:compile") as recorder:
    from tasks import run
    x = np.zeros(1)
    run(x)
print(x[0], len(recorder.buffer) // 2)
"""

# This process finishes only when the other one has done this or that.
DOES_ALL = "any(map(any, (agenda.help.offers.open.iterdir(), agenda.help.offers.taken.iterdir())))"
ENDS = "agenda.help.is_there()"

LATER = """
import time
finish = beside.Agenda.finish
def later(agenda):
    while CONDITION:
        time.sleep(0.01)
    finish(agenda)
beside.Agenda.finish = later
"""

FAILS = "beside.PROGRAM = 'raise SystemExit(1)'"

TAKES_AND_ENDS = '''
beside.PROGRAM = """
import os, pathlib, time
directory = pathlib.Path({directory!r})
while not list((directory / "open").iterdir()):
    time.sleep(0.01)
for task in (directory / "open").iterdir():
    os.replace(task, directory / "taken" / task.name)
os._exit(1)
"""
'''

MUST_NOT_START = "beside.Help.start = None"


def later(condition):
    return LATER.replace("CONDITION", condition)


done = []


class Counted:
    """A task that notes what is done to it."""

    def __init__(self, symbol):
        self.symbol = symbol

    def is_to_be_cached(self):
        return True

    def compile(self):
        done.append(("compiled", self.symbol))

    def locate(self):
        done.append(("located", self.symbol))

    def lose_address(self):
        done.append(("lost", self.symbol))


class Interrupted(Counted):
    """One whose compilation is interrupted, but only once."""

    def locate(self):
        if "interrupted" not in done:
            done.append("interrupted")
            raise KeyboardInterrupt
        super().locate()


class Calling(Counted):
    """One that calls a function that can be called alone, and that one a task."""

    def __init__(self, symbol, agenda, called):
        super().__init__(symbol)
        self.agenda, self.called = agenda, called

    def locate(self):
        with self.agenda.compilation(True):
            self.agenda.ask(self.called)
        super().locate()


class Helper:
    """Another process that runs, or does not."""

    def __init__(self, offers, runs):
        self.offers, self.runs = offers, runs

    def is_there(self):
        return self.runs

    def come(self):
        done.append("came")

    def offer(self, task):
        if self.runs:
            self.offers.add(task)


@pytest.fixture(autouse=True)
def nothing_done():
    done.clear()


@pytest.fixture
def offers(tmp_path):
    offers = beside.Offers(tmp_path / "offers")
    offers.directory.mkdir()
    offers.make()
    return offers


def agenda_with(offers, runs=True):
    agenda = beside.Agenda()
    agenda.help = Helper(offers, runs)
    return agenda


def ask_within_one(agenda, tasks):
    with agenda.compilation(False):
        for task in tasks:
            agenda.ask(task)


def test_the_oldest_offer_is_compiled_first_and_each_once(offers):
    for symbol in ("b", "c", "a", "b"):
        offers.add(Counted(symbol))
        time.sleep(0.01)  # the files' times tell
    other = beside.Offers(offers.directory)
    assert [other.compile_one() for _ in range(4)] == [True, True, True, False]
    assert done == [("compiled", "b"), ("compiled", "c"), ("compiled", "a")]


def test_what_takes_longest_is_compiled_before_older_offers(offers):
    last, first = (f"fastmlp.{beside.LONGEST[number]}.0" for number in (-1, 0))
    for symbol in ("fastmlp.gather.0", last, first):
        offers.add(Counted(symbol))
    assert [offers.compile_one() for _ in range(3)] == [True, True, True]
    assert [symbol for _, symbol in done] == [first, last, "fastmlp.gather.0"]


def test_those_that_take_longest_are_functions_of_the_kernels():
    modules = gemm, minibatch, thin, tiles
    assert all(any(hasattr(module, name) for module in modules) for name in beside.LONGEST)


def test_the_other_process_comes_before_a_function_is_compiled_that_calls_many(offers):
    agenda = agenda_with(offers, runs=False)
    with agenda.compilation(True, calls_many=True):
        assert done == ["came"]
    with agenda.compilation(True):
        agenda.ask(Counted("a"))
    assert done == ["came", ("located", "a")]


def test_what_is_taken_is_not_offered_again(offers):
    (offers.taken / "a").touch()
    offers.add(Counted("a"))
    assert not offers.compile_one()


def test_what_is_asked_for_is_located_behind_the_outermost_compilation(offers):
    agenda = agenda_with(offers)
    with agenda.compilation(False):
        agenda.ask(Counted("a"))
        with agenda.compilation(False):
            agenda.ask(Counted("b"))
        assert not done
    assert done == [("compiled", "a"), ("compiled", "b"), ("located", "a"), ("located", "b")]
    agenda.ask(Counted("c"))  # outside of any
    assert done[-1] == ("located", "c")
    assert not agenda.asked


def test_what_the_other_process_has_taken_is_waited_for(offers):
    def compile_slowly():
        time.sleep(0.1)
        done.append("elsewhere")
        (offers.taken / "a").unlink()

    (offers.taken / "a").touch()
    agenda = agenda_with(offers)
    thread = threading.Thread(target=compile_slowly)
    with agenda.compilation(False):
        agenda.ask(Counted("a"))
        thread.start()
    thread.join()
    assert done == ["elsewhere", ("located", "a")]


def test_what_it_took_and_left_is_compiled_here(offers):
    (offers.taken / "a").touch()
    agenda = agenda_with(offers)
    with agenda.compilation(False):
        agenda.ask(Counted("a"))
        agenda.help.runs = False
    assert done == [("located", "a")]


def test_after_an_interruption_nothing_is_asked_for_and_nothing_has_an_address(offers):
    agenda = agenda_with(offers, runs=False)
    with pytest.raises(KeyboardInterrupt):
        ask_within_one(agenda, (Counted("a"), Interrupted("b"), Counted("c")))
    assert done == [("located", "a"), "interrupted", ("lost", "a"), ("lost", "b")]
    ask_within_one(agenda, (Counted("c"), Interrupted("b")))
    assert done[4:] == [("located", "c"), ("located", "b")]


def test_one_that_can_be_called_alone_is_complete_within_others_too(offers):
    agenda = agenda_with(offers, runs=False)
    with agenda.compilation(True):
        agenda.ask(Counted("a"))
        with agenda.compilation(True):
            pass  # it asks for nothing
        assert not done
        with agenda.compilation(True):
            agenda.ask(Counted("b"))
        assert done == [("located", "a"), ("located", "b")]


def test_one_within_a_task_that_is_being_located(offers):
    agenda = agenda_with(offers, runs=False)
    ask_within_one(agenda, (Calling("a", agenda, Counted("b")), Counted("c")))
    assert done == [("located", "c"), ("located", "b"), ("located", "a")]


def test_another_process_that_has_failed_is_not_started_again(monkeypatch):
    monkeypatch.setattr(beside, "PROGRAM", "raise SystemExit(1)")
    other = beside.Help()
    other.possible = True
    other.offer(Counted("a"))
    directory = other.offers.directory
    other.process.wait()
    other.offer(Counted("b"))
    assert other.process is None
    assert not other.possible
    assert not directory.exists()


def test_the_other_process_ends_when_nothing_comes_and_takes_its_directory_with_it(offers, monkeypatch):
    monkeypatch.setattr(beside, "agenda", beside.agenda)
    monkeypatch.setattr(beside, "IDLE", 0.05)
    offers.add(Counted("a"))
    beside.work(offers.directory)
    assert done == [("compiled", "a")]
    assert not offers.directory.exists()
    offers.add(Counted("b"))  # too late, which does no harm
    assert not offers.compile_one()


@pytest.mark.skipif(beside.cpus() < 2, reason="there is one CPU")
@pytest.mark.parametrize(
    ("change", "compiled"),
    [
        ("", None),
        (later(DOES_ALL), 1),
        (later(ENDS) + FAILS, 3),
        (later(ENDS) + TAKES_AND_ENDS, 3),
    ],
    ids=["as it comes", "does all", "fails", "takes all and ends"],
)
def test_the_same_whatever_the_other_process_does(site, change, compiled):
    """And nothing of its is left, but what it has compiled."""
    (site / "tasks.py").write_text(TASKS)
    temporary = site / "temporary"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "FASTMLP_COMPILERS": None}
    result, count = finish(start(site, RUN.replace("CHANGE", change), **environment)).split()
    assert result == "2.0"
    assert compiled in (None, int(count))
    assert not list(temporary.iterdir())
    assert run(site, RUN.replace("CHANGE", MUST_NOT_START)) == ("2.0", 0)


def test_no_other_process_is_started_where_one_is_to_compile(site):
    (site / "tasks.py").write_text(TASKS)
    script = RUN.replace("CHANGE", MUST_NOT_START)
    assert finish(start(site, script, FASTMLP_COMPILERS="1")) == "2.0 3\n"


@outlined
def returns_a_number(m) -> None:
    return m + 1


@outlined
def returns_nothing(m) -> None:
    returns_a_number(m)


@jit
def calls_them(m):
    returns_nothing(m)


@jit
def calls_the_second(m):
    returns_nothing(m)


def test_what_has_failed_to_be_compiled_fails_again_and_is_not_in_the_way_of_others():
    """The first is annotated to return nothing, which must not be."""
    for caller in (calls_them, calls_them, calls_the_second):
        with pytest.raises(TypeError, match="returns a value"):
            caller(np.intp(1))
    assert not beside.agenda.asked
