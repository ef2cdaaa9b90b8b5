"""Audit many files in several processes; one that dies costs one file, not the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from onnxscope.documents.audit import ModelFindings, Task, crashed, of_task

START = "spawn"
"""How processes begin: the only way that every system has, and that is safe beside threads."""


def spread(
    tasks: list[Task], jobs: int, done: Callable[[ModelFindings], None] | None = None
) -> Iterator[ModelFindings]:
    """The entries in the order of the tasks."""
    with ProcessPoolExecutor(jobs, get_context(START)) as pool:
        waiting = [pool.submit(of_task, task) for task in tasks]
        try:
            for task, future in zip(tasks, waiting, strict=True):
                entry = _entry(task, future)
                if done:
                    done(entry)
                yield entry
        finally:
            pool.shutdown(cancel_futures=True)


def _entry(task: Task, future: Future[ModelFindings]) -> ModelFindings:
    """The answer; where the pool broke, which takes every waiting task with it, one more try in its own."""
    try:
        return future.result()
    except BrokenProcessPool:
        with ProcessPoolExecutor(1, get_context(START)) as alone:
            try:
                return alone.submit(of_task, task).result()
            except BrokenProcessPool:
                return crashed(task)
