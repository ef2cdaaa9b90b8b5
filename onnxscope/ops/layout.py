"""Ops that view, permute or repeat their elements: Reshape, Transpose, Expand, Tile and kin.

Small known values keep their content, symbols included, so that shape arithmetic flows through.
Source: ONNX Operators.md and Changelog.md, the versions named at each rule.
"""

from __future__ import annotations

from math import prod

from onnxscope import dtypes
from onnxscope.expr import Expr, Size, at_least, exact_div, floor_div, product
from onnxscope.ops._broadcast import broadcast
from onnxscope.ops._content import permuted, plain, reshaped, take
from onnxscope.ops._folding import spread
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import DATA_LIMIT, Data, Inferred, Shape, Unanswered, one

Ints = tuple[int, ...]


@op("Reshape")
def reshape(n: View, *, shape: Ints = (), allowzero: int = 0) -> Inferred:
    """Y has the target sizes; 0 copies the size of X at that place (not with allowzero), a -1 takes the rest.

    The target is an attribute before Reshape-5. Where its content is unknown, its length still tells the
    rank. The -1 becomes prod(X)/prod(others): equal sizes cancel first, so that [N, C, H, W] -> [N, -1] is
    C*H*W. Source: Reshape-1, -5, -14.
    """
    x = n.shape_or_none(0)
    target: tuple[Size, ...] = shape
    if n.node.attribute("shape") is None:
        if n.content(1) is None:
            return one(n.unknowns(_length(n, 1)), n.dtype(0))
        target = n.sizes(1)
    if allowzero and 0 in target and -1 in target:
        raise Unanswered("allowzero forbids a 0 together with a -1")
    y = _reshape_target(n, x, target, copy_zero=not allowzero)
    agree = () if x is None else _same_count(x, y)
    return one(y, n.dtype(0), reshaped(n.known(0), y), agree=agree)


def _length(n: View, index: int) -> int:
    """Elements of a 1-D input whose content is unknown."""
    (length,) = n.shape(index, rank=1)
    if not isinstance(length, int):
        raise Unanswered(f"the length of input {index} ({n.node.inputs[index]}) and so the rank is unknown")
    return length


def _reshape_target(n: View, x: Shape | None, target: Shape, *, copy_zero: bool) -> Shape:
    if any(isinstance(size, int) and size < -1 for size in target) or target.count(-1) > 1:
        raise Unanswered(f"no shape: {', '.join(map(str, target))}")
    y = list(target)
    for i, size in enumerate(target):
        if size == 0 and copy_zero:
            if x is not None and i >= len(x):
                raise Unanswered(f"target {i} copies an axis that the input (rank {len(x)}) doesn't have")
            y[i] = n.unknown(i) if x is None else x[i]
    if -1 in target:
        place = target.index(-1)
        others = y[:place] + y[place + 1 :]
        rest = None if x is None else _quotient(x, others)
        y[place] = n.unknown(place) if rest is None else rest
    return tuple(y)


def _quotient(sizes: Shape, others: list[Size]) -> Size | None:
    """prod(sizes)/prod(others); None where the others hold a 0, so that any size would do."""
    if 0 in others:
        return None
    left, right = list(sizes), []
    for size in others:
        if size in left:
            left.remove(size)
        else:
            right.append(size)
    above, below = product(left), product(right)
    exact = exact_div(above, below)
    if exact is None and isinstance(above, int) and isinstance(below, int):
        raise Unanswered(f"{above} elements can't be divided by {below}")
    return floor_div(above, below) if exact is None else exact


def _same_count(x: Shape, y: Shape) -> tuple[tuple[str, Size, Size], ...]:
    before, after = product(x), product(y)
    if isinstance(before, int) and isinstance(after, int):
        return (("element counts of input and output", before, after),)
    return ()


@op("Flatten")
def flatten(n: View, *, axis: int = 1) -> Inferred:
    """Y [prod(X[:axis]), prod(X[axis:])]; axis may be 0 or rank, and negative from Flatten-11.

    Source: Flatten-13.
    """
    x = n.shape(0)
    if not -len(x) <= axis <= len(x):
        raise Unanswered(f"axis {axis} is outside rank {len(x)}")
    cut = axis + len(x) if axis < 0 else axis
    y = (product(x[:cut]), product(x[cut:]))
    return one(y, n.dtype(0), reshaped(n.known(0), y))


