"""`python -m bench sparse`: layers with zeros against the dense kernels, and whether the choice was right."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass, replace
from typing import cast, get_args

import click
import numpy as np

from gcomp import registry
from gcomp.backends.llvm.cpu import Cpu, host
from gcomp.backends.llvm.peak import peak
from gcomp.cli.report import table
from gcomp.ir import Graph
from gcomp.op import Constant, Operator, Storage, argument
from gcomp.ops.convolution import Conv
from gcomp.ops.linear import MatMul
from gcomp.pipeline import run_pipeline
from gcomp.types import F32, Array, TensorType, channels_last
from gcomp.weights import matrices

from .kernels import CLOSE
from .single import empty, in_memory, logical, problem_for, single

BLOCKS: dict[Storage, int] = {"unstructured": 1, "4x1": 4}
ALLOWED = 1.03
"""Of the dense kernel's time, what the form that is chosen may take."""
HEADER = ("layer", "structure", "zeros", "dense us", "sparse us", "times faster", "chosen", "")
IMAGES = channels_last(4, 16)


@dataclass(frozen=True)
class Layer:
    """A product (rows, outputs, inputs), or a convolution (inputs, size, outputs, kernel, stride)."""

    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        if len(self.sizes) == 3:
            return "x".join(map(str, self.sizes))
        inputs, size, outputs, kernel, stride = self.sizes
        return f"{kernel}x{kernel}{f' s{stride}' if stride > 1 else ''} {inputs}->{outputs} @{size}"

    def operator(self, structure: Storage, zeros: float) -> Operator:
        """The operator, its weights pruned at random to that share of zeros, in that structure."""
        rng = np.random.default_rng(0)
        if len(self.sizes) == 3:
            rows, outputs, inputs = self.sizes
            x, shape = argument(TensorType(F32, (rows, inputs))), (inputs, outputs)
        else:
            inputs, size, outputs, kernel, _ = self.sizes
            x, shape = argument(TensorType(F32, (1, inputs, size, size))), (outputs, inputs, kernel, kernel)
        weights = Constant(rng.standard_normal(shape, np.float32))
        if len(self.sizes) == 3:
            op: Operator = MatMul(x, weights.result)
        else:
            pads, strides = (self.sizes[3] // 2,) * 4, (self.sizes[4],) * 2
            op = Conv(x, weights.result, strides=strides, pads=pads)
        (view,) = matrices(op, weights.value)
        block = BLOCKS[structure]
        for output in range(0, view.shape[0], block):
            view[output : output + block, rng.random(view.shape[1:]) < zeros] = 0
        return op


LAYERS = [
    Layer((128, 768, 768)),
    Layer((1, 1000, 2048)),
    Layer((64, 56, 64, 1, 1)),
    Layer((64, 56, 256, 1, 1)),
    Layer((256, 56, 64, 1, 1)),
    Layer((128, 28, 512, 1, 1)),
    Layer((1024, 14, 256, 1, 1)),
    Layer((512, 7, 2048, 1, 1)),
    Layer((256, 56, 512, 1, 2)),
    Layer((64, 56, 64, 3, 1)),
    Layer((128, 28, 128, 3, 1)),
    Layer((256, 14, 256, 3, 1)),
    Layer((512, 7, 512, 3, 1)),
    Layer((128, 56, 128, 3, 2)),
]


def chosen(op: Operator, cpu: Cpu) -> Storage:
    """What the pass stores the weights of `op` as."""
    graph = Graph()
    values = {value: graph.add_input(value.type) for value in op.inputs[:1]}
    weights = cast(Constant, op.inputs[1].owner)
    copy = graph.add(Constant(weights.value))
    graph.outputs = [graph.add(op.clone({**values, op.inputs[1]: copy.result})).result]
    graph.output_names = ["y"]
    facts = {"lanes": cpu.lanes(F32), "registers": cpu.vector_registers, "units": cpu.fma_units}
    run_pipeline(graph, [replace(registry.find("passes", "sparsify"), **facts)])
    return next(op.storage for op in graph.ops if isinstance(op, Constant))


def example(op: Operator) -> tuple[list[Array], Array]:
    """An input and the weights, and the result that f64 gives."""
    x = np.random.default_rng(1).standard_normal(op.inputs[0].type.static_shape, np.float32)
    arrays: list[Array] = [x, cast(Constant, op.inputs[1].owner).value]
    absent = [None for value in op.operands if value is None]
    return arrays, np.asarray(op.reference(*(array.astype(np.float64) for array in arrays), *absent))


def seconds(
    op: Operator, storage: Storage, arrays: list[Array], expected: Array, cpu: Cpu, runs: int
) -> float:
    """The median time of the kernel for that storage. Raises `ArithmeticError` for a wrong result."""
    weights = arrays[1]
    op = op.clone({op.inputs[1]: Constant(weights, storage).result})
    layout = IMAGES if isinstance(op, Conv) else None
    problem = problem_for(op, cpu, {1: weights}, {0: layout} if layout else {}, layout)
    kernel = single(problem)
    if kernel is None:
        raise LookupError(f"{op.kind}: no template takes it")
    views = [view for view in problem.operands if view is not None]
    out = empty(problem.results[0].type)
    call = kernel.load()([*(in_memory(a, v.type) for a, v in zip(arrays, views, strict=True)), out])
    call()
    error = np.abs(logical(out, problem.results[0].type) - expected).max() / np.abs(expected).max()
    if not error <= CLOSE:
        raise ArithmeticError(f"{op.kind} {storage}: off by {error:.2g} of the largest, {CLOSE} is allowed")
    overhead, times = peak(cpu).overhead(), list[float]()
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start - overhead)
    return statistics.median(times)


@click.command()
@click.option("--filter", "wanted", default="", help="Only layers whose name holds this text.")
@click.option("--zeros", default="0.5,0.8,0.9", show_default=True, help="Shares of zeros.")
@click.option("--structure", "only", type=click.Choice(get_args(Storage)[1:]), help="Only this structure.")
@click.option("--runs", default=20, show_default=True, help="Timed calls of each kernel.")
def main(wanted: str, zeros: str, only: Storage | None, runs: int) -> None:
    """Time layers with zeros dense and stored as their structure, weights in the caches.

    Exit status 1 if a form is chosen that takes more than 1.03 of the dense kernel's time.
    """
    cpu, slow, rows = host(), 0, list[tuple[str, ...]]()
    structures = BLOCKS if only is None else (only,)
    shares = [float(share) for share in zeros.split(",")]
    for layer, structure, share in itertools.product(LAYERS, structures, shares):
        if wanted not in layer.name:
            continue
        op = layer.operator(structure, share)
        given = example(op)
        dense, sparse = (seconds(op, form, *given, cpu, runs) for form in ("dense", structure))
        form = chosen(op, cpu)
        is_slow = form != "dense" and sparse > ALLOWED * dense
        slow += is_slow
        times = (f"{dense * 1e6:.0f}", f"{sparse * 1e6:.0f}", f"{dense / sparse:.2f}")
        rows.append((layer.name, structure, f"{share:.0%}", *times, form, "too slow" if is_slow else ""))
    for line in table(HEADER, rows):
        click.echo(line)
    if slow:
        raise SystemExit(1)
