"""The worker process: crashes, hangs and lacks of memory are errors, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.proof.worker import Worker

CPU = runtime.parse("cpu")
STUB = """
import os, sys, time
from onnxscope.proof.worker import read, write
while True:
    request = read(sys.stdin.buffer)
    write(sys.stdout.buffer, ("phase", "session"))
    {action}
"""


def stub(action):
    return (sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n" + STUB.format(action=action))


def gone(pid):
    """Whether no process of this id runs (the test's own children are reaped by their Worker)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def square(path=None):
    """y = x * x, and the value in the middle z = x + x."""
    nodes = [helper.make_node("Add", ["x", "x"], ["z"]), helper.make_node("Mul", ["z", "x"], ["y"])]
    kind = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [kind("x", TensorProto.FLOAT, ["n"])], [kind("y", TensorProto.FLOAT, ["n"])]
    )
    data = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    blob = data.SerializeToString()
    if path:
        path.write_bytes(blob)
    return blob


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("os.kill(os.getpid(), 11)", "crashed with SIGSEGV while creating the session"),
        ("os.kill(os.getpid(), 6)", "crashed with SIGABRT while creating the session"),
        ("os.kill(os.getpid(), 9)", "was killed, probably for lack of memory"),
        ("print('last words', file=sys.stderr); sys.exit(3)", "ended with status 3 .*: last words"),
        ("write(sys.stdout.buffer, ('error', ('memory', 'bad_alloc', '')))", "out of memory while creating"),
        (
            "write(sys.stdout.buffer, ('error', ('error', 'no kernel', '')))",
            "failed while creating.* no kernel",
        ),
        ("os.write(1, b'x' * 64); time.sleep(60)", "the worker sent what is no message"),
    ],
)
def test_what_happens_to_the_child_is_one_error(action, words):
    with Worker(10, command=stub(action)) as worker:
        with pytest.raises(RuntimeFailure, match=words) as caught:
            worker.call("run", provider="CPUExecutionProvider")
        assert str(caught.value).startswith("CPUExecutionProvider: ")
        assert "\n" not in str(caught.value)
        pid = worker.pid
    assert gone(pid)


def test_a_hang_ends_at_the_time_out():
    with Worker(3, command=stub("time.sleep(60)")) as worker:
        with pytest.raises(RuntimeFailure, match=r"no answer for 3 s while creating the session") as error:
            worker.call("run", provider="X")
        assert "--timeout" in error.value.help
        assert gone(worker.pid)


def test_whoever_waits_for_a_worker_that_another_thread_gave_up_is_told_why():
    with Worker(1, command=stub("time.sleep(60)")) as worker:
        told: list[str] = []

        def ask() -> None:
            with pytest.raises(RuntimeFailure) as error:
                worker.call("run", provider="X")
            told.append(str(error.value))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 2
    assert all("no answer for 1 s" in text for text in told)


def test_a_child_that_never_starts_is_an_error():
    with (
        Worker(10, command=(sys.executable, "-c", "raise SystemExit('no')")) as worker,
        pytest.raises(RuntimeFailure, match="ended with status 1 while starting onnxruntime: no"),
    ):
        worker.call("run")


def test_values_inside_the_model_can_be_asked_for(tmp_path):
    x = np.array([1, 2, 3], np.float32)
    square(tmp_path / "m.onnx")
    with Worker(60) as worker:
        runner = worker.runner(CPU)
        for model in (tmp_path / "m.onnx", square()):
            assert runner.run(model, {"x": x})["y"].tolist() == [2, 8, 18]
            both = runner.run(model, {"x": x}, ["z", "y"], optimization="none")
            assert {name: value.tolist() for name, value in both.items()} == {
                "z": [2, 4, 6],
                "y": [2, 8, 18],
            }


def test_a_failure_of_onnxruntime_leaves_the_worker_usable(tmp_path):
    square(tmp_path / "m.onnx")
    with Worker(60) as worker:
        runner = worker.runner(CPU)
        with pytest.raises(RuntimeFailure, match=r"while running the model: .*x"):
            runner.run(tmp_path / "m.onnx", {"wrong": np.ones(1, np.float32)})
        with pytest.raises(RuntimeFailure, match="while creating the session"):
            runner.run(tmp_path / "m.onnx", {"x": np.ones(1, np.float32)}, ["nowhere"])
        assert runner.run(tmp_path / "m.onnx", {"x": np.ones(1, np.float32)})["y"].tolist() == [2]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are kept on Linux")
def test_a_real_lack_of_memory_in_onnxruntime(tmp_path):
    kind = helper.make_tensor_value_info
    expand = helper.make_node("Expand", ["x", "s"], ["y"])
    graph = helper.make_graph(
        [expand], "g", [kind("x", 1, [1]), kind("s", 7, [1])], [kind("y", TensorProto.FLOAT, ["n"])]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with Worker(60, memory=4 << 30) as worker:
        feeds = {"x": np.ones(1, np.float32), "s": np.array([1 << 33])}
        with pytest.raises(RuntimeFailure, match="out of memory while running the model"):
            worker.runner(CPU).run(model.SerializeToString(), feeds)


def test_the_child_ends_when_the_parent_dies(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path[:] = {sys.path!r}
        from onnxscope.proof.worker import Worker
        worker = Worker()
        worker.call("memory")
        print(worker.pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if gone(child):
            break
        time.sleep(0.05)
    assert gone(child)


def test_control_c_ends_the_child_and_leaves_no_file(tmp_path):
    square(tmp_path / "m.onnx")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    script = textwrap.dedent(
        f"""
        import sys
        sys.path[:] = {sys.path!r}
        from onnxscope.proof.result import Request
        from onnxscope.proof.verify import verify
        model = {str(tmp_path / "m.onnx")!r}
        verify(Request(model, model, trials=5000), lambda text: print(text, flush=True))
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    with parent:
        while not parent.stdout.readline().startswith("signed"):
            pass
        parent.send_signal(signal.SIGINT)
        parent.stdout.read()
    assert parent.returncode not in (0, None)
    assert list(scratch.iterdir()) == []


def test_models_of_other_threads_do_not_push_one_out_before_it_runs(monkeypatch):
    """The child keeps four models; a fifth and later ones came between the giving of a model and its run."""
    hold = Worker.hold
    others = []

    def held(self, data):
        key = hold(self, data)
        if not others:
            more = [helper.make_model(helper.make_graph([], str(n), [], [])) for n in range(9)]
            blobs = [model.SerializeToString() for model in more]
            others.append(threading.Thread(target=lambda: [hold(self, blob) for blob in blobs]))
            others[0].start()
            others[0].join(0.5)
        return key

    monkeypatch.setattr(Worker, "hold", held)
    with Worker(60) as worker:
        found = worker.runner(CPU).run(square(), {"x": np.ones(3, np.float32)})
        others[0].join()
    assert found["y"].tolist() == [2, 2, 2]
