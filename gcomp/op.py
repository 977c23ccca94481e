"""What an operator says of itself: ONNX name, types, reference, lowering, samples and cost, in one class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar, dataclass_transform

import numpy as np

from .diagnostics import InferenceError
from .dim import Dim
from .ir import Op, Value
from .types import Array, DType, TensorType, dtype_by_code, dtype_of

if TYPE_CHECKING:
    from .kernel import Kernel, Tensor

DOMAINS = ("", "com.microsoft", "ai.onnx.ml")

Storage = Literal["dense", "unstructured", "4x1"]
"""What of a constant is stored: all of it; elements that are not zero; or blocks that are not zero, of 4
neighbouring outputs of the products that read it."""

AnyOperator = TypeVar("AnyOperator", bound="Operator")

_OPERATORS: dict[str, type[Operator]] = {}
_BY_ONNX: dict[tuple[str, str], list[type[Operator]]] = {}


class Operator(Op):
    """Base of operators that compute tensors.

    A subclass without `lower` has no native code and runs as a host step; `has_lower` says which. No keyword
    is ever given to `reference`, `lower` and `content`: `**none` lets type checkers accept a subclass that
    names its operands.
    """

    onnx: ClassVar[str] = ""
    domain: ClassVar[str] = ""
    since: ClassVar[int] = 1
    tolerance: ClassVar[str] = "exact"
    inner: ClassVar[DType | None] = None
    """The float type of what its definition computes on the way; results of a finer type are as coarse."""
    onnx_names: ClassVar[dict[str, str]] = {}
    """Attributes whose ONNX name differs from the field's."""
    view_of: ClassVar[int | None] = None
    """The operand whose elements, in row-major order, are those of the only result: no code is needed."""

    def reference(self, *operands: Any, **none: Any) -> Array | tuple[Array, ...]:
        """The meaning, in numpy on logical shapes.

        Takes an array per operand (None for an absent one), gives one per result; a single one may be bare.
        """
        raise NotImplementedError

    def lower(self, k: Kernel, *operands: Any, **none: Any) -> Tensor | tuple[Tensor, ...]:
        """The meaning again, as stages of `k`: from a tensor (or None) per operand to a tensor per result."""
        raise NotImplementedError

    @classmethod
    def samples(cls) -> Iterator[Operator]:
        """Instances that tests and generators start from, over `argument(...)` values and constants."""
        yield from ()

    def content(self, *operands: Any, **none: Any) -> tuple[Dim, ...] | None:
        """The flat elements of the only result as sizes, if they follow from those of the operands.

        Through this `Shape -> Gather -> Concat -> Reshape` chains keep symbolic sizes.
        """
        return None

    def parts(self) -> tuple[tuple[int, ...], ...] | None:
        """For a result that is the operands side by side: the index at which each of them starts."""
        return None

    @property
    def flops(self) -> Dim:
        """Floating-point operations of one run; one per result element unless an operator says otherwise."""
        total: Dim = 0
        for value in self.results:
            total = total + value.type.size
        return total

    @property
    def bytes(self) -> Dim:
        """Bytes read and written by one run, each operand and result once."""
        total: Dim = 0
        for value in (*self.inputs, *self.results):
            total = total + value.type.bytes
        return total

    def upgrade(self) -> Op | Value | tuple[Value, ...] | None:
        """For a class of an old opset: the same in the newest operators. None if this is the newest."""
        return None

    @classmethod
    def has_lower(cls) -> bool:
        return cls.lower is not Operator.lower

    def coded(self, code: int, among: tuple[DType, ...] | None = None) -> DType:
        """The element type with ONNX's number `code`. Raises `InferenceError`."""
        try:
            dtype = dtype_by_code(code)
        except KeyError:
            self.fail("a type that gcomp has", type=code)
        if among is not None and dtype not in among:
            self.fail(f"a type among {', '.join(map(str, among))}", type=dtype)
        return dtype

    def fail(self, requirement: str, **actual: Any) -> NoReturn:
        """Raises `InferenceError`: what this operator needs, and the actual values."""
        got = ", ".join(
            f"{name}: {value.type if isinstance(value, Value) else value}" for name, value in actual.items()
        )
        raise InferenceError(
            f"{self.kind} needs {requirement}" + (f", got {got}" if got else ""),
            origin=getattr(self, "origin", ()),
        )


@dataclass_transform()
def operator(
    *, onnx: str = "", since: int = 1, domain: str = ""
) -> Callable[[type[AnyOperator]], type[AnyOperator]]:
    """Registers an operator class, known to ONNX as `onnx` from opset `since` on; without, gcomp's own."""

    def register(cls: type[AnyOperator]) -> type[AnyOperator]:
        cls.onnx, cls.since, cls.domain = onnx, since, domain
        _OPERATORS[cls.__name__] = cls
        if onnx:
            _BY_ONNX.setdefault((domain, onnx), []).append(cls)
        return cls

    return register


