"""fuse: puts element-wise operators into the kernel of what they follow; intermediates stay in registers."""

from __future__ import annotations

from dataclasses import dataclass, field

from gcomp.diagnostics import InferenceError, OpenSizeError
from gcomp.ir import Graph, Op, Value
from gcomp.kernel import Compute, Kernel, Literal_, Load, Program, Reduce, Var, children, inlined, walk
from gcomp.lowering import is_small_constant, lower_op
from gcomp.op import Constant, Operator
from gcomp.ops import Group
from gcomp.rewrite import is_output, open_regions, supersede
from gcomp.types import I64


@dataclass(frozen=True)
class Fuse:
    """Makes a `Group` of an anchor, an operator that sums, and the element-wise operators after it, with what
    widens their other operands; and of element-wise operators among themselves.

    A group has one result, that of its last operator, and stands in its place: no value can leave the group
    and come back. All members have the shape and layout of the anchor's result, so that nothing is computed
    twice; smaller operands broadcast from outside. `size` bounds the members of a group.
    """

    name: str = field(default="fuse", init=False)
    size: int = 24

    def run(self, graph: Graph) -> bool:
        changed = False
        for op in list(graph.ops):
            for region in open_regions(op):
                changed |= self.run(region)
        roles = {op: role(op) for op in graph.ops}
        places = {op: place for place, op in enumerate(graph.ops)}
        free = {op: place for op, place in places.items() if roles[op] == "pointwise"}
        groups: list[list[Op]] = []
        for wanted in ("anchor", "pointwise"):
            for op in graph.ops:
                if roles[op] == "anchor" == wanted or (wanted == "pointwise" and op in free):
                    members = self._grown(op, free)
                    members = self._with_producers(members, free, wanted == "anchor")
                    if len(members) > 1:
                        groups.append(sorted(members, key=places.__getitem__))
                        free = {op: place for op, place in free.items() if op not in members}
        for members in groups:
            build(members, roles)
        return changed or bool(groups)

    def _grown(self, first: Op, free: dict[Op, int]) -> list[Op]:
        """`first` and what may follow: the longest list, in graph order, whose last alone is read outside."""
        members, best = [first], [first]
        while len(members) < self.size:
            after = {user for op in members for user in op.results[0].users} - set(members)
            follow = [user for user in after if user in free and _fits(user, first.results[0], members)]
            if not follow:
                break
            members = [*members, min(follow, key=free.__getitem__)]
            if all(_is_inside(op.results[0], members) for op in members[:-1]):
                best = members
        return best

    def _with_producers(self, members: list[Op], free: dict[Op, int], widening: bool) -> list[Op]:
        """`members` and the element-wise operators whose results only they read.

        With `widening`, only those that read fewer bytes than they write, as a DequantizeLinear.
        """
        found = list(members)
        for op in found:
            for value in op.inputs:
                producer = value.producer
                if (
                    producer in free
                    and producer not in found
                    and len(found) < self.size
                    and _fits(producer, members[-1].results[0], found)
                    and _is_inside(value, found)
                    and (not widening or _widens(producer))
                ):
                    found.append(producer)
        return found


def role(op: Op) -> str:
    """What `op` can be in a group: "anchor", "pointwise" or nothing."""
    if not isinstance(op, Operator) or not op.has_lower() or op.view_of is not None or op.regions:
        return ""
    only_first_is_read = [_is_read(value) for value in op.results] == [True] + [False] * (len(op.results) - 1)
    if isinstance(op, Constant) or not only_first_is_read or not stands_alone(op):
        return ""
    try:
        kernel = lower_op(op)
    except OpenSizeError:  # which is said where code is made of it
        return ""
    if is_pointwise(kernel):
        return "pointwise"
    if any(isinstance(stage, Program) for stage in kernel.stages):
        return ""
    sums = (isinstance(x, Reduce) for s in kernel.stages if isinstance(s, Compute) for x in walk(s.value))
    return "anchor" if any(sums) else ""


