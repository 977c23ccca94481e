"""The text form: printed and parsed back it is the same graph, here and in a fresh process."""

import gc
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp import op as registry
from gcomp.diagnostics import GcompError, ParseError
from gcomp.dim import symbol
from gcomp.ir import Graph, Value
from gcomp.literal import known_array
from gcomp.op import Constant, Operator, constant, operators
from gcomp.ops import Add, Gemm, MatMul, Relu, Transpose
from gcomp.testing.samples import planted
from gcomp.text import format_op, load_text, parse, print_graph, save_text
from gcomp.types import BF16, DTYPES, F16, F32, I64, STRING, Layout, TensorType, channels_last
from gcomp.wellformed import check
from tests.constant_arrays import array_of

SPELLED = [dtype for dtype in DTYPES.values() if dtype is not STRING]


def assert_round_trip(graph: Graph) -> Graph:
    text = print_graph(graph)
    again = parse(text)
    assert print_graph(again) == text
    assert again == graph
    return again


@pytest.mark.parametrize("name", sorted(operators()))
def test_every_operator_has_a_text_form(name):
    for sample in operators()[name].samples():
        graph, _ = planted(sample)
        check(graph)
        check(assert_round_trip(graph))


@st.composite
def arrays(draw):
    """An array of any dtype with any bits."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape))
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    if dtype is STRING:
        array = np.empty(size, object)
        array[:] = draw(st.lists(st.text(), min_size=size, max_size=size))
        return array.reshape(shape)
    bits = draw(st.binary(min_size=size * dtype.bytes, max_size=size * dtype.bytes))
    array = np.frombuffer(bits, dtype.numpy).copy()
    return (
        (array.view(np.uint8) % 2).view(bool).reshape(shape) if dtype.name == "bool" else array.reshape(shape)
    )


def holding(*values: Value) -> Graph:
    """A graph of constants."""
    graph = Graph()
    for value in values:
        assert isinstance(value.owner, Constant)
        graph.add(value.owner)
    graph.outputs, graph.output_names = list(values), [f"y{i}" for i in range(len(values))]
    return graph


@given(arrays())
def test_constants_keep_every_bit(array):
    again = assert_round_trip(holding(constant(array)))
    value = array_of(again.outputs[0])
    assert value.dtype == array.dtype
    assert value.shape == array.shape
    assert np.array_equal(value, array) if array.dtype == object else value.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", SPELLED, ids=str)
def test_special_numbers_keep_their_bits(dtype):
    if dtype.is_float:
        numbers = [0.1, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38, 65504, 1 / 3]
        with np.errstate(over="ignore"):
            array = np.array(numbers).astype(dtype.numpy)
    elif dtype.is_integer:
        array = np.array([np.iinfo(dtype.numpy).min, 0, np.iinfo(dtype.numpy).max], dtype.numpy)
    else:
        array = np.array([True, False])
    again = array_of(parse(print_graph(holding(constant(array)))).outputs[0])
    assert again.tobytes() == array.tobytes()


def test_constants_read_well():
    values = [
        constant(np.array(x))
        for x in (np.array(0.1, np.float32), np.arange(3), np.array([1, np.nan], np.float32), ["a"])
    ]
    text = print_graph(holding(*values))
    for expected in (
        "f32[] dense<0.1>",
        "i64[3] dense<0, 1, 2>",
        "f32[2] dense<1.0, nan>",
        'str[1] dense<"a">',
    ):
        assert expected in text


def test_a_nan_with_a_payload_is_hexadecimal():
    array = np.array([0x7FC00001], np.uint32).view(np.float32)
    assert "dense<0x7fc00001>" in print_graph(holding(constant(array)))


@given(
    st.lists(st.text() | st.sampled_from(["x", "x.1", "x.1.1", "0", "1"]), min_size=3, max_size=6), st.text()
)
def test_any_names_will_do(names, origin):
    graph = Graph(names[0])
    x = graph.add_input(TensorType(F32, (2,)), names[0])
    for name in names[1:]:
        op = graph.add(Relu(x))
        op.origin, op.result.name = (origin, *names), name
        x = op.result
    graph.outputs, graph.output_names = [x], [names[-1]]
    again = assert_round_trip(graph)
    assert again.ops[-1].origin == (origin, *names)
    assert again.output_names == [names[-1]]
    assert again.input_names == [names[0]]
    if len(set(names)) == len(names):
        assert [op.result.name for op in again.ops] == names[1:]


def test_nameless_values_stay_nameless():
    graph = parse('graph "g" (%x: f32[2]) -> (%0 "y") {\n  %0 = Relu(%x)\n}')
    assert graph.outputs[0].name == ""
    assert "%0 = Relu(%x) : f32[2]" in print_graph(graph)


class Holder(Operator):
    """Takes anything as an attribute."""

    x: Value | None = None
    rest: tuple[Value, ...] = ()
    last: Value | None = None
    anything: object = None
    body: Graph = Graph("empty")

    def infer(self):
        return TensorType(F32, (2,)), TensorType(I64, ())


@pytest.fixture
def holder(monkeypatch):
    """The operator above, known for one test."""
    operators()
    monkeypatch.setitem(registry._OPERATORS, "Holder", Holder)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        [F32, BF16, symbol("n") * 2 + 1, channels_last(4, 8), TensorType(F16, (symbol("n"), 2))]
    )
)
ATTRIBUTES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


@given(value=ATTRIBUTES)
def test_attributes_keep_type_and_value(value):
    with pytest.MonkeyPatch.context() as patch:
        operators()
        patch.setitem(registry._OPERATORS, "Holder", Holder)
        graph = Graph()
        graph.add(Holder(anything=value))
        (again,) = assert_round_trip(graph).ops
    assert isinstance(again, Holder)
    assert same(again.anything, value)


def same(a, b):
    if isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() and type(a) is float
    return type(a) is type(b) and a == b


def test_regions_and_absent_operands_have_a_text_form(holder):
    graph = Graph("outer")
    x = graph.add_input(TensorType(F32, (2,)), "x")
    body = Graph("inner")
    y = body.add_input(TensorType(F32, (2,)), "x")
    body.outputs = [body.add(Add(x, y)).result, x]
    body.output_names = ["sum", ""]
    body.metadata = {"note": "}{"}
    op = graph.add(Holder(None, (x, x), None, anything=(1,), body=body))
    op.origin = ("a", 'b "c"')
    graph.add(Holder(None, (), x, body=body.clone({x: op.results[0]})))
    graph.outputs, graph.output_names = [op.results[0]], ["y"]
    again = assert_round_trip(graph)
    first, second = again.ops
    assert isinstance(first, Holder)
    assert isinstance(second, Holder)
    assert first.body.outputs[1] is again.inputs[0]
    assert second.last is again.inputs[0]
    assert first.rest == (again.inputs[0],) * 2
    assert first.origin == ("a", 'b "c"')
    check(again)


def test_defaults_are_left_out_and_layouts_kept():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (symbol("n"), 8)), "x")
    op = graph.add(Gemm(x, x, trans_b=1, alpha=1.0))
    op.result.type = op.result.type.with_layout(Layout(channels_last(2, 16).parts))
    graph.outputs, graph.output_names = [op.result], ["y"]
    text = print_graph(graph)
    assert "Gemm(%x, %x) {trans_b=1} : f32[n,n @ 0 1^16]" in text
    assert_round_trip(graph)


def test_metadata_is_kept():
    graph = Graph('a "graph"\n')
    graph.metadata = {"opset": {"": 13, "ai.onnx.ml": 3}, "doc": "naïve # }", "list": [1, None, 0.5]}
    assert assert_round_trip(graph).metadata == graph.metadata
    graph.metadata = {"bad": {1, 2}}
    with pytest.raises(GcompError, match="JSON"):
        print_graph(graph)


@pytest.mark.parametrize("count", [64, 65])
def test_large_constants_are_known_while_they_live(count):
    graph = holding(constant(np.arange(count)))
    text = print_graph(graph)
    assert ("@sha256:" in text) == (count > 64)
    assert parse(text) == graph
    digests = [word for word in text.replace("}", " ").split() if word.startswith("@sha256:")]
    del graph
    gc.collect()
    for digest in digests:
        assert known_array(digest.removeprefix("@sha256:")) is None
        with pytest.raises(ParseError, match=r"line 2, .*neither"):
            parse(text)


def test_a_printed_constant_cannot_change_unnoticed():
    array = np.zeros(100, np.float32)
    graph = holding(constant(array))
    print_graph(graph)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_equality_is_by_bits():
    zeros, minus, other = np.zeros(100, np.float32), -np.zeros(100, np.float32), np.zeros(100, np.int32)
    assert holding(constant(zeros)) == holding(constant(zeros.copy()))
    assert holding(constant(zeros)) != holding(constant(minus))
    assert holding(constant(zeros)) != holding(constant(other))


def big_graph() -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("net")
    x = graph.add_input(TensorType(F32, (symbol("n"), 20)), "x")
    hidden = graph.add(Relu(MatMul(x, constant(rng.standard_normal((20, 30), np.float32))).result))
    turned = graph.add(Transpose(hidden.result, perm=(1, 0)))
    strings = graph.add(Constant(np.array([f"label {i}\0" for i in range(70)], object)))
    halves = graph.add(Constant(rng.standard_normal(80).astype(BF16.numpy)))
    graph.outputs = [turned.result, strings.result, halves.result]
    graph.output_names = ["y", "labels", "halves"]
    return graph


def test_saved_text_is_the_same_graph_in_a_fresh_process(tmp_path):
    graph = big_graph()
    save_text(graph, tmp_path / "net.gc")
    script = (
        "import sys; from gcomp.text import load_text, save_text; "
        "graph = load_text(sys.argv[1]); save_text(graph, sys.argv[2]); print(graph, end='')"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "net.gc"), str(tmp_path / "again.gc")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == print_graph(graph)
    assert load_text(tmp_path / "again.gc") == graph
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.gc",
        "again.gc.npz",
        "net.gc",
        "net.gc.npz",
    ]


def test_damaged_constants_are_noticed(tmp_path):
    save_text(big_graph(), tmp_path / "net.gc")
    with np.load(tmp_path / "net.gc.npz") as stored:
        held = {name: stored[name].copy() for name in stored.files}
    next(iter(held.values()))[3] ^= 1
    np.savez(tmp_path / "net.gc.npz", **held)
    with pytest.raises(ParseError, match="damaged"):
        load_text(tmp_path / "net.gc")
    (tmp_path / "net.gc.npz").write_bytes(b"PK")
    with pytest.raises(ParseError, match="cannot be read"):
        load_text(tmp_path / "net.gc")
    with pytest.raises(ParseError, match="cannot be read"):
        load_text(tmp_path / "none.gc")


def test_comments_and_missing_types_are_fine_when_written_by_hand():
    graph = parse('# a graph\ngraph "g" (%x: f32[2]) -> (%y "out") { # begin\n  %y = Relu(%x) # no type\n}\n')
    assert graph.outputs[0].type == TensorType(F32, (2,))


def test_one_operator_prints_on_one_line(holder):
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2,)), "x")
    relu = graph.add(Relu(x))
    relu.origin = ("n1",)
    assert format_op(relu) == '%0 = Relu(%x) : f32[2] from "n1"'
    assert format_op(Relu(relu.result)) == "%0 = Relu(%1) : f32[2]"
    body = Graph("b")
    assert "\n" not in format_op(Holder(body=body))
    assert "body=..." in format_op(Holder(body=body))
    assert "Holder" in format_op(Holder(anything=object()))


def test_an_attribute_without_text_form_is_refused(holder):
    graph = Graph()
    graph.add(Holder(anything=object()))
    with pytest.raises(GcompError, match="type object has no text form"):
        print_graph(graph)


def test_a_constant_is_found_whichever_of_its_equals_dies():
    first, second = (np.arange(100.0, dtype=np.float32) for _ in range(2))
    graph = Graph()
    graph.outputs = [graph.add(Constant(second)).result]
    graph.output_names = ["y"]
    other = Graph()
    other.outputs, other.output_names = [other.add(Constant(first)).result], ["y"]
    assert print_graph(other) == (text := print_graph(graph))
    del other, first
    gc.collect()
    assert parse(text) == graph
