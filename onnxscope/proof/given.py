"""Inputs from the user's files: arrays by name, one array, or images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from onnxscope import dtypes
from onnxscope.errors import UsageError
from onnxscope.proof.inputs import Array, Draw, Feeds, shapes_at, symbol_of
from onnxscope.proof.interface import InputPair

IMAGES = (".png", ".ppm", ".jpg", ".jpeg")
_TAKEN = {"i": "iub", "u": "iub", "b": "iub", "c": "fiubc"}
"""Kinds of numbers (numpy's letters) that an input of a kind can be made of, floats and texts apart."""


def trials(path: str, inputs: Sequence[InputPair], seed: int) -> tuple[Draw, ...]:
    """One trial per file: `path` is a .npz, a .npy, an image, or a folder of such files.

    Inputs that a file doesn't give are drawn. Raises UsageError for a file that is missing, unreadable or
    doesn't fit the inputs.
    """
    files = _files(path)
    return tuple(_trial(file, inputs, seed) for file in files)


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise UsageError("there is no such file or folder of inputs", where=path)
        return [path]
    known = (".npz", ".npy", *IMAGES)
    found = [name for name in sorted(os.listdir(path)) if name.lower().endswith(known)]
    if not found:
        raise UsageError(f"the folder has no inputs ({', '.join(known)})", where=path)
    return [os.path.join(path, name) for name in found]


def _trial(path: str, inputs: Sequence[InputPair], seed: int) -> Draw:
    given = _arrays(path, inputs)
    pairs = {pair.name: pair for pair in inputs}
    unknown = [name for name in given if name not in pairs]
    if unknown:
        names = ", ".join(pairs) or "none"
        raise UsageError(f"{unknown[0]!r} is no input of both models", where=path, help=f"inputs: {names}")
    cast = {name: _fitting(path, pairs[name], array) for name, array in given.items()}
    sizes = {
        symbol_of(pairs[name], axis): size
        for name, array in cast.items()
        for axis, size in enumerate(array.shape)
        if axis < len(pairs[name].sizes) and not isinstance(pairs[name].sizes[axis], int)
    }
    shapes = shapes_at(inputs, sizes) | {name: array.shape for name, array in cast.items()}
    return Draw(seed, f"file {os.path.basename(path)}", shapes, cast)


def _arrays(path: str, inputs: Sequence[InputPair]) -> Feeds:
    if path.lower().endswith(IMAGES):
        pair = _image_input(path, inputs)
        return {pair.name: _image(path, pair)}
    found = _loaded(path)
    if isinstance(found, dict):
        return found
    if len(inputs) != 1:
        raise UsageError("a .npy file holds one input", where=path, help="use .npz with names")
    return {inputs[0].name: found}


def _loaded(path: str) -> Array | Feeds:
    """The array of a .npy, or those of a .npz by name. Raises UsageError where they can't be had."""
    from tokenize import TokenError  # numpy reads headers of Python 2 by its tokens
    from zipfile import BadZipFile
    from zlib import error as zlib_error

    damaged = (OSError, ValueError, EOFError, MemoryError, RuntimeError, BadZipFile, TokenError, zlib_error)
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            members = {name: found[name] for name in found.files}
    except damaged as error:
        why = "Python objects, or no arrays" if "pickle" in str(error) else str(error)
        raise UsageError(f"can't be read as arrays of numbers: {why}", where=path) from None
    if not all(isinstance(array, np.ndarray) for array in members.values()):
        raise UsageError("can't be read as arrays of numbers: a member is no .npy", where=path)
    return members


def _fitting(path: str, pair: InputPair, array: Array) -> Array:
    """The array in the input's type; its sizes must be the fixed ones."""
    kind = dtypes.BY_CODE.get(pair.dtype)
    wanted = kind.numpy if kind else array.dtype
    fits = len(array.shape) == len(pair.sizes) and all(
        size == asked for size, asked in zip(array.shape, pair.sizes, strict=True) if isinstance(asked, int)
    )
    if pair.sizes and not fits:
        sizes = [size if size is not None else "?" for size in pair.sizes]
        raise UsageError(f"{pair.name} has shape {list(array.shape)}, the model takes {sizes}", where=path)
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in _TAKEN.get(wanted.kind, "OUS" if wanted.kind in "OUS" else "fiub"):
        raise UsageError(f"{pair.name} holds {array.dtype}, the model takes {wanted}", where=path)
    cast = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(cast, array):
        raise UsageError(f"{pair.name} holds numbers that {wanted} can't hold", where=path)
    return cast


def _image_input(path: str, inputs: Sequence[InputPair]) -> InputPair:
    found = [pair for pair in inputs if len(pair.sizes) == 4]
    if len(found) != 1:
        raise UsageError("an image fits models with exactly one input of 4 axes", where=path)
    return found[0]


def _image(path: str, pair: InputPair) -> Array:
    """The image as [1, C, H, W] or [1, H, W, C], resized to a fixed size; floats lie in 0..1."""
    try:  # an optional helper that only this needs, so it is no dependency
        pillow: Any = import_module("PIL.Image")
    except ImportError:
        raise UsageError("reading images needs Pillow", where=path, help="pip install pillow") from None
    last = pair.sizes[3] in (1, 3) and pair.sizes[1] not in (1, 3)
    channels = pair.sizes[3] if last else pair.sizes[1]
    height, width = pair.sizes[1:3] if last else pair.sizes[2:]
    try:
        with pillow.open(path) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise UsageError(f"can't be read as an image: {error}", where=path) from None
    size = (
        (width if isinstance(width, int) else picture.width),
        (height if isinstance(height, int) else picture.height),
    )
    array = np.asarray(picture.resize(size) if size != picture.size else picture, np.uint8)
    array = array.reshape(*array.shape[:2], -1)[None]
    ordered = array if last else array.transpose(0, 3, 1, 2)
    kind = dtypes.BY_CODE.get(pair.dtype)
    whole = kind is not None and kind.kind in ("int", "uint")
    return np.ascontiguousarray(ordered) if whole else ordered.astype(np.float32) / np.float32(255)
