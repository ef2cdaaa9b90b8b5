"""Audit many files in several processes; one that dies costs one file, not the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from onnxscope.documents.audit import ModelFindings, Task, crashed, of_task

START = "spawn"
"""How processes begin: the only way that every system has, and that is safe beside threads."""


def spread(
    tasks: list[Task], jobs: int, done: Callable[[ModelFindings], None] | None = None
) -> Iterator[ModelFindings]:
    """The entries in the order of the tasks.

    A process that dies takes its pool and every waiting task with it. It then was at one of the first that
    are left: these are tried one by one, the others in a new pool.
    """
    answered = 0
    while answered < len(tasks):
        for entry in _pooled(tasks[answered:], jobs):
            answered += 1
            if done:
                done(entry)
            yield entry


def _pooled(tasks: list[Task], jobs: int) -> Iterator[ModelFindings]:
    """The entries of all tasks, or of the first ones, the task at which the pool broke among them."""
    answered = 0
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context(START)) as pool:
        try:
            for future in [pool.submit(of_task, task) for task in tasks]:
                entry = future.result()
                answered += 1
                yield entry
            return
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)
    under_way = 2 * jobs + 1  # one per process, and those that the pool hands out ahead
    for task in tasks[answered : answered + under_way]:
        yield _alone(task)


def _alone(task: Task) -> ModelFindings:
    with ProcessPoolExecutor(1, get_context(START)) as pool:
        try:
            return pool.submit(of_task, task).result()
        except BrokenProcessPool:
            return crashed(task)
