"""Running totals along an axis: CumSum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..ir import Value
from ..kernel import Checked, Expr, Kernel, Program, Tensor, as_index, cast
from ..op import Operator, argument, constant, constant_value, operator
from ..types import F16, F32, F64, FLOATS, I32, I64, U32, U64, Array, TensorType
from .elementwise import accumulator, number, one_dtype
from .reduce import normal_axis


@operator(onnx="CumSum", since=11)
class CumSum(Operator):
    """The sum up to each element along `axis`, from the end if `reverse`, without itself if `exclusive`."""

    x: Value
    axis: Value
    exclusive: int = 0
    reverse: int = 0

    tolerance = "close"

    def infer(self) -> TensorType:
        dtype = one_dtype(self, (*FLOATS, I32, I64, U32, U64), self.x)
        one_dtype(self, (I32, I64), self.axis)
        if self.axis.type.size != 1 or self.x.type.rank == 0:
            self.fail("a scalar axis of a tensor that has axes", x=self.x, axis=self.axis)
        known = constant_value(self.axis)
        if known is not None:
            normal_axis(self, int(known.reshape(())), self.x.type.rank)
        return TensorType(dtype, self.x.type.shape)

    def reference(self, x: Array, axis: Array) -> Array:
        along = normal_axis(self, int(axis.reshape(())), x.ndim)
        values = np.flip(x, along) if self.reverse else x
        sums = np.cumsum(values, axis=along, dtype=accumulator(self.x.type.dtype).numpy)
        if self.exclusive:
            sums = np.roll(sums, 1, along)
            sums[tuple(0 if a == along else slice(None) for a in range(x.ndim))] = 0
        return (np.flip(sums, along) if self.reverse else sums).astype(x.dtype)

    def lower(self, k: Kernel, x: Tensor, axis: Tensor) -> Tensor:
        result = k.scratch(self.result.type)
        total = k.scratch(TensorType(accumulator(x.dtype), ()))
        program = k.program(result)
        rank, known = x.type.rank, constant_value(self.axis)
        if known is not None:
            self._sum(program, x, result, total, normal_axis(self, int(known.reshape(())), rank))
            return result
        chosen = Checked(cast(axis[(0,) * axis.type.rank], I64) + rank, 2 * rank)
        for along in range(rank):
            with program.when((chosen % rank).eq(along)):
                self._sum(program, x, result, total, along)
        return result

    def _sum(self, program: Program, x: Tensor, result: Tensor, total: Tensor, along: int) -> None:
        """The loops over all rows, then along each."""
        outer = [axis for axis in range(x.type.rank) if axis != along]

        def nest(index: dict[int, Expr]) -> None:
            if len(index) < len(outer):
                axis = outer[len(index)]
                with program.loop(x.shape[axis]) as i:
                    nest({**index, axis: i})
                return
            program.store(total, (), number(0, total.dtype))
            extent = x.shape[along]
            with program.loop(extent) as i:
                place = as_index(extent) - 1 - i if self.reverse else i
                at = [place if axis == along else index[axis] for axis in range(x.type.rank)]
                with_it = total[()] + cast(x[tuple(at)], total.dtype)
                if self.exclusive:
                    program.store(result, at, cast(total[()], x.dtype))
                    program.store(total, (), with_it)
                else:
                    program.store(total, (), with_it)
                    program.store(result, at, cast(total[()], x.dtype))

        nest({})

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        x = argument(TensorType(F32, (2, 3, 7)))
        for axis in (0, 1, -1):
            yield cls(x, constant(axis))
        yield cls(x, constant(1), exclusive=1)
        yield cls(x, constant(2), reverse=1)
        yield cls(x, constant(np.array([2], np.int32)), exclusive=1, reverse=1)
        yield cls(argument(TensorType(F32, (0, 3))), constant(0))
        yield cls(x, argument(TensorType(I64, ()), -3, 2))
        for dtype in (F64, F16, I32, I64):
            yield cls(argument(TensorType(dtype, (2, 5)), -9.0, 9.0), constant(1))
