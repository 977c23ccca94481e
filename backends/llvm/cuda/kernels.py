"""From one step of the plan to kernels: tiles of a product, a thread for each element, one for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod

from gcomp.diagnostics import UnsupportedError
from gcomp.expand import expanded
from gcomp.kernel import Compute, Load, Program, walk
from gcomp.lowering import lower_op
from gcomp.plan import Step, physical_extents
from gcomp.plan import View as Place
from gcomp.tensor import Tensor
from gcomp.types import TensorType

from ..access import Access, addressed, dense_strides
from ..emit import Value, number
from ..nest import checks, made, program, roots, staged
from ..problem import View
from ..select import NAME, copying
from ..vectorize import Evaluator
from . import gemm
from .contraction import contraction
from .epilogue import with_epilogues
from .thread import Thread, counter


@dataclass(frozen=True)
class Scratch:
    """Memory of a step's own, `offset` bytes into the room for that."""

    offset: int


@dataclass(frozen=True)
class Emitted:
    """A kernel for `threads` threads; its pointer parameters are `arguments`, then the status if `checks`.

    `template` says what made it.
    """

    function: Thread
    arguments: list[Place | Scratch]
    threads: int
    checks: bool
    template: str


@dataclass(frozen=True)
class Selection:
    """The kernels of a step, one after the other, and the bytes of scratch that they share."""

    kernels: list[Emitted]
    scratch: int


def select(step: Step, templates: bool = True) -> Selection:
    """The kernels of one step, without `templates` all of them plain. Raises `UnsupportedError`."""
    if step.op is None:
        operands: list[View | None] = [View(v.type, v.strides) for v in step.operands if v is not None]
        kernel = copying(operands, [View(v.type, v.strides) for v in step.results])
    else:
        kernel = expanded(lower_op(step.op))
    stages = with_epilogues(staged(kernel), kernel.results)
    homes: dict[int, Place | Scratch] = {}
    for tensors, places in ((kernel.operands, step.operands), (kernel.results, step.results)):
        for tensor, place in zip(tensors, places, strict=True):
            if tensor is not None and place is not None:
                homes[id(tensor)] = place
    end = 0
    for tensor in (tensor for stage in stages for tensor in made(stage)):
        if id(tensor) not in homes:
            homes[id(tensor)] = Scratch(end)
            end += -(-prod(_sizes(tensor)) * tensor.dtype.bytes // 64) * 64
    kernels = [emit(stage, homes, step.in_place, templates) for stage in stages if _has_work(stage)]
    return Selection(kernels, end)


def _has_work(stage: Compute | Program) -> bool:
    return isinstance(stage, Program) or 0 not in _sizes(stage.result)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    try:
        return tensor.type.static_shape
    except ValueError as error:
        raise UnsupportedError(f"cuda: {error}; bind them with shapes= or dims=") from error


def emit(
    stage: Compute | Program, homes: Mapping[int, Place | Scratch], in_place: bool, templates: bool
) -> Emitted:
    fn = Thread(NAME)
    parts = [part for root in roots(stage) for part in walk(root)]
    loaded = [part.tensor for part in parts if isinstance(part, Load)]
    accesses: dict[int, Access] = {}
    arguments: list[Place | Scratch] = []
    for tensor in {id(t): t for t in [*loaded, *made(stage)]}.values():
        home = homes[id(tensor)]
        pointer = f"x{len(arguments)}"
        fn.parameters.append(("ptr" if in_place else "ptr noalias", pointer))
        arguments.append(home)
        accesses[id(tensor)] = (
            Access(f"%{pointer}", TensorType(tensor.dtype, tensor.shape), dense_strides(_sizes(tensor)))
            if isinstance(home, Scratch)
            else Access(f"%{pointer}", home.type, home.strides)
        )
    checked = checks([stage])
    failed = None
    if checked:
        fn.parameters.append(("ptr noalias", "status"))
        failed = fn.local("i32", 4)
        fn.store("0", failed, "i32", 4)
    template = "nest"
    if isinstance(stage, Program):
        threads = 1
        program(fn, stage, accesses, failed)
    elif templates and (product := contraction(stage)):
        threads, template = gemm.emit(fn, product, stage, accesses), "gemm"
    else:
        threads = _compute(fn, stage, accesses, failed)
    if failed:
        _report(fn, failed)
    fn.do("ret void")
    return Emitted(fn, arguments, threads, checked, template)


def _compute(fn: Thread, stage: Compute, accesses: Mapping[int, Access], failed: Value | None) -> int:
    """One element of the result, or of the padding that its layout adds; gives the number of elements."""
    access = accesses[id(stage.result)]
    extents = physical_extents(access.type)
    total = prod(extents)
    place = fn.number(total)
    work, end = fn.label("work"), fn.label("end")
    fn.branch(fn.value(f"icmp ult {counter(total)} {place}, {total}"), work, end)
    fn.block(work)
    places = fn.places(place, extents)
    steps = zip(places, access.strides, strict=True)
    offset = reduce(fn.add, (fn.mul(place, stride) for place, stride in steps), "0")
    index, inside = fn.logical(access.type, places)
    if inside:
        real, padding = fn.label("real"), fn.label("padding")
        fn.branch(reduce(lambda a, b: fn.value(f"and i1 {a}, {b}"), inside), real, padding)
        fn.block(padding)
        fn.write(number(0, access.type.dtype), access, offset)
        fn.jump(end)
        fn.block(real)
    evaluate = Evaluator(fn, dict(zip(stage.axes, index, strict=True)), failed=failed)
    fn.write(evaluate(addressed(stage.value, accesses)), access, offset)
    fn.jump(end)
    fn.block(end)
    return total


def _report(fn: Thread, failed: Value) -> None:
    """Tells the caller about an error; all threads that have one write the same."""
    bad, end = fn.label("bad"), fn.label("end")
    code = fn.load(failed, "i32", 4)
    fn.branch(fn.value(f"icmp ne i32 {code}, 0"), bad, end)
    fn.block(bad)
    fn.store(code, "%status", "i32", 4)
    fn.jump(end)
    fn.block(end)
