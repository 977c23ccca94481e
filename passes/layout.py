"""layout: puts the channels of images side by side in memory, which is how vectors read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gcomp import watch
from gcomp.diagnostics import OpenSizeError
from gcomp.ir import Graph, Op, Value
from gcomp.kernel import Compute, Expr, Kernel, Literal_, Load, Reduce, Select, inlined, walk
from gcomp.lowering import lower_op
from gcomp.op import Constant, Operator
from gcomp.ops import Concat, Conv, ConvInteger, Group, Relayout
from gcomp.rewrite import erase, open_regions, restore_users
from gcomp.types import F32, I8, I32, U8, Layout, channels_last

TOGETHER = 4
"""Channels of bytes that are multiplied at once."""


@dataclass(frozen=True)
class ChannelsLast:
    """Gives results of convolutions, and of what follows them channel by channel, `channels_last` in blocks.

    A `Relayout` stands wherever another layout is needed: before a view, before an operator that mixes
    channels, and before outputs. What copies anyway, as Transpose, reads what there is and writes row-major.
    A convolution of few channels, as the first of a network, reads f32 row-major and bytes in blocks as small
    as are multiplied at once. Layouts change only the speed: every operator means the same whatever the
    layouts of its operands.
    """

    name: str = field(default="layout", init=False)
    block: int = 16

    def run(self, graph: Graph) -> bool:
        before = _layouts(graph)
        self._assign(graph)
        restore_users(graph)
        return _layouts(graph) != before

    def _assign(self, graph: Graph) -> None:
        versions = _Versions(graph)
        for op in list(graph.ops):
            if isinstance(op, Relayout):
                versions.know(op)
                continue
            operands, result = self._permitted(op)
            wanted = zip(op.operands, operands, strict=True)
            op.set_operands([v if v is None else versions.get(v, layout, op) for v, layout in wanted])
            for region in open_regions(op):
                for value in region.captured():
                    region.replace_captured(value, versions.get(value, None, op))
                self._assign(region)
            for value in op.results if not isinstance(op, Group) else ():
                value.type = value.type.with_layout(result if value.index == 0 else None)
        graph.outputs = [versions.get(value, None, None) for value in graph.outputs]
        versions.sweep()

    def _permitted(self, op: Op) -> tuple[Sequence[Layout | None], Layout | None]:
        """The layouts of the operands and the result of `op`: row-major where a watcher forbids others."""
        operands, result = self._choice(op)
        if isinstance(op, Group) or not any((*operands, result)):
            return operands, result
        step = watch.Step("", op, (), (op,))
        if not watch.allows(step):
            return [None for _ in op.operands], None
        watch.applied(step, ())
        return operands, result

    def _choice(self, op: Op) -> tuple[Sequence[Layout | None], Layout | None]:
        """The layouts that `op` reads, one per operand, and the one that it writes."""
        blocked = channels_last(4, self.block)
        plain = [None for _ in op.operands]
        if isinstance(op, Group):
            return [value.type.layout for value in op.body.inputs], None  # its results keep theirs
        if isinstance(op, Conv | ConvInteger) and _is_image(op.result) and self._fills_vectors(op):
            least = None if op.x.type.dtype == F32 else channels_last(4, TOGETHER)
            few = op.x.type.layout in (None, least) and op.group == 1 and _channels(op.x) < self.block // 2
            return [least if few else blocked, *plain[1:]], blocked
        if not any(value.type.layout == blocked for value in op.inputs):
            return plain, None
        if isinstance(op, Concat):
            whole = all(_channels(value) % self.block == 0 for value in op.inputs_[:-1])
            if _is_image(op.result) and (whole or op.axis % 4 != 1):
                return [blocked for _ in op.operands], blocked
        if not isinstance(op, Operator) or op.regions or not op.has_lower():
            return plain, None
        if not keeps_channels(op):
            as_is = [value.type.layout if value is not None else None for value in op.operands]
            return as_is if moves(op) else plain, None
        operands = [self._read(value, blocked) for value in op.operands]
        result = op.results[0]
        wide = (
            not _is_point(result)
            or any(isinstance(user, Conv) for user in result.users)
            or any(_is_point(value) and value.type.layout == blocked for value in op.inputs)
        )
        return operands, blocked if wide and _is_image(result) else None

    def _fills_vectors(self, op: Conv | ConvInteger) -> bool:
        """Whether each group has whole blocks of channels, or a single one as in a depthwise convolution."""
        sizes = {_channels(op.x), _channels(op.result)}
        whole = all(size % (op.group * self.block) == 0 for size in sizes)
        return op.group == 1 or sizes == {op.group} or whole

    def _read(self, value: Value | None, blocked: Layout) -> Layout | None:
        """How an operator that keeps channels reads `value`: one pixel as it is, an image in blocks."""
        if value is None or isinstance(value.owner, Constant) or not _is_image(value):
            return None
        return value.type.layout if _is_point(value) else blocked


class _Versions:
    """The same values in several layouts, each converted at most once, right before its first reader."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[tuple[Value, Layout | None], Value] = {}
        self.source: dict[Value, Value] = {}
        self.relayouts: list[Relayout] = []

    def know(self, op: Relayout) -> None:
        source = self.source.get(op.x, op.x)
        self.source[op.result] = source
        self.found.setdefault((source, op.result.type.layout), op.result)
        self.relayouts.append(op)

    def get(self, value: Value, layout: Layout | None, before: Op | None) -> Value:
        """`value` in `layout`, converted before that operator, or at the end, if it is not yet there."""
        source = self.source.get(value, value)
        if source.type.layout == layout:
            return source
        if (source, layout) not in self.found:
            op = self.graph.add(Relayout(source, layout), before)
            op.origin = source.owner.origin if isinstance(source.owner, Op) else ()
            self.know(op)
        return self.found[source, layout]

    def sweep(self) -> None:
        """Removes conversions that nobody reads."""
        for op in reversed(self.relayouts):
            erase(op)


