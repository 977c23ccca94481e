"""Relayout: the same logical value with another order of its elements in memory."""

from __future__ import annotations

from collections.abc import Iterator

from ..dim import Dim
from ..ir import Value
from ..kernel import Kernel, Tensor
from ..op import Operator, argument, operator
from ..types import F32, Array, Layout, Part, TensorType, channels_last
from .elementwise import Content


@operator()
class Relayout(Operator):
    """`x` stored in `layout`, or row-major; padding lanes become zero."""

    x: Value
    layout: Layout | None = None

    view_of = 0

    def infer(self) -> TensorType:
        axes = {axis for part in self.layout.parts for axis in part.axes} if self.layout else set[int]()
        if self.layout is not None and axes != set(range(self.x.type.rank)):
            self.fail("a layout of the operand's axes", x=self.x, layout=self.layout)
        return self.x.type.with_layout(self.layout)

    def reference(self, x: Array) -> Array:
        return x

    def lower(self, k: Kernel, x: Tensor) -> Tensor:
        return k.compute(self.result.type, lambda *index: x[index])

    def content(self, x: Content) -> Content:
        return x

    @property
    def flops(self) -> Dim:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        image = TensorType(F32, (2, 3, 4, 5))
        blocked = channels_last(4, 16)
        yield cls(argument(image), blocked)
        yield cls(argument(image.with_layout(blocked)))
        yield cls(argument(TensorType(F32, (1, 20, 3, 3))), channels_last(4, 8))
        yield cls(argument(image.with_layout(blocked)), channels_last(4, 1))
        tiled = Layout((Part((1,)), Part((0,), "outer", 4), Part((0,), "inner", 4)))
        yield cls(argument(TensorType(F32, (6, 5))), tiled)
        merged = Layout((Part((0,)), Part((2, 3), "outer", 16), Part((1,)), Part((2, 3), "inner", 16)))
        yield cls(argument(image), merged)