@op("Transpose")
def transpose(n: View, *, perm: Ints = ()) -> Inferred:
    """Y[i] = X[perm[i]]; perm reverses the axes where it isn't given. Source: Transpose-1, -21."""
    x = n.shape(0)
    order = perm or tuple(reversed(range(len(x))))
    if sorted(order) != list(range(len(x))):
        raise Unanswered(f"perm {list(order)} is no order of {len(x)} axes")
    data = n.known(0)
    return one([x[i] for i in order], n.dtype(0), None if data is None else permuted(data, order))


@op("Squeeze")
def squeeze(n: View, *, axes: Ints = ()) -> Inferred:
    """X without the given axes of size 1; without axes, or with an empty list, every axis of size 1 goes.

    axes is an attribute before Squeeze-13. Without axes, a symbolic size that may be 1 leaves the rank
    unknown. Source: Squeeze-1, -11, -13.
    """
    x = n.shape(0)
    given = n.ints(1) if n.has(1) else axes
    gone = {axis_of(axis, len(x)) for axis in given} or _ones(x)
    wrong = [i for i in gone if isinstance(x[i], int) and x[i] != 1]
    if wrong:
        raise Unanswered(f"axis {wrong[0]} has size {x[wrong[0]]}, only 1 can be squeezed")
    y = tuple(size for i, size in enumerate(x) if i not in gone)
    return one(y, n.dtype(0), reshaped(n.known(0), y))


def _ones(x: Shape) -> set[int]:
    for i, size in enumerate(x):
        if isinstance(size, Expr) and not at_least(size, 2):
            raise Unanswered(
                f"axis {i} of size {size} is squeezed only where that is 1, so the rank is unknown"
            )
    return {i for i, size in enumerate(x) if size == 1}


@op("Unsqueeze")
def unsqueeze(n: View, *, axes: Ints = ()) -> Inferred:
    """X with an axis of size 1 at each place of `axes`, counted in Y. Source: Unsqueeze-13."""
    x = n.shape(0)
    given = n.ints(1) if n.has(1) else axes
    rank = len(x) + len(given)
    new = {axis_of(axis, rank) for axis in given}
    if len(new) != len(given):
        raise Unanswered(f"axes {list(given)} name one place twice")
    rest = iter(x)
    y = tuple(1 if i in new else next(rest) for i in range(rank))
    return one(y, n.dtype(0), reshaped(n.known(0), y))


@op("Expand", since=8)
def expand(n: View) -> Inferred:
    """X broadcast together with the sizes in input 1 (which may be 1 where X is larger).

    Unknown content of input 1: axes of X above 1 keep their size, the others are unknown. Source: Expand-8,
    -13.
    """
    x = n.shape(0)
    if n.content(1) is None:
        rank = max(len(x), _length(n, 1))
        unknown = n.unknowns(rank)
        padded: Shape = (1,) * (rank - len(x)) + x
        sizes = zip(padded, unknown, strict=True)
        return one([size if at_least(size, 2) else other for size, other in sizes], n.dtype(0))
    wanted = n.sizes(1)
    if any(isinstance(size, int) and size < 0 for size in wanted):
        raise Unanswered(f"no shape: {', '.join(map(str, wanted))}")
    y = broadcast(x, wanted)
    return one(y, n.dtype(0), _repeated(n.known(0), y))


def _repeated(data: Data | None, y: Shape) -> Data | None:
    sizes = plain(y)
    if data is None or sizes is None or prod(sizes) > DATA_LIMIT:
        return None
    return Data(sizes, tuple(spread(data, sizes)))


@op("Tile")
def tile(n: View) -> Inferred:
    """Y[i] = X[i]*repeats[i]; Tile-1 repeats one axis: inputs X, tiles (a number), axis.

    Source: Tile-1, -6, -13.
    """
    x = n.shape(0)
    if n.has(2):
        place = axis_of(_number(n, 2), len(x))
        repeats: tuple[Size, ...] = tuple(_number(n, 1) if i == place else 1 for i in range(len(x)))
    elif n.content(1) is None:
        return one([n.unknown(i) for i in range(len(x))], n.dtype(0))
    else:
        repeats = n.sizes(1)
    if len(repeats) != len(x):
        raise Unanswered(f"{len(repeats)} repeats for rank {len(x)}")
    y = tuple(size * times for size, times in zip(x, repeats, strict=True))
    return one(y, n.dtype(0), _tiled(n.known(0), repeats, y))


