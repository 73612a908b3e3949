"""The phase clock against a clock that stands still until somebody works."""

import pytest

from wormjax.evaluation import PhaseClock


class World:
    """Time, and what compiling took of it."""

    def __init__(self):
        self.now, self.compiled = 0.0, 0.0

    def work(self, seconds, compiling=0.0):
        self.now += seconds + compiling
        self.compiled += compiling

    def clock(self):
        return PhaseClock(lambda: self.compiled, lambda: self.now)


class Pending:
    """An array that takes its time."""

    def __init__(self, world, seconds):
        self._world, self._seconds = world, seconds

    def block_until_ready(self):
        self._world.work(self._seconds)
        return self


def test_a_phase_ends_when_its_results_are_there():
    world = World()
    clock = world.clock()
    with clock("train") as span:
        world.work(1.0)
        result = span.wait({"loss": (Pending(world, 2.0),)})
    assert isinstance(result["loss"][0], Pending)
    world.work(100.0)  # between phases
    with clock("evaluate") as other:
        other.wait(Pending(world, 0.5))
        other.wait(Pending(world, 0.25))
    with clock("train"):
        world.work(4.0)
    assert dict(clock.seconds) == {"compile": 0.0, "train": 7.0, "evaluate": 0.75}
    assert (span.seconds, other.seconds) == (3.0, 0.75)


def test_compilation_is_a_phase_of_its_own():
    world = World()
    world.work(0.0, compiling=50.0)  # by another run in the same process
    clock = world.clock()
    with clock("train") as span:
        world.work(1.0, compiling=8.0)
    world.work(0.0, compiling=4.0)  # ahead of time, between phases
    assert dict(clock.seconds) == {"compile": 12.0, "train": 1.0}
    assert span.seconds == 1.0


def test_what_fails_took_its_time_and_the_clock_goes_on():
    world = World()
    clock = world.clock()

    def fail():
        with clock("train") as span:
            span.wait(Pending(world, 100.0))  # nobody waits for it any more
            world.work(2.0)
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        fail()
    with clock("train"):
        world.work(1.0)
    assert clock.seconds["train"] == 3.0


def test_two_phases_at_once_are_an_error():
    clock = World().clock()
    with (
        clock("train"),
        pytest.raises(RuntimeError, match="begin 'detect' while 'train' runs"),
        clock("detect"),
    ):
        pass
    assert list(clock.seconds) == ["compile", "train"]


def test_compile_is_no_name_for_a_phase():
    with pytest.raises(ValueError, match="from its argument compiling"), World().clock()("compile"):
        pass
