"""The IR: values, operators with regions, and graphs in SSA form. Knows no operator by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import get_annotations
from typing import (
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from .diagnostics import InferenceError
from .dim import Range
from .types import TensorType

AnyOp = TypeVar("AnyOp", bound="Op")
FieldKind = Literal["operand", "optional", "variadic", "attribute", "region"]


class Value:
    """A tensor: made by an operator, or an input of a graph.

    `name` is the ONNX tensor that it came from, kept through rewrites; `users` are the attached operators
    that read it.
    """

    __slots__ = ("index", "name", "owner", "type", "users")

    def __init__(self, type: TensorType, owner: Op | Graph, index: int, name: str = "") -> None:
        self.type, self.owner, self.index, self.name = type, owner, index, name
        self.users: dict[Op, None] = {}

    @property
    def producer(self) -> Op | None:
        """The operator that makes this value, or None for an input."""
        return self.owner if isinstance(self.owner, Op) else None

    def __repr__(self) -> str:
        return f"%{self.name or self.index}: {self.type}"


@dataclass(frozen=True)
class Field:
    """One declared field of an operator class."""

    name: str
    kind: FieldKind


@dataclass_transform(kw_only_default=False)
class Op:
    """Base of all operators. A subclass annotates its fields in order.

    `Value` is an operand, `Value | None` an optional one, `tuple[Value, ...]` variadic, `Graph` a region;
    anything else is an attribute.

    Constructing an operator infers its results at once and leaves it detached, until a graph takes it in.
    Where a `Value` is wanted an operator with one result is accepted. Raises `InferenceError`.
    """

    results: tuple[Value, ...]
    origin: tuple[str, ...]
    parent: Graph | None

    _fields: ClassVar[tuple[Field, ...] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self.fields()
        if len(args) > len(fields):
            raise InferenceError(f"{self.kind} takes {len(fields)} fields, got {len(args)}")
        given = dict(zip((field.name for field in fields), args, strict=False)) | kwargs
        for field in fields:
            if field.name in given:
                value = given.pop(field.name)
            elif field.kind == "optional":
                value = None
            elif hasattr(type(self), field.name):
                value = getattr(type(self), field.name)
            else:
                raise InferenceError(f"{self.kind} needs {field.name}")
            setattr(self, field.name, _plain(value, field.kind))
        if given:
            raise InferenceError(f"{self.kind} has no field {', '.join(given)}")
        self.origin, self.parent = (), None
        self.results = ()
        types = self.infer()
        types = (types,) if isinstance(types, TensorType) else types
        for type_ in types:
            if any(isinstance(size, int) and size < 0 for size in type_.shape):
                raise InferenceError(f"{self.kind} needs a result of sizes of at least 0, got {type_}")
        self.results = tuple(Value(type, self, index) for index, type in enumerate(types))

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The declared fields in order."""
        if "_fields" not in cls.__dict__:
            hints = get_type_hints(cls)
            names = [n for c in reversed(cls.__mro__) if c not in Op.__mro__ for n in get_annotations(c)]
            cls._fields = tuple(
                Field(n, _kind(hints[n]))
                for n in dict.fromkeys(names)
                if get_origin(hints[n]) is not ClassVar
            )
        return cls._fields or ()

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        """The types of the results, from operands and attributes. Raises `InferenceError`."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The operator's name in the text form."""
        return type(self).__name__

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def operands(self) -> list[Value | None]:
        """All operands in order; an absent optional one is None."""
        found: list[Value | None] = []
        for field in self.fields():
            if field.kind in ("operand", "optional"):
                found.append(getattr(self, field.name))
            elif field.kind == "variadic":
                found.extend(getattr(self, field.name))
        return found

    @property
    def inputs(self) -> list[Value]:
        """The operands that are there."""
        return [value for value in self.operands if value is not None]

    @property
    def attributes(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in self.fields() if field.kind == "attribute"}

    @property
    def regions(self) -> list[Graph]:
        return [getattr(self, field.name) for field in self.fields() if field.kind == "region"]

    def replace_operand(self, old: Value, new: Value) -> None:
        """Reads `new` wherever this operator read `old`; its regions are left alone."""
        for field in self.fields():
            held = getattr(self, field.name)
            if field.kind == "variadic":
                setattr(self, field.name, tuple(new if value is old else value for value in held))
            elif field.kind in ("operand", "optional") and held is old:
                setattr(self, field.name, new)
        if self.parent is not None:
            old.users.pop(self, None)
            new.users[self] = None

    def set_operands(self, values: Sequence[Value | None]) -> None:
        """Reads `values` in place of the operands, one for one; its regions are left alone."""
        for value in reads(self):
            value.users.pop(self, None)
        given = iter(values)
        for field in self.fields():
            if field.kind == "variadic":
                setattr(self, field.name, tuple(next(given) for _ in getattr(self, field.name)))
            elif field.kind in ("operand", "optional"):
                setattr(self, field.name, next(given))
        for value in reads(self):
            value.users[self] = None

    def clone(
        self,
        values: Mapping[Value, Value],
        attribute: Callable[[Any], Any] | None = None,
        region: Callable[[Graph], Graph] | None = None,
    ) -> Self:
        """A detached copy reading `values[v]` in place of `v`; types are inferred anew, layouts kept.

        Attributes become what `attribute` makes of them, and regions what `region` does, else copies. Raises
        `InferenceError` where operands do not fit, or fit another number of results.
        """

        def swap(value: Any) -> Any:
            return values.get(value, value) if isinstance(value, Value) else value

        given: dict[str, Any] = {}
        for field in self.fields():
            held = getattr(self, field.name)
            match field.kind:
                case "variadic":
                    given[field.name] = tuple(map(swap, held))
                case "region":
                    given[field.name] = region(held) if region else held.clone(values)
                case "attribute" if attribute:
                    given[field.name] = attribute(held)
                case _:
                    given[field.name] = swap(held)
        copy = type(self)(**given)
        if len(copy.results) != len(self.results):
            raise InferenceError(
                f"{self.kind} over these gives {len(copy.results)} results for {len(self.results)}"
            )
        copy.origin = self.origin
        for mine, its in zip(self.results, copy.results, strict=True):
            its.name = mine.name
            its.type = its.type.with_layout(mine.type.layout)
        return copy

    def __repr__(self) -> str:
        inside = ", ".join("_" if value is None else repr(value) for value in self.operands)
        return f"{self.kind}({inside})"


