"""Views: how a value of the original graph lies in a map [N, C, *S] of the converted one.

Every value that comes from a feature map has a *twin* there, a value [N, C, *S]. A view says, for each axis
of the original value, which axes of the twin are merged in it, in which order: `((0,), (1,), (2,), (3,))` is
the map itself, `((0,), (1, 2, 3))` its flattened form, `((0,), (2, 3, 1))` one flattened channels-last, and
`((0,), (1,))` a lifted vector [N, C], whose twin is [N, C, 1, 1] at the native size. Axes of the twin that
stand in no group have size 1 at the native size; a group without axes is an axis of size 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from onnxscope.expr import Expr, Size, product
from onnxscope.ops.value import Shape

Group: TypeAlias = tuple[int, ...]
Groups: TypeAlias = tuple[Group, ...]


class Front(NamedTuple):
    """A map that holds results of converted layers and is flattened or pooled as a whole: a head's own."""

    value: str
    """The original value."""
    twin: str
    axes: tuple[int, ...]
    """The twin's axes in the order in which the original value has them."""
    channels: Size
    spatial: Shape
    """S at the native size."""


@dataclass(frozen=True, slots=True)
class View:
    """One value of the original graph as a view of its twin."""

    twin: str
    """Name of the twin; final only after `select`."""
    groups: Groups
    channels: Size
    """C of the twin."""
    spatial: Shape
    """S of the twin at the native size."""
    free: Shape
    """S of the twin as closed forms of the free input size."""
    layers: frozenset[int] = frozenset()
    """Indexes of the converted layers behind it: empty for a value that the original graph has too."""
    pools: frozenset[int] = frozenset()
    """Indexes of the global pools behind it that became windows."""
    base: str = ""
    """The feature map behind it: the last map [N, C, *S] of the original graph."""
    pooled: str = ""
    """The map in front of the global pool, where one lies between."""
    front: Front | None = None
    """The map in front of the head, where that isn't `base`: a residual block's, for one."""

    @property
    def rank(self) -> int:
        """Axes of the twin."""
        return 2 + len(self.spatial)

    @property
    def plain(self) -> bool:
        """Whether the original value has the twin's own axes."""
        return len(self.groups) == self.rank and all(
            group in ((axis,), ()) for axis, group in enumerate(self.groups)
        )

    @property
    def permuted(self) -> bool:
        """Whether the original value is the twin transposed, at every size."""
        return len(self.groups) == self.rank and sorted(self.groups) == [(a,) for a in range(self.rank)]

    @property
    def single(self) -> bool:
        """Whether the twin has one cell at every input size."""
        return all(size == 1 for size in self.free)

    def axis_of(self, axis: int) -> Group | None:
        """The twin's axes behind an axis of the original value, counted from either end; None outside."""
        return self.groups[axis] if -len(self.groups) <= axis < len(self.groups) else None

    def regrouped(self, groups: Groups) -> View:
        """The same twin seen in other groups."""
        return replace(self, groups=groups)


@dataclass(frozen=True, slots=True)
class Joined:
    """Features of several views one behind the other, [N, F1 + F2 + ...]: no one twin holds them."""

    parts: tuple[View, ...]

    @property
    def base(self) -> str:
        """The first feature map behind it."""
        return next((part.base for part in self.parts if part.base), "")


@dataclass(frozen=True, slots=True)
class Lost:
    """A value that no view describes, and the op that ended the last one."""

    reason: str
    """One clause, for example `CumSum c has no convolutional twin`."""
    base: str = ""
    """The feature map behind it."""


def fresh(name: str, shape: Shape, free: Shape, pooled: str = "") -> View:
    """The view of a map [N, C, *S] of the original graph: itself."""
    groups = tuple((axis,) for axis in range(len(shape)))
    return canonical(View(name, groups, shape[1], shape[2:], free, base=name, pooled=pooled))


def canonical(view: View) -> View:
    """Without the spatial axes of size 1: an axis that holds only such a one gets an empty group."""
    single = {2 + i for i, size in enumerate(view.spatial) if size == 1}
    if not single:
        return view
    return view.regrouped(tuple(tuple(a for a in group if a not in single) for group in view.groups))


def reshaped(view: View, batch: Size, target: Shape) -> Groups | None:
    """The groups after a reshape to `target`; None where an axis of the twin would be torn apart.

    `batch` is the size of the twin's axis 0. Row-major order is kept by every reshape, so the twin's axes, in
    the order in which the groups list them, are dealt out to the axes of the target.
    """
    sizes = {0: batch, 1: view.channels, **{2 + i: size for i, size in enumerate(view.spatial)}}
    waiting = [axis for group in view.groups for axis in group]
    groups: list[Group] = []
    for place, size in enumerate(target):
        group: list[int] = []
        have: Size = 1
        while waiting and (have != size or _belongs(waiting[0], size, sizes, group, place)):
            if _beyond(have * sizes[waiting[0]], size):
                return None
            have = have * sizes[waiting[0]]
            group.append(waiting.pop(0))
        if have != size:
            return None
        groups.append(tuple(group))
    if any(sizes[axis] != 1 for axis in waiting):
        return None
    if waiting and groups:  # axes of size 1 at the end
        groups[-1] = (*groups[-1], *waiting)
    return tuple(groups)


def _belongs(axis: int, size: Size, sizes: dict[int, Size], group: list[int], place: int) -> bool:
    """Whether a batch or channel axis of size 1 is the one meant by a target axis of size 1."""
    return size == 1 and not group and sizes[axis] == 1 and (axis == 1 or (axis == 0 and place == 0))


def _beyond(have: Size, size: Size) -> bool:
    return isinstance(have, int) and isinstance(size, int) and have > size


def entered(before: View, after: View, value: str) -> View:
    """`after` with `before`, the view of the original `value`, as its front where a head begins there."""
    if after.permuted or not (before.permuted and before.layers):
        return after
    axes = tuple(group[0] for group in before.groups)
    return replace(after, front=Front(value, before.twin, axes, before.channels, before.spatial))


def alone(view: View) -> bool:
    """Whether only the batch and the channels are left: no original axis holds a spatial one."""
    return all(axis < 2 for group in view.groups for axis in group)


def count(view: View, group: Group) -> Size:
    """Numbers along an original axis, its batch left out."""
    sizes = {1: view.channels, **{2 + i: size for i, size in enumerate(view.spatial)}}
    return product(sizes[axis] for axis in group if axis)


def shown(view: View) -> str:
    """The twin's sizes without the batch, for messages: `512x7x7`."""
    return "x".join(
        f"({size})" if isinstance(size, Expr) else str(size) for size in (view.channels, *view.spatial)
    )
