"""Matrix products: MatMul, Gemm, MatMulInteger, Einsum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..dim import Dim, product
from ..ir import Value
from ..kernel import Expr, Kernel, Tensor, cast, literal, reduce
from ..op import Operator, argument, constant, operator, single
from ..types import (
    F16,
    F32,
    FLOATS,
    I8,
    I32,
    I64,
    U8,
    U32,
    U64,
    Array,
    DType,
    TensorType,
    broadcast_shapes,
)
from .elementwise import accumulator, widened

MATRIX_DTYPES = (*FLOATS, I32, I64, U32, U64)


def zero(dtype: DType) -> float:
    """The neutral element of sums, as literals of `dtype` want it."""
    return 0.0 if dtype.is_float else 0


@operator(onnx="MatMul")
class MatMul(Operator):
    """The matrix product under numpy's rule: vectors are promoted, leading axes broadcast."""

    a: Value
    b: Value

    tolerance = "close"

    def check_types(self) -> None:
        """Raises `InferenceError` for element types that do not go together."""
        if self.a.type.dtype != self.b.type.dtype or self.a.type.dtype not in MATRIX_DTYPES:
            self.fail("two operands of one float or 32 or 64 bit integer type", a=self.a, b=self.b)

    def infer(self) -> TensorType:
        self.check_types()
        return TensorType(self.a.type.dtype, product_shape(self, self.a, self.b))

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(widened(a), widened(b))).astype(a.dtype)

    def lower(self, k: Kernel, a: Tensor, b: Tensor) -> Tensor:
        type = self.result.type
        sums = accumulator(type.dtype)

        def element(*index: Expr) -> Expr:
            batch, row, column = split_index(index, a, b)

            def term(r: Expr) -> Expr:
                lhs, rhs = a.broadcast((*batch, *row, r)), b.broadcast((*batch, r, *column))
                return cast(lhs, sums) * cast(rhs, sums)

            return cast(reduce("add", [a.shape[-1]], term, zero(sums)), type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        for left, right in (
            ((5, 7), (7, 3)),
            ((1, 17), (17, 33)),
            ((2, 3, 4, 6), (2, 3, 6, 5)),
            ((2, 1, 4, 6), (3, 6, 5)),
            ((6,), (6, 4)),
            ((4, 6), (6,)),
            ((2, 4, 6), (6,)),
            ((6,), (6,)),
            ((3, 0), (0, 2)),
            ((0, 3), (3, 2)),
        ):
            yield cls(argument(TensorType(F32, left)), argument(TensorType(F32, right)))
        for dtype in (I32, I64, U32, U64, F16, FLOATS[1]):
            low = 0.0 if dtype.name[0] == "u" else -9.0
            yield cls(
                argument(TensorType(dtype, (3, 5)), low, 9.0), argument(TensorType(dtype, (5, 4)), low, 9.0)
            )

    @property
    def flops(self) -> Dim:
        return self.result.type.size * self.a.type.shape[-1] * 2


@operator(onnx="Gemm", since=7)
class Gemm(Operator):
    """`alpha * A @ B + beta * C`, where A and B are `a` and `b`, transposed if asked, and `c` broadcasts."""

    a: Value
    b: Value
    c: Value | None = None
    alpha: float = 1.0
    beta: float = 1.0
    trans_a: int = 0
    trans_b: int = 0

    onnx_names = {"trans_a": "transA", "trans_b": "transB"}  # noqa: RUF012
    tolerance = "close"

    def check_types(self) -> None:
        """Raises `InferenceError` for element types that do not go together."""
        if {value.type.dtype for value in self.inputs} not in ({dtype} for dtype in MATRIX_DTYPES):
            self.fail("operands of one float or 32 or 64 bit integer type", a=self.a, b=self.b, c=self.c)

    def infer(self) -> TensorType:
        a, b, c = self.a.type, self.b.type, self.c.type if self.c is not None else None
        if a.rank != 2 or b.rank != 2:
            self.fail("two matrices", a=self.a, b=self.b)
        self.check_types()
        if not a.dtype.is_float and not (float(self.alpha).is_integer() and float(self.beta).is_integer()):
            self.fail("whole alpha and beta for integers", alpha=self.alpha, beta=self.beta)
        rows, depth = a.shape[::-1] if self.trans_a else a.shape
        inner, columns = b.shape[::-1] if self.trans_b else b.shape
        if depth != inner:
            self.fail("equal inner sizes", a=self.a, b=self.b, trans_a=self.trans_a, trans_b=self.trans_b)
        shape = (rows, columns)
        if c is not None and not _broadcasts_to(c.shape, shape):
            self.fail(f"c to broadcast to {TensorType(a.dtype, shape)}", c=self.c)
        return TensorType(a.dtype, shape)

    @property
    def depth(self) -> Dim:
        """The size that is summed over."""
        return self.a.type.shape[0 if self.trans_a else 1]

    def reference(self, a: Array, b: Array, c: Array | None) -> Array:
        result = np.matmul(widened(a.T if self.trans_a else a), widened(b.T if self.trans_b else b))
        wide = result.dtype  # of integers the operands' own, in which products wrap
        result = result * np.asarray(single(self.alpha)).astype(wide)
        if c is not None:
            result = result + np.asarray(single(self.beta)).astype(wide) * widened(c)
        return result.astype(a.dtype)

    def lower(self, k: Kernel, a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
        type = self.result.type
        sums = accumulator(type.dtype)
        number = float if type.dtype.is_float else int

        def element(i: Expr, j: Expr) -> Expr:
            def term(r: Expr) -> Expr:
                lhs = a[(r, i) if self.trans_a else (i, r)]
                rhs = b[(j, r) if self.trans_b else (r, j)]
                return cast(lhs, sums) * cast(rhs, sums)

            total = reduce("add", [self.depth], term, zero(sums))
            if self.alpha != 1:
                total = total * number(single(self.alpha))
            if c is not None:
                bias = cast(c.broadcast((i, j)), sums)
                total = total + (bias if self.beta == 1 else bias * number(single(self.beta)))
            return cast(total, type.dtype)

        return k.compute(type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls(of(5, 7), of(7, 3), of(3))
        yield cls(of(7, 5), of(7, 3), of(5, 1), alpha=0.5, trans_a=1)
        yield cls(of(5, 7), of(3, 7), of(5, 3), beta=2.0, trans_b=1)
        yield cls(of(7, 5), of(3, 7), of(1, 3), alpha=1.5, beta=-0.25, trans_a=1, trans_b=1)
        yield cls(of(5, 7), of(7, 3))
        yield cls(of(5, 7), of(7, 3), constant(0.75))
        yield cls(of(1, 64), of(10, 64), of(10), trans_b=1)
        half = TensorType(F16, (4, 4))
        yield cls(argument(half), argument(half), argument(half))
        double = TensorType(FLOATS[1], (4, 4))
        yield cls(argument(double), argument(double), argument(double), beta=0.5)

    @property
    def flops(self) -> Dim:
        return self.result.type.size * (self.depth * 2 + (1 if self.c is not None else 0))


@operator(onnx="MatMulInteger", since=10)
class MatMulInteger(Operator):
    """The product of 8 bit matrices less their zero points, in 32 bit.

    A zero point is a scalar, or one per row of `a`, per column of `b`.
    """

    a: Value
    b: Value
    a_zero_point: Value | None = None
    b_zero_point: Value | None = None

    def infer(self) -> TensorType:
        if self.a.type.dtype not in (I8, U8) or self.b.type.dtype not in (I8, U8):
            self.fail("8 bit operands", a=self.a, b=self.b)
        for value, zero_point in ((self.a, self.a_zero_point), (self.b, self.b_zero_point)):
            if zero_point is not None and zero_point.type.dtype != value.type.dtype:
                self.fail("zero points of the operand's type", operand=value, zero_point=zero_point)
            if zero_point is not None and not self.is_spread(zero_point, value):
                self.fail("one zero point per row of a, per column of b, or for all", zero_point=zero_point)
        return TensorType(I32, product_shape(self, self.a, self.b))

    def is_spread(self, zero_point: Value, operand: Value) -> bool:
        """Whether `zero_point` has an element for each row or column of `operand`, or one for all.

        Along the depth it has one.
        """
        shape, is_left = zero_point.type.shape, operand is self.a
        if zero_point.type.size == 1:
            return len(shape) <= max(operand.type.rank, 1)
        if is_left and len(shape) == 1:
            shape = (*shape, 1)
        depth = -1 if is_left or operand.type.rank == 1 else -2
        if len(shape) >= -depth and shape[depth] != 1:
            return False
        try:
            return broadcast_shapes(operand.type.shape, shape) == operand.type.shape
        except ValueError:
            return False

    def reference(self, a: Array, b: Array, a_zero_point: Array | None, b_zero_point: Array | None) -> Array:
        a, b = a.astype(np.int32), b.astype(np.int32)
        if a_zero_point is not None:
            zeros = a_zero_point.astype(np.int32)
            a = a - (zeros[:, None] if zeros.ndim == 1 and zeros.size > 1 else zeros)
        if b_zero_point is not None:
            b = b - b_zero_point.astype(np.int32)
        return np.asarray(np.matmul(a, b), np.int32)

    def lower(
        self, k: Kernel, a: Tensor, b: Tensor, a_zero_point: Tensor | None, b_zero_point: Tensor | None
    ) -> Tensor:
        def element(*index: Expr) -> Expr:
            batch, row, column = split_index(index, a, b)

            def term(r: Expr) -> Expr:
                lhs, rhs = a.broadcast((*batch, *row, r)), b.broadcast((*batch, r, *column))
                lhs, rhs = cast(lhs, I32), cast(rhs, I32)
                if a_zero_point is not None:
                    along = row if a_zero_point.type.rank == 1 else (*batch, *row, literal(0))
                    lhs = lhs - cast(a_zero_point.broadcast(along or (literal(0),)), I32)
                if b_zero_point is not None:
                    along = (*batch, literal(0), *column) if column else (literal(0),)
                    rhs = rhs - cast(b_zero_point.broadcast(along), I32)
                return lhs * rhs

            return reduce("add", [a.shape[-1]], term, 0)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(dtype: DType, *shape: int) -> Value:
            low = 0.0 if dtype == U8 else -128.0
            return argument(TensorType(dtype, shape), low, low + 255)

        yield cls(of(U8, 4, 9), of(U8, 9, 3), constant(12, np.uint8), constant(7, np.uint8))
        yield cls(of(U8, 4, 9), of(I8, 9, 3))
        yield cls(of(U8, 4, 9), of(I8, 9, 3), constant(128, np.uint8), of(I8, 3))
        yield cls(of(U8, 2, 4, 9), of(I8, 9, 3), constant([3], np.uint8))

    @property
    def flops(self) -> Dim:
        return self.result.type.size * self.a.type.shape[-1] * 2


@operator(onnx="Einsum", since=12)
class Einsum(Operator):
    """The sum of products that `equation` names, `...` and repeated labels included."""

    inputs_: tuple[Value, ...]
    equation: str = ""

    tolerance = "close"

    def infer(self) -> TensorType:
        dtypes = {value.type.dtype for value in self.inputs_}
        if len(dtypes) != 1 or not dtypes <= set(MATRIX_DTYPES):
            self.fail("operands of one number type", **{f"x{i}": v for i, v in enumerate(self.inputs_)})
        _, output, sizes = self.labels
        return TensorType(dtypes.pop(), tuple(sizes[label] for label in output))

    @property
    def labels(self) -> tuple[list[str], str, dict[str, Dim]]:
        """The labels of each operand and of the result, ellipses in capital letters, and their sizes."""
        left, arrow, output = self.equation.replace(" ", "").partition("->")
        written = left.split(",")
        if len(written) != len(self.inputs_):
            self.fail("one term per operand", equation=self.equation, operands=len(self.inputs_))
        spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in self.equation]
        widest, spelled = 0, list[str]()
        for term, value in zip(written, self.inputs_, strict=True):
            hidden = value.type.rank - len(term.replace("...", ""))
            if hidden < 0 or (hidden and "..." not in term) or hidden > len(spare):
                self.fail(f"the term {term!r} to fit its operand", operand=value)
            spelled.append(term.replace("...", "".join(reversed(spare[:hidden]))))
            widest = max(widest, hidden)
        dots = "".join(reversed(spare[:widest]))
        if arrow:
            output = output.replace("...", dots)
        else:
            once = sorted(c for c in set(left) - set(".,") if left.count(c) == 1)
            output = dots + "".join(once)
        sizes: dict[str, Dim] = {}
        for term, value in zip(spelled, self.inputs_, strict=True):
            own = dict(zip(term, value.type.shape, strict=True))
            for label, size in zip(term, value.type.shape, strict=True):
                if own[label] != size:
                    self.fail(f"one size for {label!r}", first=own[label], second=size)
                if sizes.setdefault(label, size) == 1:
                    sizes[label] = size
                elif size not in (1, sizes[label]):
                    self.fail(f"one size for {label!r}", first=sizes[label], second=size)
        if not set(output) <= set(sizes) or len(set(output)) != len(output):
            self.fail("a result of distinct labels of the operands", equation=self.equation)
        return spelled, output, sizes

    def reference(self, *terms: Array) -> Array:
        labels, output, _ = self.labels
        result = np.einsum(f"{','.join(labels)}->{output}", *map(widened, terms), optimize=True)
        return np.asarray(result).astype(self.result.type.dtype.numpy)

    def lower(self, k: Kernel, *terms: Tensor) -> Tensor:
        spelled, output, sizes = self.labels
        summed = [label for label in sizes if label not in output]
        dtype = accumulator(self.result.type.dtype)

        def element(*index: Expr) -> Expr:
            def term(*inner: Expr) -> Expr:
                at = dict(zip((*output, *summed), (*index, *inner), strict=True))
                total: Expr | None = None
                for labels, x in zip(spelled, terms, strict=True):
                    factor = cast(x.broadcast([at[label] for label in labels]), dtype)
                    total = factor if total is None else total * factor
                return total if total is not None else literal(zero(dtype), dtype)

            total = reduce("add", [sizes[label] for label in summed], term, zero(dtype))
            return cast(total, self.result.type.dtype)

        return k.compute(self.result.type, element)

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        def of(*shape: int) -> Value:
            return argument(TensorType(F32, shape))

        yield cls((of(3, 4), of(4, 5)), "ij,jk->ik")
        yield cls((of(2, 3, 4), of(2, 4, 5)), "bij, bjk -> bik")
        yield cls((of(2, 3, 4, 5),), "...ij->...ji")
        yield cls((of(4, 4),), "ii->i")
        yield cls((of(3, 4),), "ij->")
        yield cls((of(2, 3, 5), of(2, 7, 5)), "bid,bjd->bij")
        yield cls((of(3, 4), of(4, 5)), "ij,jk")

    @property
    def flops(self) -> Dim:
        sizes = self.labels[2]
        return product(sizes.values()) * len(self.inputs_)


def product_shape(op: Operator, a: Value, b: Value) -> tuple[Dim, ...]:
    """The shape of `a @ b` under numpy's rule. Raises `InferenceError`."""
    left, right = a.type.shape, b.type.shape
    if not left or not right:
        op.fail("operands of rank 1 or more", a=a, b=b)
    if left[-1] != right[max(len(right) - 2, 0)]:
        op.fail("a[-1] == b[-2]", a=a, b=b)
    try:
        batch = broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        op.fail("leading axes that broadcast", a=a, b=b)
    return (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


def split_index(
    index: Sequence[Expr], a: Tensor, b: Tensor
) -> tuple[tuple[Expr, ...], tuple[Expr, ...], tuple[Expr, ...]]:
    """An index of `a @ b` as batch, row (empty if `a` is a vector) and column (empty if `b` is)."""
    columns, rows = int(b.type.rank > 1), int(a.type.rank > 1)
    batch = len(index) - rows - columns
    return tuple(index[:batch]), tuple(index[batch : batch + rows]), tuple(index[batch + rows :])


def _broadcasts_to(shape: Sequence[Dim], target: Sequence[Dim]) -> bool:
    return len(shape) <= len(target) and all(
        size in (1, wanted) for size, wanted in zip(reversed(shape), reversed(target), strict=False)
    )
