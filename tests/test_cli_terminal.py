"""What the command writes to a terminal: its width, and colors only where they are wanted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MNIST = str(ROOT / "models" / "mnist_conv.onnx")


def in_terminal(arguments, columns, **environment):
    """What the command writes to a terminal of that width."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    started = subprocess.Popen(
        [sys.executable, "-m", "onnxscope", *arguments],
        stdout=child,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=kept | {"TERM": "xterm"} | environment,
    )
    os.close(child)
    chunks = []
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(parent)
    assert started.wait(60) == 0
    return b"".join(chunks).decode()


def test_a_terminal_gets_its_width_and_color():
    shown = in_terminal(["report", MNIST], 72)
    assert "\x1b[1m" in shown
    plain = shown.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert max(len(line) for line in plain.split("\r\n")) <= 72
    assert "receptive field  input" in in_terminal(["report", MNIST, "--no-color"], 160)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--no-color", "report", MNIST], {}),
        (["report", MNIST], {"NO_COLOR": "1"}),
        (["report", MNIST], {"TERM": "dumb"}),
    ],
)
def test_no_color_where_none_is_wanted(arguments, environment):
    assert "\x1b" not in in_terminal(arguments, 100, **environment)