def unused_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or that with a number if it is taken; from then on it is."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


class Graph:
    """Operators in an order in which each is defined before it is used; also the region of an operator.

    A region may read values of the graphs around it. `input_names` and `output_names` are the names of the
    interface. `ranges` holds the least and greatest value of symbolic sizes for which they are declared.
    """

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.ranges: dict[str, Range] = {}
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.ops: list[Op] = []
        self.metadata: dict[str, Any] = {}

    @property
    def input_names(self) -> list[str]:
        return [value.name for value in self.inputs]

    def add_input(self, type: TensorType, name: str = "") -> Value:
        value = Value(type, self, len(self.inputs), name)
        self.inputs.append(value)
        return value

    def add(self, op: AnyOp, before: Op | None = None) -> AnyOp:
        """Takes in `op`, and first the detached operators that it needs, before `before` or at the end."""
        place = len(self.ops) if before is None else self.ops.index(before)
        for new in _detached(op):
            self.ops.insert(place, new)
            place += 1
            new.parent = self
            for value in reads(new):
                value.users[new] = None
        return op

    def remove(self, op: Op) -> None:
        """Takes out an operator whose results nobody reads."""
        for value in op.results:
            if value.users:
                raise InferenceError(f"{op.kind} cannot be removed: {value!r} is still read")
        self.ops.remove(op)
        for gone in (op, *(inner for region in op.regions for inner in region.walk())):
            for value in reads(gone):
                value.users.pop(gone, None)
        op.parent = None

    def replace(self, old: Value, new: Value) -> None:
        """Reads `new` wherever `old` was read, as an output of this graph too; the name stays."""
        for user in list(old.users):
            user.replace_operand(old, new)
            for region in user.regions:
                region.replace_captured(old, new)
            if any(value is old for value in reads(user)):
                continue
            old.users.pop(user, None)
            new.users[user] = None
        self.outputs = [new if value is old else value for value in self.outputs]
        if old.name and not new.name:
            new.name = old.name

    def replace_captured(self, old: Value, new: Value) -> None:
        """Within a region: reads `new` wherever `old` of a graph around it was read."""
        for op in self.ops:
            if any(value is old for value in op.inputs):
                op.replace_operand(old, new)
            for region in op.regions:
                region.replace_captured(old, new)
        self.outputs = [new if value is old else value for value in self.outputs]

    def clone(self, values: Mapping[Value, Value] | None = None) -> Graph:
        """A deep copy; constants share their arrays. `values` maps captured values, perhaps inputs."""
        copy, mapping = Graph(self.name), dict(values or {})
        for value in self.inputs:
            mapping[value] = (
                copy.add_input(value.type, value.name) if value not in mapping else mapping[value]
            )
            if mapping[value].owner is not copy:
                copy.inputs.append(mapping[value])
        for op in self.ops:
            new = copy.add(op.clone(mapping))
            mapping.update(zip(op.results, new.results, strict=True))
        copy.outputs = [mapping.get(value, value) for value in self.outputs]
        copy.output_names, copy.metadata = list(self.output_names), dict(self.metadata)
        copy.ranges = dict(self.ranges)
        return copy

    def walk(self) -> Iterator[Op]:
        """All operators, those of regions after the one that holds them."""
        for op in list(self.ops):
            yield op
            for region in op.regions:
                yield from region.walk()

    def captured(self) -> list[Value]:
        """The values of surrounding graphs that this region reads, in order of first use."""
        inside = {id(value) for value in self.inputs} | {id(v) for op in self.ops for v in op.results}
        found: dict[Value, None] = {}
        for op in self.ops:
            for value in reads(op):
                if id(value) not in inside:
                    found[value] = None
        for value in self.outputs:
            if id(value) not in inside:
                found[value] = None
        return list(found)

    def symbols(self) -> list[str]:
        """The symbolic sizes of the inputs, sorted."""
        from .dim import symbols  # a name of this method too

        return sorted({s for value in self.inputs for size in value.type.shape for s in symbols(size)})

    def __str__(self) -> str:
        from .printer import print_graph  # knows this module only by its types

        return print_graph(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and (self is other or str(self) == str(other))

    __hash__ = object.__hash__


def reads(op: Op) -> list[Value]:
    """The values that an operator reads: its operands, and what its regions capture."""
    return [*op.inputs, *(value for region in op.regions for value in region.captured())]


def users_of(values: Iterable[Value]) -> list[Op]:
    """The operators that read any of the values, each once."""
    return list(dict.fromkeys(user for value in values for user in value.users))


def _kind(hint: Any) -> FieldKind:
    if hint is Value:
        return "operand"
    if hint is Graph:
        return "region"
    if Value in get_args(hint):
        return "variadic" if get_origin(hint) is tuple else "optional"
    return "attribute"


def _plain(value: Any, kind: FieldKind) -> Any:
    if kind == "variadic":
        return tuple(v.result if isinstance(v, Op) else v for v in value)
    if isinstance(value, Op):
        return value.result
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _detached(op: Op) -> Sequence[Op]:
    """`op` after the detached producers that it needs, each once, in order."""
    order: dict[Op, None] = {}

    def visit(op: Op) -> None:
        if op.parent is None and op not in order:
            for value in reads(op):
                if value.producer is not None:
                    visit(value.producer)
            order[op] = None

    visit(op)
    return list(order)