def keeps_channels(op: Operator) -> bool:
    """Whether each element of a result is made of elements of its own batch and channel, as in pooling.

    Not so for a mere view, as a Squeeze: it costs nothing row-major.
    """
    kernel = _kernel(op)
    if kernel is None:
        return False
    sums = False
    for stage in inlined(kernel.stages, lambda tensor: tensor in kernel.results):
        if not isinstance(stage, Compute):
            return False
        for x in walk(stage.value):
            sums |= isinstance(x, Reduce)
            if isinstance(x, Load) and x.tensor in kernel.operands and x.tensor.type.rank == 4:
                own = zip(x.index[:2], stage.axes, x.tensor.shape, strict=False)
                if not all(index is axis or size == 1 for index, axis, size in own):
                    return False
    return sums or op.results[0].type.rank == 4


def moves(op: Operator) -> bool:
    """Whether `op` is no view and copies each element of its operands at most once, as Transpose does."""
    result = op.results[0]
    read = sum(v.type.size for v in op.inputs if v.type.dtype == result.type.dtype)
    size = result.type.size
    fewer = size == read or (isinstance(size, int) and isinstance(read, int) and size < read)
    if op.view_of is not None or len(op.results) != 1 or not fewer:
        return False
    kernel = _kernel(op)
    if kernel is None:
        return False
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results)
    return all(isinstance(stage, Compute) and _is_copy(stage.value) for stage in stages)


def _kernel(op: Operator) -> Kernel | None:
    """What `op` computes; None where sizes have to be known for that, which is said where code is made."""
    try:
        return lower_op(op)
    except OpenSizeError:
        return None


def _is_copy(x: Expr) -> bool:
    match x:
        case Load() | Literal_():
            return True
        case Select(then=then, other=other):
            return _is_copy(then) and _is_copy(other)
        case _:
            return False


def _layouts(graph: Graph) -> list[list[Layout | None]]:
    return [[value.type.layout for value in op.results] for op in graph.walk()]


def _is_image(value: Value) -> bool:
    """Whether `value` has a batch, channels and two axes of space, with a known number of channels."""
    type = value.type
    return type.rank == 4 and type.dtype in (F32, U8, I8, I32) and isinstance(type.shape[1], int)


def _is_point(value: Value) -> bool:
    return value.type.rank == 4 and value.type.shape[2:] == (1, 1)


def _channels(value: Value) -> int:
    size = value.type.shape[1]
    return size if isinstance(size, int) else 1


PASS = ChannelsLast()
