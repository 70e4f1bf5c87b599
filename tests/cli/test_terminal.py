"""Terminals: bars and colours that only they see; and streams that are closed, full or gone."""

from __future__ import annotations

import argparse
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.command_line import (
    ROOT,
    ctrl_c_interrupts,
    encoded,
    environment,
    model,
    picture,
    process,
)
from helpers.terminals import CODE, on_terminal
from refgit import testing
from refgit.cli import main as cli
from refgit.cli import output, terminal
from refgit.parity.numerics.noise import NoiseFloor
from refgit.traces.recorder import record

__all__ = ["model"]  # a fixture
rich = pytest.importorskip("rich", reason="needs rich: pip install rich")

STAR = ROOT / "docs" / "images" / "star.png"


def screen(sent: str) -> list[str]:
    """The lines that a terminal shows in the end: of its many codes those that rich uses."""
    lines, row, column = [""], 0, 0
    for code in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|.", sent, re.DOTALL):
        if code == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif code == "\r":
            column = 0
        elif code == "\x1b[1A":
            row -= 1
        elif code == "\x1b[2K":
            lines[row] = ""
        elif code[0] != "\x1b":
            lines[row] = lines[row].ljust(column)[:column] + code + lines[row][column + 1 :]
            column += 1
        else:
            assert code[-1] in "mhl", code  # colours, and whether the cursor is seen
    return [line.rstrip() for line in lines]


# ---- bars


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [picture(tmp_path / f"{i}.png", i) for i in range(4)]


def test_a_bar_shows_on_the_terminal_and_leaves_stdout_as_it_is(
    model: Path, pictures: Sequence[Path]
) -> None:
    arguments = ("caption", *pictures, "--model", model)
    plain = process(arguments)
    code, printed, sent = on_terminal(*arguments, delay=0.0)
    assert (code, printed.encode()) == (0, plain.stdout)
    assert "captioning" in sent
    assert "loading" in sent
    assert "75%" in sent  # three of four
    assert not any(screen(sent))  # and all of it is gone


@pytest.mark.slow
def test_a_bar_makes_way_for_results_on_the_same_terminal(
    model: Path, pictures: Sequence[Path]
) -> None:
    arguments = ("caption", *pictures, pictures[0].with_name("missing.png"), "--model", model)
    plain = process(arguments)
    code, _, sent = on_terminal(*arguments, delay=0.0, stdout_too=True)
    assert code == plain.returncode == 1
    shown = [line for line in screen(sent) if line]
    # a tab is a character to `screen`
    assert shown == (plain.stdout + plain.stderr).decode().splitlines()
    assert "captioning" in sent


def test_nothing_is_shown_before_the_delay_is_over(model: Path, pictures: Sequence[Path]) -> None:
    assert on_terminal("caption", *pictures, "--model", model)[2] == ""


def test_the_delay_is_a_second() -> None:
    assert terminal.DELAY == 1.0


def test_a_bar_shows_by_itself_while_nothing_is_counted() -> None:
    first = "a = terminal.waiting('sleeping'); a.__enter__(); import time; time.sleep(0.5)"
    _, _, sent = on_terminal("--version", delay=0.05, first=first)
    assert "sleeping" in sent


def test_without_rich_a_bar_is_a_line_that_goes(model: Path, pictures: Sequence[Path]) -> None:
    first = "sys.modules['rich'] = sys.modules['rich.console'] = None"
    code, _, sent = on_terminal("caption", *pictures, "--model", model, delay=0.0, first=first)
    assert code == 0
    assert "\rrefgit: captioning 75%" in sent
    assert "\x1b" not in sent
    assert not any(screen(sent))


def test_a_bar_is_gone_after_an_interrupt(model: Path) -> None:
    first = "from refgit.pipeline import Captioner; Captioner.stream = stop"
    stop = "def stop(*a):\n time.sleep(0.3)\n raise KeyboardInterrupt"
    first = f"import time; exec({stop!r}); {first}"
    code, printed, sent = on_terminal(
        "caption", STAR, "--model", model, delay=0.05, first=first, stdout_too=True
    )
    assert (code, printed) == (130, "")
    assert "captioning" in sent
    assert not any(screen(sent))
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is seen again


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}])
def test_no_bar_is_shown_where_stderr_is_no_terminal(
    variables: dict[str, str], model: Path, pictures: Sequence[Path]
) -> None:
    code = CODE.format(delay=0.0, first="pass")
    command = [sys.executable, "-c", code, "caption", *map(str, pictures), "--model", str(model)]
    done = subprocess.run(
        command, capture_output=True, cwd=ROOT, env=environment(**variables), check=True
    )
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout


def test_no_bar_is_shown_on_a_dumb_terminal(model: Path, pictures: Sequence[Path]) -> None:
    assert on_terminal("caption", *pictures, "--model", model, delay=0.0, TERM="dumb")[2] == ""


