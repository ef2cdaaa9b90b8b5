"""However a verification ends, nothing stays: no process, no temporary file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LENET = str(ROOT / "models" / "lenet5.onnx")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be handled")


def workers(parent):
    """Process ids of the children of a process."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", number, "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(number))
    return found


def running(pid):
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(condition):
    """Whether something comes true within ten seconds."""
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


def importing(scratch):
    """Whether the worker imports onnxruntime: it does so with a temporary folder of its own."""
    return any(scratch.glob("onnxscope-*/onnxscope-*"))


def started(scratch):
    """A long verification by the command line, and its worker, which is importing onnxruntime."""
    command = [sys.executable, "-m", "onnxscope", "verify", LENET, LENET, "--trials", "5000"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # a shell that starts the tests in the background lets them ignore it, and with them the command
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert soon(lambda: importing(scratch))
    return process, workers(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("pause", [0, 0.3, 1.5])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_verification_that_is_stopped_leaves_nothing(tmp_path, number, code, pause):
    process, children = started(tmp_path)
    with process:
        time.sleep(pause)
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr.read().strip() == b""
    assert os.listdir(tmp_path) == []
    assert len(children) == 1
    assert soon(lambda: not any(map(running, children)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_impatient_user_leaves_nothing_either(tmp_path):
    process, children = started(tmp_path)
    with process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        assert process.returncode == 130
        assert process.stderr.read().strip() == b""
    assert os.listdir(tmp_path) == []
    assert soon(lambda: not any(map(running, children)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("pause", [0, 1.5])
def test_a_worker_whose_parent_was_killed_ends_and_tidies_up(tmp_path, pause):
    process, children = started(tmp_path)
    with process:
        time.sleep(pause)
        process.kill()
    assert soon(lambda: not any(map(running, children)))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a process of its own number 1 is Unix's")
def test_a_worker_whose_parent_was_killed_while_it_started_tidies_up(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait()
    code = f"from onnxscope.proof.worker import serve; serve(None, {str(scratch)!r}, {parent.pid})"
    subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=True, timeout=60)
    assert not scratch.exists()
