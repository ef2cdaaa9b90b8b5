"""A model file that is finished under another name, checked there, and only then given its own.

`save` makes a file that is whole or absent; this makes one that is also proved or absent: the new file is
complete and readable at `Staged.path`, beside the target, until `Staged.commit` renames it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from onnxscope.errors import UsageError
from onnxscope.files.encode import model_tensors
from onnxscope.files.external import ExternalData
from onnxscope.files.write import refuse, save
from onnxscope.graph import Model


class Staged(NamedTuple):
    """A finished file that doesn't bear its name yet."""

    path: str
    """Where it is now."""
    target: str
    """Where it goes."""
    written: tuple[str, ...]
    """All files written, the model first; a second one holds external data."""

    def commit(self) -> list[str]:
        """Give the files their names, external data first; returns the names. Raises UsageError."""
        names = [self.target, *(f"{self.target}.data" for _ in self.written[1:])]
        try:
            for now, name in reversed([*zip(self.written, names, strict=True)]):
                os.replace(now, name)
        except OSError as error:
            raise UsageError(f"can't be written: {error.strerror}", where=self.target) from None
        return names


@contextmanager
def staged(
    model: Model, path: str | os.PathLike[str], *, external_data: bool = False, force: bool = False
) -> Iterator[Staged]:
    """Write a model beside `path`; nothing of it is left after the block unless it was committed.

    Arguments and errors are those of `files.write.save`.
    """
    target = os.path.abspath(os.fspath(path))
    check_target(model, path, force=force)
    folder, name = os.path.split(target)
    place = os.path.join(folder, f".{name[:100]}.{os.urandom(4).hex()}.part")
    try:
        yield Staged(*_written(model, place, target, external_data, force))
    finally:
        _remove(place)


def _written(
    model: Model, place: str, target: str, external_data: bool, force: bool
) -> tuple[str, str, tuple[str, ...]]:
    """The fields of a `Staged`: the file is at `place`, or in a folder of that name."""
    folder, name = os.path.split(target)
    written = _referring(model, place) if not external_data and _refers(model, folder) else None
    if written is None:
        try:
            os.mkdir(place)
        except OSError as error:
            raise UsageError(f"can't be written: {error.strerror}", where=target) from None
        written = save(model, os.path.join(place, name), external_data=external_data)
    if len(written) > 1:
        refuse(f"{target}.data", model, force)
    return written[0], target, tuple(written)


def check_target(model: Model, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise UsageError for a target that exists (without `force`), belongs to the model or has no folder."""
    refuse(os.fspath(path), model, force)


def _referring(model: Model, place: str) -> list[str] | None:
    """The model alone, its weights staying in the source's external files; None where it passes 2 GiB."""
    written = save(model, place)
    if len(written) == 1:
        return written
    for path in written:
        os.unlink(path)
    return None


def _refers(model: Model, folder: str) -> bool:
    """Whether weights of the model lie in external files of this folder, which a file here can refer to."""
    here = os.path.realpath(folder)
    return any(
        here in {os.path.realpath(place) for place in tensor.storage.source.folders}
        for tensor, _ in model_tensors(model)
        if isinstance(tensor.storage, ExternalData)
    )


def _remove(place: str) -> None:
    if os.path.isdir(place):
        shutil.rmtree(place, ignore_errors=True)
    elif os.path.lexists(place):
        os.unlink(place)
