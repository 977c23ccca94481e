"""From a graph to ordered steps over memory: what is computed when, where it lies, what needs no code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import arena
from . import dim as dims
from .arena import Buffer, Space, most, symbols_of
from .diagnostics import OpenSizeError
from .dim import Dim, Poly
from .ir import Graph, Op, Value
from .kernel import Compute, Program, inlined, walk
from .lowering import lower_op
from .op import Constant, Operator
from .port import Symbol
from .tensor import Load, Reduce
from .types import Array, Part, TensorType


@dataclass(frozen=True, eq=False)
class View:
    """A value's place: `offset` elements into a buffer, with each physical axis's stride in elements."""

    buffer: Buffer
    type: TensorType
    strides: tuple[int, ...]
    offset: int = 0

    def at(self, start: Sequence[int]) -> int:
        """The offset of the element at a physical index."""
        return self.offset + sum(i * stride for i, stride in zip(start, self.strides, strict=True))


@dataclass(eq=False)
class Step:
    """One operator to run, `in_place` if it writes over one of its operands; without one, a plain copy."""

    op: Operator | None
    operands: list[View | None]
    results: list[View]
    in_place: bool = False


@dataclass
class Plan:
    """Steps in order. `arena_bytes` covers the buffers of the `arena`, each listed after those under it.

    Where there are `symbols`, it does so at the largest sizes.
    """

    graph: Graph
    steps: list[Step] = field(default_factory=list[Step])
    inputs: list[View] = field(default_factory=list[View])
    outputs: list[View] = field(default_factory=list[View])
    arena_bytes: int = 0
    arena: list[Buffer] = field(default_factory=list[Buffer])
    symbols: list[Symbol] = field(default_factory=list[Symbol])


def dense(type: TensorType) -> tuple[int, ...]:
    """Row-major strides over the physical axes; 0 for an axis of one element around symbolic ones.

    Raises `OpenSizeError` where a symbolic size lies within another axis.
    """
    strides: list[int] = []
    total: Dim = 1
    for extent in reversed(type.physical):
        if isinstance(total, Poly) and extent != 1:
            raise OpenSizeError(f"{type}: only the outermost axis in memory may have a symbolic size")
        strides.append(total if isinstance(total, int) else 0)
        total = extent * total
    return tuple(reversed(strides))


def physical_extents(type: TensorType) -> tuple[int, ...]:
    """The sizes in memory as integers. Raises `ValueError` for symbolic sizes."""
    return TensorType(type.dtype, type.physical).static_shape


def plan(graph: Graph) -> Plan:
    """Plans a graph; every operator of it has `lower`.

    Symbolic sizes need a range and must be the outermost of each value in memory, else `OpenSizeError`.
    """
    return _Planner(graph).run()


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.views: dict[Value, View] = {}
        self.homes: dict[Value, tuple[Value, tuple[int, ...]]] = {}
        self.steps: list[Step] = []
        self.last_use = self._last_uses()
        self.order = {op: number for number, op in enumerate(graph.ops)}

    def run(self) -> Plan:
        symbols = symbols_of(self.graph)
        inputs = [self._own(value, "input", index) for index, value in enumerate(self.graph.inputs)]
        self._find_homes()
        outputs = self._claim_outputs()
        for op in self.graph.ops:
            self._step(op)
        for view, value in zip(outputs, self.graph.outputs, strict=True):
            if self.views[value].buffer is not view.buffer:
                self._copy(self.views[value], view)
        views = [view for step in self.steps for view in (*step.operands, *step.results) if view is not None]
        buffers = list(dict.fromkeys(view.buffer for view in views if view.buffer.space == "arena"))
        bytes = arena.place(buffers)
        arena.stack(buffers)
        return Plan(self.graph, self.steps, inputs, outputs, bytes, buffers, symbols)

    def _last_uses(self) -> dict[Value, Op | None]:
        """The operator after which a value is no longer read; None for what the graph returns."""
        last: dict[Value, Op | None] = {}
        for op in self.graph.ops:
            last.update(dict.fromkeys(op.inputs, op))
        last.update(dict.fromkeys(self.graph.outputs, None))
        return last

    def _own(self, value: Value, space: Space, index: int = 0, array: Array | None = None) -> View:
        size = value.type.bytes
        buffer = Buffer(space, most(size, self.graph.ranges), index, array, size=size)
        self.views[value] = View(buffer, value.type, dense(value.type))
        return self.views[value]

    def _find_homes(self) -> None:
        """Lets producers write straight into the results that only put their operands side by side."""
        for op in reversed(self.graph.ops):
            result = op.results[0]
            for value, place in _places(op):
                if value not in self.homes and self._is_computed(value):
                    self.homes[value] = (result, place)

    def _is_computed(self, value: Value) -> bool:
        """Whether a step of its own makes the value, so that it may be told where to put it."""
        op = value.producer
        return (
            isinstance(op, Operator)
            and op.parent is self.graph
            and not isinstance(op, Constant)
            and _aliased(op) is None
            and value not in self.graph.outputs
        )

    def _claim_outputs(self) -> list[View]:
        """Outputs that a step makes are made where the caller wants them; others are copied at the end."""
        outputs: list[View] = []
        for index, value in enumerate(self.graph.outputs):
            plain = value.type.with_layout(None)
            bytes = most(plain.bytes, self.graph.ranges)
            outputs.append(View(Buffer("output", bytes, index, size=plain.bytes), plain, dense(plain)))
            root = self._root(value)
            made = (
                root.producer is not None
                and not isinstance(root.producer, Constant)
                and root not in self.homes
            )
            if made and root not in self.views and root.type.layout is None and value.type.layout is None:
                self.views[root] = View(outputs[-1].buffer, root.type, dense(root.type))
        return outputs

    def _root(self, value: Value) -> Value:
        """The value whose memory `value` is another view of."""
        while (
            (op := value.producer) is not None
            and isinstance(op, Operator)
            and (source := _aliased(op)) is not None
        ):
            value = source
        return value

    def _step(self, op: Op) -> None:
        if not isinstance(op, Operator):
            raise TypeError(f"{op.kind} is not an operator")
        if isinstance(op, Constant):
            self._own(op.result, "constant", array=op.value)
            self.views[op.result].buffer.storage = op.storage
            return
        if (source := _aliased(op)) is not None:
            view = self.views[source]
            if view.strides == dense(view.type):
                self.views[op.result] = View(view.buffer, op.result.type, dense(op.result.type), view.offset)
                return
        if any(self._is_home(op.results[0], value, place) for value, place in _places(op)):
            self._join(op)
            return
        in_place = False
        for value in op.results:
            if value not in self.views and value not in self.homes:
                donor = self._donor(op, value)
                if donor is not None:
                    self.views[value] = View(donor.buffer, value.type, donor.strides, donor.offset)
                    in_place = True
        operands = [None if value is None else self.views[value] for value in op.operands]
        self._add(Step(op, operands, [self._view(value) for value in op.results], in_place))

    def _view(self, value: Value) -> View:
        """The place of a value: given already, inside the result that it is a part of, or its own memory."""
        if value not in self.views:
            if value in self.homes:
                whole, start = self.homes[value]
                home = self._view(whole)
                strides = tuple(
                    mine if extent == 1 else its
                    for extent, mine, its in zip(
                        value.type.physical, dense(value.type), home.strides, strict=True
                    )
                )
                self.views[value] = View(home.buffer, value.type, strides, home.at(start))
            else:
                self._own(value, "arena")
        return self.views[value]

    def _is_home(self, whole: Value, value: Value, place: tuple[int, ...]) -> bool:
        """Whether the value is made right there."""
        return self.homes.get(value) == (whole, place)

    def _join(self, op: Operator) -> None:
        """Copies what its producers did not write in place already."""
        (result,) = op.results
        whole = self._view(result)
        for value, place in _places(op):
            if not self._is_home(result, value, place):
                part = View(whole.buffer, value.type, whole.strides, whole.at(place))
                self._copy(self.views[value], part)

    def _donor(self, op: Operator, result: Value) -> View | None:
        """An operand that dies here and may be written over: each element is read before its place is."""
        for place in pointwise_operands(op):
            value = op.operands[place]
            if value is None or self.last_use.get(value, op) is not op or value.type != result.type:
                continue
            view = self.views[value]
            others = [v for v, other in self.views.items() if other.buffer is view.buffer and v is not value]
            alone = all(self._is_dead(other, op) for other in others)
            if view.buffer.space == "arena" and alone and [v for v in op.inputs if v is value] == [value]:
                return view
        return None

    def _is_dead(self, value: Value, op: Operator) -> bool:
        """Whether nothing from `op` on reads the value."""
        last = self.last_use.get(value, value.producer)
        return last is not None and self.order[last] < self.order[op]

    def _copy(self, source: View, target: View) -> None:
        self._add(Step(None, [source], [target]))

    def _add(self, step: Step) -> None:
        number = len(self.steps)
        self.steps.append(step)
        for view in (*step.operands, *step.results):
            if view is not None:
                view.buffer.first = min(view.buffer.first, number)
                view.buffer.last = max(view.buffer.last, number)


def pointwise_operands(op: Operator) -> list[int]:
    """The operands of which each element is read only to make the result's element at the same index."""
    if len(op.results) != 1 or not op.has_lower():
        return []
    kernel = lower_op(op)
    *earlier, last = inlined(kernel.stages, lambda tensor: tensor in kernel.results)
    if not isinstance(last, Compute) or any(isinstance(stage, Program) for stage in earlier):
        return []
    busy = [part for stage in earlier if isinstance(stage, Compute) for part in walk(stage.value)]
    busy += [part for r in walk(last.value) if isinstance(r, Reduce) for part in walk(r.body)]
    elsewhere = {id(part.tensor) for part in busy if isinstance(part, Load)}
    loads = [part for part in walk(last.value) if isinstance(part, Load)]
    found: list[int] = []
    for place, tensor in enumerate(kernel.operands):
        if tensor is None or tensor.shape != last.result.shape or id(tensor) in elsewhere:
            continue
        mine = [load for load in loads if load.tensor is tensor]
        if mine and all(i is axis for load in mine for i, axis in zip(load.index, last.axes, strict=True)):
            found.append(place)
    return found


