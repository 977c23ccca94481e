"""One operator as one native kernel, called on arrays: what kernel timings and template tests run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcomp.arena import most
from gcomp.backends.llvm.access import dense_strides
from gcomp.backends.llvm.build import attributes, module_text
from gcomp.backends.llvm.cpu import Cpu
from gcomp.backends.llvm.jit import assembly, emit_object, load_objects
from gcomp.backends.llvm.peak import nothing
from gcomp.backends.llvm.problem import Emitted, Problem, View
from gcomp.backends.llvm.templates import template_for
from gcomp.expr import Expr, Var
from gcomp.kernel import Compute, Kernel
from gcomp.native import aligned
from gcomp.op import Constant, Operator, Storage
from gcomp.tensor import Tensor
from gcomp.types import Array, Layout, TensorType

SYMBOL = "kernel"
BLOB = 16 << 20
"""Bytes of an allocation that gets large pages, as the weights and the arena of a module do."""

Tail = Callable[..., Expr]
"""`(anchor's element, tensors of the extra operands, axes)` to the element that is stored."""


@dataclass
class Single:
    """A kernel with its code; `operands[i]` is the type, in memory, of each operand."""

    problem: Problem
    emitted: Emitted

    def text(self) -> str:
        """The LLVM module."""
        functions = [self.emitted.function, *self.emitted.function.functions]
        declarations = {text for fn in functions for text in fn.declarations}
        bodies = [str(fn).replace("define hidden", "define") for fn in functions]
        return "\n".join([*bodies, *sorted(declarations), attributes(self.problem.cpu)])

    def assembly(self) -> str:
        return assembly(self.text(), self.problem.cpu, self.emitted.optimise)

    def load(self) -> Callable[[Sequence[Array]], Bound]:
        """Compiles; what it returns binds memory (operands in order, then the result) to a call.

        Each call has weights of its own.
        """
        count, cpu = len(self.emitted.arguments), self.problem.cpu
        empty = nothing(count)
        objects = [emit_object(self.text(), cpu, self.emitted.optimise)]
        loaded = load_objects(
            [*objects, emit_object(module_text(empty, cpu), cpu, False)], [SYMBOL, empty.name]
        )
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * count)
        function, idle = (prototype(loaded.addresses[name]) for name in (SYMBOL, empty.name))
        packed = [a.pack() if a.pack else None for a in self.emitted.arguments]

        def bind(memory: Sequence[Array]) -> Bound:
            kept: list[Array] = []
            for argument, weights in zip(self.emitted.arguments, packed, strict=True):
                match argument.source:
                    case "operand":
                        kept.append(memory[argument.index])
                    case "result":
                        kept.append(memory[-1])
                    case "scratch":
                        kept.append(aligned(most(argument.bytes, {})))
                    case "packed":
                        assert weights is not None
                        kept.append(copied(weights, BLOB))
            return Bound(function, idle, [array.ctypes.data for array in kept], (kept, loaded))

        return bind


@dataclass(frozen=True)
class Bound:
    """A kernel and the memory that it is called on; `kept` must live as long."""

    function: Callable[..., int]
    idle: Callable[..., int]
    pointers: list[int]
    kept: object

    def __call__(self) -> int:
        return int(self.function(*self.pointers))

    def rehearse(self) -> int:
        """A call that does nothing, so that all that the interpreter needs for one is close."""
        return int(self.idle(*self.pointers))


def problem_for(
    op: Operator,
    cpu: Cpu,
    constants: Mapping[int, Array] | None = None,
    layouts: Mapping[int, Layout] | None = None,
    result_layout: Layout | None = None,
    extra: Sequence[TensorType] = (),
    tail: Tail | None = None,
) -> Problem:
    """`op` alone, or followed by `tail`, which may read `extra` operands.

    `constants` and `layouts` are by operand; extra operands of the result's rank have its layout.
    """
    constants, layouts = constants or {}, layouts or {}
    values = [None if v is None else v.type.with_layout(layouts.get(i)) for i, v in enumerate(op.operands)]
    result = op.results[0].type.with_layout(result_layout)
    others = [t.with_layout(result_layout if t.rank == result.rank else None) for t in extra]
    kernel = Kernel([*[None if v is None else v.type for v in op.operands], *extra])
    storages: dict[int, Storage] = {
        i: v.owner.storage for i, v in enumerate(op.operands) if v and isinstance(v.owner, Constant)
    }
    operands = [
        View(t, physical_strides(t), constants.get(i), False, storages.get(i, "dense"))
        if t is not None
        else None
        for i, t in enumerate([*values, *others])
    ]
    feeds = [None if v is None else i for i, v in enumerate(values)]
    anchor = Tensor(op.results[0].type, "anchor")
    epilogue = None
    if tail is not None:
        final = Tensor(op.results[0].type, "final")
        axes = tuple(Var(f"i{axis}", size) for axis, size in enumerate(final.shape))
        read = kernel.operands[len(values) :]
        epilogue = Compute(final, axes, tail(anchor[axes], read, axes))
        kernel.results = [final]
    view = View(result, physical_strides(result))
    return Problem(op, kernel, operands, [view], feeds, anchor, epilogue, cpu)


def single(problem: Problem) -> Single | None:
    """The kernel that a template makes of the problem, if one takes it."""
    match = template_for(type(problem.anchor))
    emitted = match(problem) if match else None
    return Single(problem, emitted) if emitted else None


def physical_strides(type: TensorType) -> tuple[int, ...]:
    return dense_strides(TensorType(type.dtype, type.physical).static_shape)


def in_memory(array: Array, type: TensorType) -> Array:
    """An aligned copy of a logical array as `type` lays it out; padding lanes are zero."""
    memory = empty(type)
    memory[...] = 0
    if type.layout is None:
        memory[...] = array
    else:
        memory[..., : array.shape[1]] = np.moveaxis(array, 1, -1)
    return memory


def logical(memory: Array, type: TensorType) -> Array:
    """The inverse of `in_memory`. Raises `ValueError` where a padding lane is not zero."""
    if type.layout is None:
        return memory
    channels = type.static_shape[1]
    if np.any(memory[..., channels:] != 0):
        raise ValueError("padding lanes hold something other than zero")
    return np.moveaxis(memory[..., :channels], -1, 1)


def empty(type: TensorType) -> Array:
    """Aligned memory for a tensor, filled with NaN, or 77, so that what is never written shows."""
    shape = TensorType(type.dtype, type.physical).static_shape
    size = int(np.prod(shape)) * type.dtype.bytes
    memory: Array = aligned(max(size, 1))[:size].view(type.dtype.numpy).reshape(shape)
    memory[...] = np.nan if type.dtype.is_float else 77
    return memory


def copied(array: Any, room: int = 1) -> Array:
    """An aligned copy, in memory of at least `room` bytes."""
    source = np.ascontiguousarray(array)
    memory: Array = (
        aligned(max(source.nbytes, room))[: source.nbytes].view(source.dtype).reshape(source.shape)
    )
    memory[...] = source
    return memory
