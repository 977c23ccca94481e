"""Text that is no graph: the error names line and column and underlines the place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcomp.diagnostics import ParseError
from gcomp.text import parse, print_graph

HEAD = 'graph "g" (%x: f32[2,3]) -> (%y "y") {\n'


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("", "line 1, column 1", "`graph` is expected"),
        ("digraph", "line 1, column 8", "begins with `graph`"),
        ('graph "g" (%x: f32[2,,3]) -> () {}', "line 1, column 16", "not a size"),
        ('graph "g" (%x: q8[2]) -> () {}', "line 1, column 16", "not a type"),
        ('graph "g" (%x: f32[], %x: f32[]) -> () {}', "line 1, column 23", "defined twice"),
        ('graph "g" () -> (%y "y") {}', "line 1, column 18", "%y is not defined"),
        ('graph "g" () -> () {} more', "line 1, column 23", "nothing may follow"),
        (HEAD + "  %y = Realu(%x)\n}", "line 2, column 8", "no operator is called Realu"),
        (HEAD + "  %y = Relu(%z)\n}", "line 2, column 13", "%z is not defined"),
        (HEAD + "  %y = Relu(%x) {slope=1}\n}", "line 2, column 18", "has no attribute slope"),
        (HEAD + "  %y = Relu(%x) : f32[2,4]\n}", "line 2, column 19", "gives f32[2,3], not f32[2,4]"),
        (HEAD + "  %y, %z = Relu(%x)\n}", "line 2, column 3", "has 1 results, 2 are named"),
        (HEAD + "  %x = Relu(%x)\n}", "line 2, column 3", "%x is defined twice"),
        (HEAD + "  %y = MatMul(%x, %x)\n}", "line 2, column 8", "a[-1] == b[-2]"),
        (HEAD + "  %y = MatMul(%x)\n}", "line 2, column 8", "needs b"),
        (HEAD + "  %y = Relu(%x, %x)\n}", "line 2, column 17", "')' is expected"),
        (HEAD + "  %y = Gemm(%x, %x) {trans_b=1, trans_b=1}\n}", "line 2, column 33", "given twice"),
        (HEAD + "  %y = Gemm(%x, %x) {trans_b=maybe}\n}", "line 2, column 30", "maybe is no value"),
        (HEAD + "  %y = Constant {value=f32[2] dense<1.0>}\n}", "line 2, column 24", "2 elements, not 1"),
        (HEAD + "  %y = Constant {value=i8[1] dense<300>}\n}", "line 2, column 36", "300 is no i8"),
        (HEAD + "  %y = Constant {value=bool[1] dense<1>}\n}", "line 2, column 38", "1 is no bool"),
        (HEAD + "  %y = Constant {value=f32[n] dense<1>}\n}", "line 2, column 24", "symbolic"),
        (HEAD + "  metadata [1]\n}", "line 2, column 12", "JSON object"),
        (HEAD + "  %y = Relu(%x) from n1\n}", "line 2, column 22", "a node's name"),
        (HEAD + "  %y = Relu(%x)\n", "line 3, column 1", "an operator is expected"),
    ],
)
def test_errors_name_line_and_column(text, place, complaint):
    with pytest.raises(ParseError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(place)
    assert complaint in message.splitlines()[0]
    line, caret = message.splitlines()[1:]
    assert caret.strip() == "^"
    assert len(caret) <= len(line) + 1


def test_the_place_of_an_error_is_underlined():
    with pytest.raises(ParseError) as caught:
        parse(HEAD + "  %y = Relu(%zebra)\n}")
    line, caret = str(caught.value).splitlines()[1:]
    assert line[caret.index("^") :].startswith("%zebra")
    with pytest.raises(ParseError) as caught:
        parse(HEAD + f"  %y = Constant {{value=f32[64] dense<{', '.join(['1.5'] * 63)}, oops>}}\n}}")
    line, caret = str(caught.value).splitlines()[1:]
    assert line[caret.index("^") :].startswith("oops")
    assert len(line) < 130


def test_nesting_without_end_is_an_error():
    with pytest.raises(ParseError, match="deep"):
        parse(HEAD + f"  %y = Gemm(%x, %x) {{alpha={'(' * 100000}")


@given(st.text(alphabet=' \n%"(){}:,<>=-@_x0.fgraph1', max_size=60), st.integers(0, 200))
def test_mangled_text_is_a_parse_error(noise, place):
    text = print_graph(parse(HEAD + '  %y = Gemm(%x, %x) {trans_b=1} from "n"\n}'))
    mangled = text[:place] + noise + text[place + len(noise) :]
    try:
        graph = parse(mangled)
    except ParseError:
        return
    assert print_graph(parse(print_graph(graph))) == print_graph(graph)