def _aliased(op: Operator) -> Value | None:
    """The operand whose memory can serve as the result, if nothing has to move."""
    source = None if op.view_of is None else op.operands[op.view_of]
    if source is None:
        return None
    result = op.results[0].type
    plain = source.type.layout is None and result.layout is None
    return source if plain or _same_order(source.type, result) else None


def _same_order(a: TensorType, b: TensorType) -> bool:
    """Whether two types of one logical shape put the elements into memory in one order, without padding."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.layout == b.layout or (_order(a) is not None and _order(a) == _order(b))


def _order(type: TensorType) -> list[int] | None:
    """The axes of more than one element as they lie in memory; None if padded or tiled."""
    parts = type.layout.parts if type.layout else tuple(Part((axis,)) for axis in range(type.rank))
    if any(part.side != "whole" or len(part.axes) > 1 for part in parts):
        return None
    if dims.product(type.physical) != type.size:
        return None
    axes = [part.axes[0] for part in parts]
    return [axis for axis in axes if type.shape[axis] != 1]


def _places(op: Op) -> list[tuple[Value, tuple[int, ...]]]:
    """The operands that the result puts side by side, and where in memory's axes; none unless all fit."""
    starts = op.parts() if isinstance(op, Operator) else None
    found: list[tuple[Value, tuple[int, ...]]] = []
    for value, start in zip(op.inputs, starts or (), strict=starts is not None):
        place = _physical_start(op.results[0].type, value.type, start)
        if place is None:
            return []
        found.append((value, place))
    return found


def _physical_start(whole: TensorType, part: TensorType, start: Sequence[int]) -> tuple[int, ...] | None:
    """Where in memory's axes a part at logical index `start` of `whole` begins; None if it cannot lie there.

    On a rounded axis its own rounded extent must stay inside or be padding of the whole as well; where that
    holds of all parts, they start at multiples of the rounding.
    """
    if whole.layout != part.layout or whole.dtype != part.dtype:
        return None
    if whole.layout is None:
        return tuple(start)
    found: list[int] = []
    for piece, extent in zip(whole.layout.parts, whole.physical, strict=True):
        if piece.side != "whole" or len(piece.axes) != 1:
            return None
        first, size = start[piece.axes[0]], part.shape[piece.axes[0]]
        end = first + dims.ceildiv(size, piece.tile) * piece.tile
        if size % piece.tile and end != extent:
            return None
        found.append(first)
    return tuple(found)
