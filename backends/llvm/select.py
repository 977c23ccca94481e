"""Chooses the code of each step: a template where one matches, else a generic nest."""

from __future__ import annotations

from dataclasses import dataclass

from gcomp.expand import expanded
from gcomp.ir import Value
from gcomp.kernel import Compute, Kernel, inlined, walk
from gcomp.lowering import known_tensor, lower_op, lowered
from gcomp.op import Constant, Operator, constant_value
from gcomp.ops import ConvInteger, DequantizeLinear, MatMulInteger, QuantizeLinear
from gcomp.ops.group import Group
from gcomp.plan import Step, dense
from gcomp.plan import View as Place
from gcomp.tensor import Load, Tensor

from . import nest
from .cpu import Cpu
from .problem import Emitted, Problem, View
from .templates import template_for

NAME = "kernel"
"""What every kernel is called until its name is known, which is made from its text."""

EXACT = (ConvInteger, DequantizeLinear, MatMulInteger, QuantizeLinear)
"""Operators whose kernels round wherever the references do: a fused sum would go to another step."""


@dataclass(frozen=True)
class Selection:
    """Code for a step, and the constants that feed it beyond the step's own operands."""

    emitted: Emitted
    constants: list[View | None]


def select(step: Step, cpu: Cpu, templates: bool, strict: bool = False) -> Selection:
    """The code of one step; if `strict`, its bits are the same everywhere. Raises `UnsupportedError`."""
    operands = [None if place is None else _view(place) for place in step.operands]
    results = [_view(place) for place in step.results]
    if step.op is None:
        return Selection(nest.emit(copying(operands, results), operands, results, cpu, NAME, False), [])
    exact = _is_exact(step.op)
    if templates:
        problem = _problem(step.op, operands, results, cpu)
        if problem:
            problem.strict, problem.exact = strict, exact
        match = template_for(type(problem.anchor)) if problem else None
        emitted = match(problem) if match and problem else None
        if emitted and problem:
            return Selection(emitted, problem.operands[len(operands) :])
    kernel = expanded(lower_op(step.op))
    return Selection(nest.emit(kernel, operands, results, cpu, NAME, step.in_place, strict, exact), [])


def _is_exact(op: Operator) -> bool:
    """Whether each bit of `op` follows from its reference: what sums floats does so in any order."""
    if not isinstance(op, Group):
        return isinstance(op, EXACT)
    inner = op.body.ops
    sums_floats = op.anchor >= 0 and inner[op.anchor].results[0].type.dtype.is_float
    return not sums_floats and any(isinstance(one, EXACT) for one in inner)


def _view(place: Place) -> View:
    aligned = place.buffer.space in ("arena", "constant") and place.offset == 0
    return View(place.type, place.strides, place.buffer.array, aligned, place.buffer.storage)


def copying(operands: list[View | None], results: list[View]) -> Kernel:
    """The kernel that copies its one operand."""
    kernel = Kernel()
    (source,) = (Tensor(view.type, "x") for view in operands if view is not None)
    kernel.operands = [source]
    kernel.results = [kernel.compute(results[0].type, lambda *index: source.load(index))]
    return kernel


def _problem(op: Operator, operands: list[View | None], results: list[View], cpu: Cpu) -> Problem | None:
    """The step as templates see it; None for what no template could take."""
    if not isinstance(op, Group):
        kernel = Kernel([value.type if value is not None else None for value in op.operands])
        feeds = [None if value is None else place for place, value in enumerate(op.operands)]
        return Problem(op, kernel, operands, results, feeds, Tensor(op.results[0].type, "anchor"), None, cpu)
    if op.anchor < 0 or len(op.results) != 1:
        return None
    anchor = op.body.ops[op.anchor]
    if not isinstance(anchor, Operator):
        return None
    kernel = Kernel([value.type for value in op.inputs])
    tensors: dict[Value, Tensor | None] = dict(zip(op.body.inputs, kernel.operands, strict=True))
    for inner in op.body.ops:
        if not isinstance(inner, Operator):
            return None
        if inner is anchor:
            tensors[inner.results[0]] = kernel.scratch(inner.results[0].type)
        elif (known := known_tensor(kernel, inner.results[0])) is not None:
            tensors[inner.results[0]] = known
        elif not isinstance(inner, Constant):
            inputs = [None if value is None else tensors.get(value) for value in inner.operands]
            tensors.update(zip(inner.results, lowered(inner, kernel, inputs), strict=True))
    extended = list(operands)
    feeds: list[int | None] = []
    for value in anchor.operands:
        if value is None:
            feeds.append(None)
        elif value in op.body.inputs:
            feeds.append(op.body.inputs.index(value))
        elif (array := constant_value(value)) is not None:
            feeds.append(len(extended))
            extended.append(View(value.type, dense(value.type), array))
        else:
            return None
    made, (result,) = tensors[anchor.results[0]], op.body.outputs
    final = tensors[result]
    if made is None or final is None:
        return None
    kernel.results = [final]
    if final is made:
        return Problem(anchor, kernel, extended, results, feeds, made, None, cpu)
    stages = inlined(expanded(kernel).stages, lambda tensor: tensor is final)
    if len(stages) != 1 or not isinstance(stages[0], Compute) or not _reads_in_place(stages[0], made):
        return None
    return Problem(anchor, kernel, extended, results, feeds, made, stages[0], cpu)


def _reads_in_place(stage: Compute, anchor: Tensor) -> bool:
    """Whether the anchor's result is read only at the index that is being made."""
    if anchor.shape != stage.result.shape:
        return False
    loads = [part for part in walk(stage.value) if isinstance(part, Load) and part.tensor is anchor]
    return all(i is axis for load in loads for i, axis in zip(load.index, stage.axes, strict=True))
