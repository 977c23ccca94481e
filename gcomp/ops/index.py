"""Axes and indices: negative axes, flat positions, elements in the order of another shape."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..dim import Dim
from ..ir import Value
from ..kernel import Checked, Expr, Index, Kernel, Program, Tensor, as_index, binary, cast, literal, select
from ..op import Operator
from ..types import I64, TensorType


def axis_of(op: Operator, axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises `InferenceError` where a tensor of this rank has none such."""
    if not -rank <= axis < rank:
        op.fail(f"an axis in [{-rank}, {rank - 1}]", axis=axis)
    return axis % rank


def axes_of(op: Operator, axes: Sequence[Dim], rank: int) -> tuple[int, ...]:
    """Distinct axes counted from the front, in the order given. Raises `InferenceError`."""
    found = tuple(axis_of(op, integer(op, axis), rank) for axis in axes)
    if len(set(found)) != len(found):
        op.fail("distinct axes", axes=tuple(axes))
    return found


def check_lists(op: Operator, **operands: Value | None) -> None:
    """Raises `InferenceError` unless each operand that is there has one axis."""
    for name, value in operands.items():
        if value is not None and value.type.rank != 1:
            op.fail(f"a list as {name}", **{name: value})


def integer(op: Operator, size: Dim) -> int:
    """`size` if it is a number. Raises `InferenceError` for a symbolic one."""
    if not isinstance(size, int):
        op.fail("a number where the size is symbolic", size=size)
    return size


def flat_index(index: Sequence[Expr], shape: Sequence[Dim]) -> Expr:
    """The position of an element in row-major order."""
    position: Expr = literal(0)
    for i, size in zip(index, shape, strict=True):
        position = position * as_index(size) + i
    return position


def unflat_index(position: Expr, shape: Sequence[Dim]) -> list[Expr]:
    """The index of the element at a position in row-major order."""
    index: list[Expr] = []
    for place, size in enumerate(reversed(shape)):
        if size == 1:
            index.append(literal(0))
        elif place == len(shape) - 1:
            index.append(position)
        else:
            index.append(position % as_index(size))
            position = position // as_index(size)
    return index[::-1]


def reshaped(k: Kernel, x: Tensor, type: TensorType) -> Tensor:
    """A tensor of `type` with the elements of `x` in the same row-major order.

    Axes are matched in groups of equal size, so that untouched ones keep plain indices.
    """
    groups = list(_matching_axes(type.shape, x.shape))

    def element(*index: Expr) -> Expr:
        source: list[Expr] = []
        for new, old in groups:
            position = flat_index(index[new], type.shape[new])
            source += unflat_index(position, x.shape[old])
        return x[tuple(source)]

    return k.compute(type, element)


def from_end(index: Expr, extent: Dim) -> Expr:
    """An integer index that counts from the end where negative, checked against `extent`."""
    wide = cast(index, I64)
    return Checked(select(wide < 0, wide + as_index(extent), wide), extent)


def all_of(conditions: Sequence[Expr]) -> Expr | None:
    """The conjunction, conditions known to hold left out; None where it always holds."""
    found: Expr | None = None
    for condition in conditions:
        if getattr(condition, "value", None) is not True:
            found = condition if found is None else binary("and", found, condition)
    return found


@contextmanager
def nest(program: Program, extents: Sequence[Index]) -> Generator[tuple[Expr, ...]]:
    """Nested loops, outermost first: `with nest(program, shape) as index:`."""
    with ExitStack() as loops:
        yield tuple(loops.enter_context(program.loop(extent)) for extent in extents)


def _matching_axes(new: Sequence[Dim], old: Sequence[Dim]) -> Iterator[tuple[slice, slice]]:
    """Consecutive runs of axes of `new` and of `old` that hold the same number of elements."""
    sizes: list[Dim] = [1]
    for size in old:
        sizes.append(sizes[-1] * size)
    start, cut = 0, 0
    total: Dim = 1
    for end in range(1, len(new)):
        total = total * new[end - 1]
        match = next((i for i in range(cut + 1, len(old)) if sizes[i] == total), None)
        if match is not None:
            yield slice(start, end), slice(cut, match)
            start, cut = end, match
    yield slice(start, len(new)), slice(cut, len(old))