def _number(n: View, index: int) -> Size:
    """A whole number that Tile-1 holds in a tensor of X's (floating) type."""
    (item,) = n.data(index).items
    if isinstance(item, float) and item.is_integer():
        return int(item)
    if isinstance(item, (int, Expr)):
        return item
    raise Unanswered(f"input {index} ({n.node.inputs[index]}) holds {item}, not a whole number")


def _tiled(data: Data | None, repeats: tuple[Size, ...], y: Shape) -> Data | None:
    times, sizes = plain(repeats), plain(y)
    if data is None or times is None or sizes is None or prod(sizes) > DATA_LIMIT:
        return None
    for axis, count in enumerate(times):
        data = take(data, axis, list(range(data.shape[axis])) * count)
    return data


@op("DepthToSpace")
def depth_to_space(n: View, *, blocksize: int = 0) -> Inferred:
    """X [N, C, H, W] -> Y [N, C/b^2, H*b, W*b] with b = blocksize, in either mode.

    Source: DepthToSpace-1, -11, -13.
    """
    batch, channels, height, width = n.shape(0, rank=4)
    _check_block(blocksize)
    return one((batch, _whole(channels, blocksize**2), height * blocksize, width * blocksize), n.dtype(0))


@op("SpaceToDepth")
def space_to_depth(n: View, *, blocksize: int = 0) -> Inferred:
    """X [N, C, H, W] -> Y [N, C*b^2, H/b, W/b] with b = blocksize. Source: SpaceToDepth-1, -13."""
    batch, channels, height, width = n.shape(0, rank=4)
    _check_block(blocksize)
    return one(
        (batch, channels * blocksize**2, _whole(height, blocksize), _whole(width, blocksize)), n.dtype(0)
    )


def _check_block(blocksize: int) -> None:
    if blocksize < 1:
        raise Unanswered(f"blocksize {blocksize} is below 1")


def _whole(size: Size, divisor: int) -> Size:
    if isinstance(size, int) and size % divisor:
        raise Unanswered(f"size {size} is no multiple of {divisor}")
    return size // divisor


@op("ReverseSequence", since=10)
@op("Scatter", since=9)
@op("ScatterElements", "ScatterND", since=11)
@op("TensorScatter", since=24)
def same_as_data(n: View) -> Inferred:
    """Y has the shape and type of input 0; what is written into it changes no size.

    Source: ScatterND-18 and others.
    """
    return one(n.shape(0), n.dtype(0))


@op("GridSample", since=16)
@op("GridSample", domain="com.microsoft")
def grid_sample(n: View) -> Inferred:
    """X [N, C, *S], grid [N, *S', rank(S)] -> Y [N, C, *S']. Source: GridSample-16, -20."""
    grid = n.shape(1)
    x = n.shape(0, rank=len(grid))
    if len(x) < 3:
        raise Unanswered(f"GridSample needs a batch, a channel and a spatial axis; got rank {len(x)}")
    agree = (
        ("batch of input and grid", x[0], grid[0]),
        ("spatial axes and coordinates", len(x) - 2, grid[-1]),
    )
    return one((*x[:2], *grid[1:-1]), n.dtype(0), agree=agree)


@op("AffineGrid", since=20)
def affine_grid(n: View) -> Inferred:
    """Matrices [N, r, r+1], size (N, C, *S) -> grid [N, *S, r]; r is 2 or 3. Source: AffineGrid-20.

    Unknown content of size: N is theta's, S unknown.
    """
    if n.content(1) is not None:
        batch, _, *spatial = n.sizes(1)
        return one((batch, *spatial, len(spatial)), n.dtype(0))
    batch, axes, _ = n.shape(0, rank=3)
    if not isinstance(axes, int):
        raise Unanswered("neither the size nor the shape of theta tells whether the grid is 2-D or 3-D")
    return one((batch, *n.unknowns(axes, 1), axes), n.dtype(0))


@op("ImageDecoder", since=20)
def image_decoder(n: View, *, pixel_format: str = "RGB") -> Inferred:
    """Encoded bytes -> uint8 image [H, W, C], C = 1 for Grayscale, else 3; H, W unknown.

    Source: ImageDecoder-20.
    """
    return one((n.unknown(0), n.unknown(1), 1 if pixel_format == "Grayscale" else 3), dtypes.UINT8)
