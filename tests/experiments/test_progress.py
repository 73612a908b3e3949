import io

import pytest

from experiments._progress import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def run(stream, clock, **more):
    with Progress(phases=2, stream=stream, clock=clock, interval=10.0, **more) as progress:
        with progress.phase("worm", "search", seed=0, total=20) as phase:
            for epoch in range(6):
                clock.now += 4.0
                phase.advance(accuracy=0.5 + epoch / 100, ticket="none")
        with progress.phase("[dense]", "train", unit="steps") as phase:
            phase.advance(3)
        progress.note("[bold]all done[/bold]")


def test_plain_lines_are_throttled_and_end_each_phase():
    stream = io.StringIO()
    run(stream, Clock(), process_index=0)
    assert stream.getvalue().splitlines() == [
        "worm, seed 0, search: 3/20 epochs, accuracy 0.52, ticket none",
        "worm, seed 0, search: 6/20 epochs, accuracy 0.55, ticket none",
        "worm, seed 0, search: 6/20 epochs, accuracy 0.55, ticket none, done in 24.0 s",
        "[dense], train: 3 steps, done in 0.0 s",
        "[bold]all done[/bold]",
    ]


def test_a_terminal_gets_bars_and_the_same_closing_lines():
    stream = Terminal()
    run(stream, Clock(), process_index=0)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "━" in text
    assert "6/20" in text
    for line in (
        "worm, seed 0, search: 6/20 epochs, accuracy 0.55, ticket none, done in 24.0 s",
        "[dense], train: 3 steps, done in 0.0 s",
        "[bold]all done[/bold]",
    ):
        assert line in text


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    run(stream, Clock(), process_index=0)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("done in") == 2


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_other_processes_print_nothing(kind):
    stream = kind()
    run(stream, Clock(), process_index=1)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_failing_phase_says_so_and_lets_the_error_through(kind):
    stream = kind()

    def failing():
        with (
            Progress(stream=stream, process_index=0, clock=Clock()) as progress,
            progress.phase("worm", "search", seed="0 to 2", total=4) as phase,
        ):
            phase.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert "worm, seed 0 to 2, search: 1/4 epochs, failed (ZeroDivisionError) in 0.0 s" in (
        stream.getvalue()
    )


def test_standard_output_is_the_default(capsys):
    with Progress() as progress:
        progress.note("hello")
        assert progress.width == 100
    assert capsys.readouterr().out == "hello\n"
