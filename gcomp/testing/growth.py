"""Grows whole graphs: operators drawn about equally, over values that are there or are made to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from ..diagnostics import GcompError, InferenceError, ReferenceFault
from ..dim import Dim, is_symbol, symbol
from ..evaluate import evaluate_op
from ..ir import Graph, Op, Value
from ..op import Argument, Constant, Operator
from ..ops import Conv, Relayout
from ..rewrite import Rule
from ..types import BOOL, F32, NUMBERS, Array, TensorType
from .arrays import SYMBOLS, draw_array, draw_extremes, draw_shape, draw_size, special_of, tamed
from .case import Case
from .fitting import converted, fitted, is_extreme, is_finite, is_usual, is_within, limited, reshape, reshaped
from .interface import enclosed, with_outputs, with_ranges
from .patterns import example
from .samples import arguments, cone, native_classes, samples_of
from .variation import ALL, symbolic, varied

STEPS = range(3, 10)
"""Operators that are drawn for a graph; what makes operands fit comes on top."""

ATTEMPTS = 8
"""Samples tried before a step is given up."""

BUDGET = 1 << 13
"""The bytes of the largest tensor."""

RANKS = range(1, 5)

Admits = Callable[[Op], bool]
Classes = Sequence[type[Operator]]


def whole(
    random: Random,
    classes: Classes | None = None,
    admits: Admits | None = None,
    rules: Sequence[Rule] = (),
) -> Case:
    """A case whose graph has several operators, outputs, shared values and dead ends, perhaps a region.

    `classes` are drawn from, all that have native code unless given; only what `admits` is put in. Half of
    what is put in are patterns of `rules`, if there are any.
    """
    growth = Growth(random, classes or native_classes(), admits, rules)
    growth.begin()
    for _ in range(random.choice(STEPS)):
        growth.step()
    return growth.case()


def single(random: Random, classes: Classes | None = None, admits: Admits | None = None) -> Case:
    """A case of one operator, drawn as for `whole` and varied: its operands are inputs and constants."""
    growth = Growth(random, classes or native_classes(), admits)
    while not growth.step():
        pass
    return growth.case()


@dataclass
class Growth:
    """A graph that grows, and what it computes: each value's array, at the sizes drawn for its symbols."""

    random: Random
    classes: Classes
    admits: Admits | None = None
    rules: Sequence[Rule] = ()
    graph: Graph = field(default_factory=lambda: Graph("random"))
    inputs: dict[str, Array] = field(default_factory=dict[str, Array])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    arrays: dict[Value, Array] = field(default_factory=dict[Value, Array])
    pool: list[Value] = field(default_factory=list[Value])
    """The values that operands are chosen from."""
    twins: dict[Value, Value] = field(default_factory=dict[Value, Value])
    """Values of symbolic sizes at those drawn for the symbols; they belong to no graph."""

    def __post_init__(self) -> None:
        self.extremes = () if self.random.randrange(4) else draw_extremes(self.random)
        self.variations = [variation for variation in ALL if variation is not symbolic]
        if not self.random.randrange(4):
            self.variations = ALL
            names = self.random.sample(SYMBOLS, self.random.randrange(1, 3))
            self.sizes = {name: draw_size(self.random) for name in names}

    def begin(self) -> None:
        """Puts in inputs, over all symbols."""
        random = self.random
        for _ in range(random.randrange(1, 3)):
            dtype = random.choice((F32, F32, F32, BOOL, *NUMBERS))
            shape: tuple[Dim, ...] = draw_shape(random, random.choice(RANKS), budget=BUDGET >> 4)
            for name in self.sizes:
                at = random.randrange(len(shape))
                shape = (*shape[:at], symbol(name), *shape[at + 1 :])
            leaf = Argument(TensorType(dtype, shape))
            self.add_input(leaf, self.draw(leaf))

    def step(self) -> bool:
        """Draws an operator, or a pattern, and puts it in; False where none of those tried is taken."""
        if self.rules and self.random.randrange(2):
            rule = self.random.choice(self.rules)
            return self._tries(lambda: example(self.random, rule))
        cls = self.random.choice(self.classes)
        return self._tries(lambda: self._sample(cls))

    def _tries(self, draw: Callable[[], Op | None]) -> bool:
        for _ in range(ATTEMPTS):
            try:
                if (sample := draw()) is not None:
                    _Step(self, dict(self.arrays)).put(sample)
                    return True
            except ReferenceFault:
                raise
            except GcompError:  # operators refuse types, or references numbers
                continue
        return False

    def _sample(self, cls: type[Operator]) -> Op | None:
        times = self.random.randrange(3)
        sample = varied(self.random, self.random.choice(samples_of(cls)), self.variations, times)
        return sample if isinstance(sample, cls) else None

    def add_input(self, leaf: Argument, array: Array) -> Value:
        value = self.graph.add_input(leaf.type, f"x{len(self.graph.inputs)}")
        self.inputs[value.name] = array
        self.keep(value, array)
        return value

    def keep(self, value: Value, array: Array) -> None:
        """Notes what a value of the graph is; unusual ones are seldom built upon, and extreme ones never."""
        self.arrays[value] = array
        if value.type.layout is not None or is_extreme(array):
            return
        if is_usual(array) or not self.random.randrange(8):
            self.pool.append(value)

    def draw(self, leaf: Argument) -> Array:
        """Numbers for a stand-in; infinite and huge ones are left to operators to make."""
        type = leaf.type.substitute(self.sizes)
        extremes = self.extremes if (leaf.low, leaf.high) == (-2.0, 2.0) else ()
        return tamed(draw_array(self.random, type, leaf.low, leaf.high, extremes))

    def case(self) -> Case:
        """The graph so far, with outputs, and the inputs."""
        with_outputs(self.random, self.graph)
        graph = enclosed(self.random, self.graph) if not self.random.randrange(6) else self.graph
        with_ranges(self.random, graph, self.sizes)
        return Case(graph, self.inputs)


