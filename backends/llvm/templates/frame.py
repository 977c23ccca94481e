"""The function around a template's loops: pointer parameters as they are needed, the epilogue, the return."""

from __future__ import annotations

from collections.abc import Callable

from gcomp.kernel import walk
from gcomp.tensor import Load
from gcomp.types import F32, Array

from ..emit import Function, Value, lane_mask, vector
from ..problem import Argument, Emitted, Epilogue, Problem, View

KERNEL = "kernel"
"""What a kernel is called until its caller knows a better name."""


class Frame:
    """A kernel under construction for a problem.

    Operands and result may share memory where the plan works in place: only packed constants are `noalias`.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.fn = Function(KERNEL, [], "i32", strict=problem.strict, exact=problem.exact)
        self.arguments: list[Argument] = []
        self._operands: dict[int, Value] = {}

    def operand(self, anchor_operand: int) -> Value:
        """The address of the anchor's operand, which must be in memory."""
        place = self.problem.feeds[anchor_operand]
        if place is None:
            raise ValueError(f"operand {anchor_operand} of {self.problem.anchor.kind} is not in memory")
        return self._pointer(place)

    def packed(self, anchor_operand: int, pack: Callable[[], Array]) -> Value:
        """The address of a rearranged constant, aligned to 64 bytes."""
        place = self.problem.feeds[anchor_operand]
        return self._parameter("ptr noalias", Argument("packed", place or 0, pack))

    def scratch(self, bytes: int) -> Value:
        """The address of memory for the duration of a call, aligned to 64 bytes."""
        return self._parameter("ptr noalias", Argument("scratch", bytes=bytes))

    def epilogue(self) -> Epilogue:
        """What stores results; its operands and the result become parameters."""
        stage = self.problem.epilogue
        read = (
            set[int]() if stage is None else {id(x.tensor) for x in walk(stage.value) if isinstance(x, Load)}
        )
        places = [
            i
            for i, tensor in enumerate(self.problem.kernel.operands)
            if tensor is not None and id(tensor) in read
        ]
        pointers = {place: self._pointer(place) for place in places}
        return Epilogue(self.problem, self.fn, pointers, self._parameter("ptr", Argument("result")))

    def lanes_at(self, pointer: Value, index: Value, active: int, lanes: int) -> Value:
        """`lanes` elements from an index on; only the first `active` are there, the others zero."""
        fn = self.fn
        if active == 0:
            return "zeroinitializer"
        place = fn.element(pointer, index, "float")
        if active < lanes:
            return fn.masked_load(place, lane_mask(active, lanes), "float", lanes)
        return fn.load(place, vector("float", lanes), 4)

    def finish(self, template: str) -> Emitted:
        """The kernel, whose schedule LLVM's passes would only disturb."""
        self.fn.do("ret i32 0")
        return Emitted(self.fn, self.arguments, optimise=False, template=template)

    def _pointer(self, place: int) -> Value:
        if place not in self._operands:
            self._operands[place] = self._parameter("ptr", Argument("operand", place))
        return self._operands[place]

    def _parameter(self, type: str, argument: Argument) -> Value:
        name = f"p{len(self.arguments)}"
        self.arguments.append(argument)
        self.fn.parameters.append((type, name))
        return f"%{name}"


def is_f32(*views: View | None) -> bool:
    """Whether all operands that are there hold f32 and have elements."""
    return all(view is None or (view.type.dtype == F32 and has_elements(view)) for view in views)


def has_elements(view: View) -> bool:
    """Whether no size is zero. Raises `OpenSizeError` where one but the outermost is symbolic."""
    return view.type.shape[:1] != (0,) and 0 not in view.type.inner_shape