def stands_alone(op: Op) -> bool:
    """Whether `op` has the same types over unknown values, as in a group, but for constants that go along."""
    probe = Graph()
    mapping = {
        value: probe.add_input(value.type)
        for value in op.inputs
        if not (isinstance(value.owner, Constant) and goes_along(value.owner))
    }
    try:
        copy = op.clone(mapping)
    except InferenceError:
        return False
    return all(mine.type == its.type for mine, its in zip(op.results, copy.results, strict=True))


def goes_along(op: Constant) -> bool:
    """Whether a constant is part of a group: a scalar, or an index or shape that decides what is computed."""
    return is_small_constant(op) and (op.value.size == 1 or op.result.type.dtype == I64)


def is_pointwise(kernel: Kernel) -> bool:
    """Whether each element of the first result comes from those that numpy's broadcasting pairs with it."""
    result = kernel.results[0]
    stages = inlined(kernel.stages, lambda tensor: tensor in kernel.results)
    stage = next((s for s in stages if isinstance(s, Compute) and s.result is result), None)
    if stage is None or len(stages) != len(kernel.results) or not any(kernel.operands):
        return False
    pending, loads, seen = [stage.value], 0, set[int]()
    while pending:
        x = pending.pop()
        if id(x) in seen:  # what is used in several places is one expression
            continue
        seen.add(id(x))
        if isinstance(x, Load):
            if x.tensor not in kernel.operands or x.where is not None or not _broadcasts(x, stage.axes):
                return False
            loads += 1
        elif isinstance(x, Reduce | Var):
            return False
        else:
            pending += children(x)
    return loads > 0


def _broadcasts(load: Load, axes: tuple[Var, ...]) -> bool:
    """Whether the element loaded is the one that numpy's broadcasting pairs with the index `axes`."""
    own = axes[len(axes) - len(load.index) :]
    return len(load.index) <= len(axes) and all(
        i is axis or (size == 1 and isinstance(i, Literal_) and i.value == 0)
        for i, axis, size in zip(load.index, own, load.tensor.shape, strict=True)
    )


def _fits(op: Op, result: Value, members: list[Op]) -> bool:
    """Whether `op` may join: its result, and each operand of that shape, lies in memory like `result`."""
    shape, layout = result.type.shape, result.type.layout
    own = op.results[0].type
    return (own.shape, own.layout) == (shape, layout) and all(
        value.owner in members or value.type.shape != shape or value.type.layout == layout
        for value in op.inputs
    )


def _widens(op: Op) -> bool:
    """Whether the operands of the result's shape take fewer bytes than the result."""
    result = op.results[0].type
    return sum(x.type.dtype.bytes for x in op.inputs if x.type.shape == result.shape) < result.dtype.bytes


def _is_read(value: Value) -> bool:
    return bool(value.users) or is_output(value)


def _is_inside(value: Value, members: list[Op]) -> bool:
    """Whether only `members` read `value`."""
    return all(user in members for user in value.users) and not is_output(value)


def build(members: list[Op], roles: dict[Op, str]) -> Group:
    """Puts a group in place of `members`, which stay in its body with constants that specialise them."""
    last, body, outside = members[-1], Graph("group"), dict[Value, None]()
    mapping: dict[Value, Value] = {}
    for op in members:
        for value in op.inputs:
            if value.owner in members or value in mapping:
                continue
            if isinstance(value.owner, Constant) and goes_along(value.owner):
                mapping[value] = body.add(value.owner.clone({})).result
            else:
                outside[value] = None
                mapping[value] = body.add_input(value.type)
    anchor = -1
    for op in members:
        if roles[op] == "anchor":
            anchor = len(body.ops)
        mapping.update(zip(op.results, body.add(op.clone(mapping)).results, strict=True))
    body.outputs, body.output_names = [mapping[last.results[0]]], [""]
    group = Group(tuple(outside), body, anchor)
    supersede(last, [group.result, *[None for _ in last.results[1:]]], members)
    return group


PASS = Fuse()