def test_rich_is_imported_for_a_bar_alone(model: Path, pictures: Sequence[Path]) -> None:
    code = "; print('rich' in sys.modules, file=sys.stderr)"
    run = CODE.format(delay=1000.0, first="pass").replace("sys.exit(main(sys.argv[1:]))", "")
    run += f"main(sys.argv[1:]){code}"
    command = [sys.executable, "-c", run, "caption", *map(str, pictures), "--model", str(model)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment(), check=True)
    assert done.stderr.decode() == "False\n"


@pytest.mark.slow
def test_every_slow_part_of_a_comparison_has_a_bar(model: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "ref.safetensors", tmp_path / "report.html"
    arguments = ("trace", "--image", picture(tmp_path / "a.png"), "--out", out, "--model", model)
    code, _, sent = on_terminal(*arguments, delay=0.0)
    assert code == 0
    for what in ("loading", "recording", "measuring the noise floors", "writing"):
        assert what in sent
    assert "67%" in sent  # two of three runs
    arguments = ("compare", out, out, "--model", model, "--html", page)
    code, _, sent = on_terminal(*arguments, delay=0.0)
    assert code == 0
    for what in ("reading the tensors", "loading", "comparing", "looking for the cause", "writing"):
        assert what in sent
    assert not any(screen(sent))


def test_measuring_noise_floors_counts_its_runs() -> None:
    trace = record(testing.tiny_model(), testing.pixels())
    seen: list[tuple[int, int]] = []
    NoiseFloor.measure(
        testing.tiny_model(), trace, ("float32", "float16"), progress=lambda *n: seen.append(n)
    )
    assert seen[0] == (0, 4)  # float64, both, and float32 in another order
    assert seen[-1] == (3, 4)
    assert seen == sorted(seen)


def test_progress_hands_on_every_item_and_may_be_left_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen_of = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", screen_of)
    monkeypatch.setattr(terminal, "DELAY", 0.0)
    assert list(terminal.progress("abc", "spelling")) == ["a", "b", "c"]
    for letter in terminal.progress("abc", "spelling"):
        if letter == "b":
            break
    assert terminal._SHOWN == []
    assert "spelling" in screen_of.getvalue()


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_stays_away_from_a_line_that_is_being_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(terminal, "DELAY", 0.05)
    with terminal.waiting("writing") as bar:
        output.put("half a", end="")
        time.sleep(0.2)
        assert errors.getvalue() == ""
        output.put(" line")
        bar.advance(1, 2)
        assert "writing" in errors.getvalue()


# ---- colours


@pytest.mark.parametrize(
    ("variables", "on_a_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "0"}, False, False),
        ({"NO_COLOR": ""}, True, False),  # as no-color.org has it
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
    ],
)
def test_colours_are_for_terminals_unless_variables_say_otherwise(
    variables: dict[str, str],
    on_a_terminal: bool,
    elsewhere: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    assert terminal.has_colours(FakeTerminal()) is on_a_terminal
    assert terminal.has_colours(io.StringIO()) is elsewhere
    assert terminal.has_colours(None) is False
    closed = io.StringIO()
    closed.close()
    assert terminal.is_terminal(closed) is False


COLOURED = pytest.mark.parametrize(
    "arguments",
    [
        ["layers", "softmax"],
        pytest.param(["layers"], marks=pytest.mark.slow),
        pytest.param(["info"], marks=pytest.mark.slow),
    ],
)


@COLOURED
@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colours_unless_it_asks_for_none(
    arguments: list[str], variables: dict[str, str], coloured: bool
) -> None:
    code, _, sent = on_terminal(*arguments, stdout_too=True, **variables)
    assert code == 0
    assert ("\x1b[" in sent) is coloured


@COLOURED
def test_a_pipe_gets_no_colours_unless_they_are_forced(arguments: list[str]) -> None:
    assert b"\x1b" not in process(arguments, FORCE_COLOR="").stdout
    assert b"\x1b[" in process(arguments, FORCE_COLOR="1", TERM="xterm", NO_COLOR="").stdout


def test_the_help_and_the_results_are_plain_on_a_terminal_without_rich() -> None:
    first = "sys.modules['rich'] = sys.modules['rich.console'] = None"
    code, _, sent = on_terminal("info", stdout_too=True, first=first)
    assert code == 0
    assert "\x1b" not in sent
    assert sent.replace("\r\n", "\n") == process(["info"]).stdout.decode()


# ---- streams that are closed, full or gone


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of sh, in which $REFGIT is the command."""
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        cwd=ROOT,
        env=environment(REFGIT=f"{sys.executable} -m refgit", **variables),
        timeout=120,
        check=False,
    )


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
RESULTS = [
    f"caption {STAR}",
    "layers softmax",
    "--version",
    *(
        pytest.param(line, marks=pytest.mark.slow)
        for line in (
            f"caption {STAR} {STAR} --json",
            f"ask {STAR} 'what is this?'",
            f"classify {STAR} --labels $LABELS",
            "info",
            "layers",
            "--help",
            "caption --help",
        )
    ),
]


@needs_full
@pytest.mark.parametrize("command", RESULTS)
def test_a_full_disk_is_one_sentence_and_exit_code_2(command: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("red heart\nstar\n")
    done = shell(f"$REFGIT {command} > /dev/full", LABELS=str(labels))
    assert done.returncode == 2
    lines = [line for line in done.stderr.decode().splitlines() if "bundled model" not in line]
    assert lines == [
        "refgit: the result cannot be written to standard output: No space left on device."
    ]


@pytest.mark.parametrize("command", [f"caption {STAR}", "info", "layers softmax"])
def test_a_closed_stdout_is_one_sentence_and_exit_code_2(command: str) -> None:
    done = shell(f"$REFGIT {command} >&-")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "standard output is closed" in line


def test_a_closed_stdin_is_named() -> None:
    done = shell("$REFGIT caption - --model refgit-emoji <&-")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "standard input" in line
    assert "closed" in line


def test_a_closed_stderr_changes_neither_results_nor_exit_codes() -> None:
    done = shell(f"$REFGIT caption {STAR} missing.png 2>&-")
    assert (done.returncode, done.stdout.decode()) == (1, f"{STAR}\tstar\n")


@needs_full
def test_a_full_stderr_changes_neither_results_nor_exit_codes() -> None:
    done = shell(f"$REFGIT caption {STAR} missing.png 2>/dev/full")
    assert (done.returncode, done.stdout.decode()) == (1, f"{STAR}\tstar\n")


def test_a_reader_that_has_gone_is_no_error() -> None:
    done = shell("$REFGIT layers | head -1; true")
    assert done.stderr == b""
    done = shell("{ sleep 0.5; $REFGIT layers; echo $? >&2; } | true")
    assert done.stderr == b"0\n"


@pytest.mark.parametrize(
    "command", [["caption", "-", "-"], ["classify", "-", "a.png", "-", "--labels", "none.txt"]]
)
def test_standard_input_is_not_read_twice(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "occurs 2 times" in err


def test_an_interrupt_is_silent_and_exit_code_130() -> None:
    """While the command waits for an image on standard input."""
    command = [sys.executable, "-m", "refgit", "caption", "-", str(STAR)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        preexec_fn=ctrl_c_interrupts,
    )
    assert child.stdin is not None
    assert child.stderr is not None
    first = child.stderr.readline()  # of the bundled model, so the command has begun
    time.sleep(0.7)  # or it is still loading it: that may be interrupted as well
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert b"bundled model" in first
    assert (child.returncode, out, err) == (130, b"", b"")


def test_a_wrong_command_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("captoin", "a.png"): "did you mean caption?",
        ("caption", "a.png", "--jsn"): "did you mean --json?",
        ("caption", "a.png", "--dtype", "flaot32"): "did you mean float32?",
        ("layer",): "did you mean layers?",
    }
    for arguments, words in cases.items():
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    with pytest.raises(SystemExit):
        cli.main(["frobnicate"])
    assert "did you mean" not in capsys.readouterr().err


def test_what_is_written_to_a_pipe_is_what_was_asked_for_alone() -> None:
    done = process(["caption", "-", "--model", "refgit-emoji"], encoded())
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


# ---- what messages say


def test_an_error_of_the_system_is_said_without_its_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = FileNotFoundError(2, "No such file or directory", "a.bin")
    assert output.reason(missing) == "a.bin: No such file or directory."
    assert output.reason(OSError(28, "No space left on device")) == "No space left on device."
    failures = output.Failures(argparse.Namespace(debug=False, json=False))
    for name in ("a.bin", "b.bin"):
        with failures.tolerated(name):
            raise missing
    assert capsys.readouterr().err.splitlines() == [
        "refgit: a.bin: No such file or directory.",
        "refgit: b.bin: a.bin: No such file or directory.",
    ]


def test_an_address_of_the_web_is_to_be_downloaded_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["caption", "https://example.org/a.png", "--model", "refgit-emoji"]) == 1
    err = capsys.readouterr().err
    assert "Download it first" in err
    assert err.count("\n") == 1


def test_a_file_of_weights_in_the_place_of_a_directory_is_explained(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model / "model.safetensors"
    assert cli.main(["caption", str(STAR), "--model", str(file)]) == 2
    err = capsys.readouterr().err
    assert f"{file} is not a directory" in err
    assert "the directory that the file is in" in err


def test_an_empty_directory_of_a_model_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Path(output.__file__).parents[1] / "demo"
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((demo / name).read_bytes())
    assert cli.main(["caption", str(STAR), "--model", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "holds none of model.safetensors" in err
    assert "refgit convert" in err
