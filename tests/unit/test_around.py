"""Graphs around rules: what is wished for comes, what surrounds a pattern fits, digests follow the code."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random

import pytest

from gcomp import made_by, require, rewrite
from gcomp.evaluate import evaluate
from gcomp.ir import Value
from gcomp.ops import Add, Cast, Mul, Reshape, Transpose
from gcomp.testing.case import fits, sizes_of
from gcomp.testing.patterns import example, pool, traits_of, within
from gcomp.testing.samples import cone, planted
from gcomp.testing.sources import digest
from gcomp.wellformed import check


@rewrite
def sum_of_products(add: Add) -> Value:
    """x * y + z -> z, which is wrong"""
    made_by(add.lhs, Mul)
    require(add.rhs.type == add.result.type, "a sum like z")
    return add.rhs


@rewrite
def known_shape(op: Reshape) -> Value:
    """Reshape(x) -> x, to the shape it has, if that is known"""
    require(op.data.type.is_static and op.data.type == op.result.type, "the same shape")
    return op.data


@rewrite
def cast_to_itself(op: Cast) -> Value:
    """Cast(x) -> x"""
    require(op.x.type == op.result.type, "the same type")
    return op.x


@rewrite
def ordered(op: Transpose) -> Value:
    """Transpose(x) -> x"""
    require(op.x.type.rank > 2 and op.perm == tuple(range(op.x.type.rank)), "axes in order")
    return op.x


WISHES = ("empty", "broadcasting", "symbolic")


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_wished_for_comes(wish: str) -> None:
    roots = [example(Random(seed), sum_of_products, [wish]) for seed in range(40)]
    assert sum(wish in traits_of(root) for root in roots) > 30


def test_what_a_rule_does_not_admit_never_comes() -> None:
    found = {trait for seed in range(40) for trait in traits_of(example(Random(seed), known_shape, WISHES))}
    assert found == {"empty"}


def test_all_types_and_many_ranks_come() -> None:
    roots = [example(Random(seed), cast_to_itself) for seed in range(200)]
    assert len({root.results[0].type.dtype for root in roots}) >= 12
    assert {root.results[0].type.rank for root in roots} >= {0, 1, 2, 3, 4}


def test_attributes_that_depend_on_each_other_are_found() -> None:
    assert max(pattern.rank for pattern in pool(ordered)) > 2


def test_simple_patterns_come_first() -> None:
    """Those of few operators, and of them those whose graph is soon told."""
    found = [pattern.root for pattern in pool(sum_of_products)]
    assert len({len(cone(root)) for root in found}) > 1
    keys = [(len(cone(root)), len(str(planted(root)[0]))) for root in found]
    assert keys == sorted(keys)


def test_what_surrounds_a_pattern_is_a_model_around_it() -> None:
    rule, wider, shown = sum_of_products, 0, 0
    for seed in range(100):
        root = example(Random(seed), rule)
        case = within(Random(seed), root)
        check(case.graph)
        assert fits(case.graph, sizes_of(case))
        assert len(evaluate(case.graph, case.inputs)) == len(case.graph.outputs)
        kinds = [op.kind for op in case.graph.ops]
        own = [op.kind for op in cone(root) if op.kind != "Argument"]
        assert all(kinds.count(kind) >= own.count(kind) for kind in own)
        wider += len(kinds) > len(own)
        shown += len(case.graph.outputs) > 1
    assert wider > 30 and shown > 10


CODE = '''
from gcomp import require, rewrite
from gcomp.ops import Identity

LEAST = 2

@rewrite
def drop(op: Identity):
    """Identity(x) -> x"""
    return checked(op.x)

def checked(value):
    require(value.type.rank >= LEAST, "axes")
    return value

def other(value):
    return value
'''


def digest_of(code: str, folder: Path) -> str:
    """The digest of the rule in a file of this source."""
    file = folder / f"made_up_{len(list(folder.iterdir()))}.py"
    file.write_text(code)
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return digest(module.drop)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Identity(x) -> x", "drops an Identity", True),
        ("    return checked", "    return  checked", True),
        ("def other(value):\n    return value", "def other(value):\n    return None", True),
        (">= LEAST", "> LEAST", False),
        ("LEAST = 2", "LEAST = 3", False),
        ("checked(op.x)", "checked(op.result)", False),
        ("@rewrite\n", "@rewrite(tolerance='close')\n", False),
    ],
)
def test_a_digest_follows_the_code_that_a_rule_runs(old: str, new: str, same: bool, tmp_path: Path) -> None:
    assert old in CODE
    changed = CODE.replace(old, new)
    assert (digest_of(CODE, tmp_path) == digest_of(changed, tmp_path)) is same
