"""Quick constructors for what a file holds by the thousand: nodes and tensors.

A frozen dataclass stores each of its fields through `object.__setattr__`, five times as slow as an assignment
(1.5 us for a node). So the fields go into an object of a class with the same slots that isn't
frozen, which then takes the frozen class: Python allows that between classes of one layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


def maker(frozen: type[Value]) -> Callable[..., Value]:
    """A constructor of a frozen dataclass with slots that takes every field, by position.

    >>> from onnxscope.graph import Oddity
    >>> maker(Oddity)("model", "gives no IR version", "")
    Oddity(where='model', message='gives no IR version', kind='')
    """
    names = [field.name for field in fields(cast("Any", frozen))]
    draft = make_dataclass("Draft", names, repr=False, eq=False, namespace={"__slots__": tuple(names)})
    try:
        draft(*names).__class__ = frozen
    except TypeError:  # no slots, or an interpreter that lays objects out in another way
        return frozen

    def make(*values: object) -> Value:
        made: Any = draft(*values)
        made.__class__ = frozen
        return cast("Value", made)

    return make