@dataclass
class _Step:
    """One operator and what its operands need, computed but not yet put into the graph."""

    growth: Growth
    arrays: dict[Value, Array]
    new: dict[Argument, Value] = field(default_factory=dict[Argument, Value])

    def put(self, sample: Op) -> None:
        """Puts a sample in, over values of the graph as far as they fit, and new inputs.

        Raises `GcompError` and leaves all as it was, where operators refuse it.
        """
        growth, random = self.growth, self.growth.random
        values: dict[Value, Value] = {}
        if growth.pool and (leaves := arguments(sample)):
            place = min(random.randrange(len(leaves)), random.randrange(len(leaves)))
            base = self.of_rank(self.base(leaves[place].type), leaves[place].type.rank)
            sample = fitted(random, sample, place, base.type)
            leaf = arguments(sample)[place]
            found = self.brought(base, leaf)
            if found is not None:
                values[leaf.result] = found
        for leaf in arguments(sample):
            if leaf.result not in values:
                values[leaf.result] = self.operand(leaf)
            if leaf.type.layout is not None:
                values[leaf.result] = self.computed(Relayout(values[leaf.result], leaf.type.layout))
        root = sample
        for op in cone(sample):
            if not isinstance(op, Argument):
                root = op.clone(values)
                values.update(zip(op.results, root.results, strict=True))
        self.computed(root)
        if isinstance(root, Conv) and not is_finite(self.arrays[root.w]):
            raise InferenceError("a template may leave out what a weight adds beside the image, NaN too")
        plain = [Relayout(value, None) for value in root.results if value.type.layout is not None]
        for op in plain:
            self.computed(op)
        for op in (root, *plain):
            self.commit(op)

    def base(self, type: TensorType) -> Value:
        """A value to go on from: more often one that nobody reads yet, and near to `type`."""
        random, found = self.growth.random, self.growth.pool
        unread = [value for value in found if not value.users]
        found = unread if unread and random.randrange(2) else found
        for near in (
            [value for value in found if value.type.rank == type.rank],
            [value for value in found if value.type.dtype == type.dtype],
        ):
            if near and random.randrange(4):
                return random.choice(near)
        return random.choice(found)

    def of_rank(self, base: Value, rank: int) -> Value:
        random = self.growth.random
        if base.type.rank == rank or not random.randrange(3):
            return base
        shape = reshaped(random, base.type.shape, rank)
        op = reshape(base, shape) if shape is not None else None
        return base if op is None else self.computed(op)

    def brought(self, base: Value, leaf: Argument) -> Value | None:
        """`base` as a stand-in's type and within its range, if that can be."""
        type = leaf.type.with_layout(None)
        if base.type != type:
            op = converted(base, type)
            if op is None:
                return None
            base = self.computed(op)
        if is_within(self.arrays[base], leaf.low, leaf.high):
            return base
        if type.dtype.is_float and not self.growth.random.randrange(3) and not is_extreme(self.arrays[base]):
            return base
        clip = limited(base, leaf.low, leaf.high)
        return None if clip is None else self.computed(clip)

    def operand(self, leaf: Argument) -> Value:
        """What stands for a stand-in: a value that is there, a constant or a new input."""
        random, type = self.growth.random, leaf.type.with_layout(None)
        size = type.substitute(self.growth.sizes).bytes
        if isinstance(size, int) and size > BUDGET:
            raise InferenceError(f"{type} takes more than {BUDGET} bytes")
        alike = [value for value in self.growth.pool if value.type == type]
        near = [value for value in self.growth.pool if value.type.size == type.size]
        for candidates, chance in ((alike, 4), (near, 2)):
            if candidates and random.randrange(chance):
                found = self.brought(random.choice(candidates), leaf)
                if found is not None:
                    return found
        if type.is_static and not random.randrange(3):
            usual = (leaf.low, leaf.high) == (-2.0, 2.0) and not random.randrange(2)
            array = special_of(random, type) if usual else draw_array(random, type, leaf.low, leaf.high)
            return self.computed(Constant(tamed(array)))
        for size in type.shape:
            if not isinstance(size, int):
                if not is_symbol(size):
                    raise InferenceError(f"no input can tell the size {size}")
                self.growth.sizes.setdefault(str(size), draw_size(random))
        fresh = Argument(type, leaf.low, leaf.high)
        self.arrays[fresh.result] = self.growth.draw(fresh)
        return fresh.result

    def computed(self, root: Op) -> Value:
        """The first result of `root`, whose new operators are run. Raises `GcompError` for refusals."""
        growth = self.growth
        for op in cone(root):
            if op.parent is not None or isinstance(op, Argument) or op.results[0] in self.arrays:
                continue
            if growth.admits is not None and not growth.admits(op):
                raise InferenceError(f"{op.kind} is not admitted")
            operands = [None if value is None else self.arrays[value] for value in op.operands]
            bound = self.bound(op)
            for value, array in zip(op.results, evaluate_op(bound, operands), strict=True):
                if value.type.substitute(growth.sizes).shape != array.shape:
                    raise InferenceError(
                        f"{op.kind} gives {list(array.shape)} where {value.type} is promised"
                    )
                if array.nbytes > BUDGET:
                    raise InferenceError(f"{op.kind} gives more than {BUDGET} bytes")
                self.arrays[value] = array
        return root.results[0]

    def bound(self, op: Op) -> Op:
        """The operator over sizes in the place of symbols. Raises `InferenceError` where it refuses those."""
        twins = self.growth.twins
        if not self.growth.sizes:
            return op
        for value in op.inputs:
            if isinstance(value.owner, Argument | Graph):
                twins.setdefault(value, Argument(value.type.substitute(self.growth.sizes)).result)
        twin = op.clone(twins)
        twins.update(zip(op.results, twin.results, strict=True))
        return twin

    def commit(self, root: Op) -> None:
        """Puts `root` and what it is made of into the graph."""
        growth = self.growth
        for op in cone(root):
            if op.parent is not None or isinstance(op, Argument):
                continue
            for value in op.inputs:
                if isinstance(value.owner, Argument):
                    op.replace_operand(value, self.given(value.owner))
            growth.graph.add(op)
            if not isinstance(op, Constant):
                op.origin = (f"node{len(growth.graph.ops)}",)
            for value in op.results:
                if isinstance(op, Constant):
                    growth.arrays[value] = self.arrays[value]
                else:
                    growth.keep(value, self.arrays[value])

    def given(self, leaf: Argument) -> Value:
        """The input that a stand-in becomes."""
        if leaf not in self.new:
            self.new[leaf] = self.growth.add_input(leaf, self.arrays[leaf.result])
        return self.new[leaf]