def operators() -> dict[str, type[Operator]]:
    """All operator classes by their name in the text form."""
    import_module("gcomp.ops")  # its families register themselves
    return _OPERATORS


def operator_for(domain: str, name: str, opset: int) -> type[Operator] | None:
    """The class for an ONNX node in a model of this opset, or None."""
    operators()
    known = [cls for cls in _BY_ONNX.get((domain, name), []) if cls.since <= opset]
    return max(known, key=lambda cls: cls.since, default=None)


@operator()
class Argument(Operator):
    """A stand-in for an operand of a sample: a value of a type, from nowhere. Graphs never hold one."""

    type: TensorType
    low: float = -2.0
    high: float = 2.0

    def infer(self) -> TensorType:
        return self.type


def argument(type: TensorType, low: float = -2.0, high: float = 2.0) -> Value:
    """An operand of a sample: tests feed it seeded values in [low, high]."""
    return Argument(type, low, high).result


@operator(onnx="Constant", since=1)
class Constant(Operator):
    """A tensor known at compile time.

    `storage` is how a target that can had best store it; it changes nothing of what the constant means.
    """

    value: np.ndarray[Any, Any]
    storage: Storage = "dense"

    def infer(self) -> TensorType:
        self.value = np.asanyarray(self.value)  # numpy's scalars are welcome
        return TensorType(dtype_of(self.value), self.value.shape)

    def reference(self) -> Array:
        return self.value

    def content(self, *operands: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
        if self.value.dtype.kind not in "iu" or self.value.size > 64:
            return None
        return tuple(int(element) for element in self.value.ravel())


def constant(value: Any, dtype: Any = None) -> Value:
    """A detached constant; Python integers become i64, Python floats f32 unless `dtype` says otherwise."""
    array = np.asarray(value, dtype)
    if dtype is None and not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype({"i": np.int64, "f": np.float32}.get(array.dtype.kind, array.dtype))
    return Constant(array).result


def single(number: float) -> float:
    """A float attribute as arithmetic has to take it: ONNX holds it in single precision, also beside f64."""
    return float(np.float32(number))


def constant_value(value: Value | None) -> Array | None:
    """The array of a constant, else None."""
    return value.owner.value if value is not None and isinstance(value.owner, Constant) else None


def known_content(value: Value | None) -> tuple[Dim, ...] | None:
    """The flat elements of a small integer tensor as sizes, symbolic or not, where they can be told."""
    return _Known().content(value)


def known_array(value: Value | None) -> Array | None:
    """A constant's array, or that of a small tensor made of constants and known sizes; else None."""
    return _Known().array(value)


class _Known:
    """What can be told of values without running the graph; each value is looked at once."""

    DEPTH, SIZE = 64, 64  # operators to follow, elements of a tensor

    def __init__(self) -> None:
        self.contents: dict[Value, tuple[Dim, ...] | None] = {}
        self.arrays: dict[Value, Array | None] = {}
        self.depth = 0

    def content(self, value: Value | None) -> tuple[Dim, ...] | None:
        if value is None or not isinstance(value.owner, Operator) or not value.type.dtype.is_integer:
            return None
        if value not in self.contents:
            self.contents[value] = None
            if self.depth < self.DEPTH:
                self.depth += 1
                found = value.owner.content(*map(self.content, value.owner.operands))
                self.depth -= 1
                low, high = value.type.dtype.extremes
                if found is None or any(isinstance(size, int) and not low <= size <= high for size in found):
                    array = self.array(value)
                    found = None if array is None else tuple(int(element) for element in array.ravel())
                self.contents[value] = found
        return self.contents[value]

    def array(self, value: Value | None) -> Array | None:
        if value is None or not isinstance(value.owner, Operator):
            return None
        if isinstance(value.owner, Constant):
            return value.owner.value
        if value not in self.arrays:
            self.arrays[value] = None
            self.arrays[value] = self._computed(value, value.owner)
        return self.arrays[value]

    def _computed(self, value: Value, op: Operator) -> Array | None:
        if not value.type.is_static or not value.type.dtype.bytes or self.depth >= self.DEPTH:
            return None
        if math.prod(value.type.static_shape) > self.SIZE:
            return None
        content = self.content(value)
        if content is not None and all(isinstance(size, int) for size in content):
            return np.array(content, value.type.dtype.numpy).reshape(value.type.static_shape)
        self.depth += 1
        operands = [self.array(operand) for operand in op.operands]
        self.depth -= 1
        missing = [a is None and v is not None for a, v in zip(operands, op.operands, strict=True)]
        if not operands or any(missing) or op.regions:
            return None
        try:
            with np.errstate(all="ignore"):
                arrays = op.reference(*operands)
        except (ArithmeticError, IndexError, NotImplementedError, ValueError):
            return None  # the operator is left to fail, or not, when it runs
        return arrays[value.index] if isinstance(arrays, tuple) else arrays
