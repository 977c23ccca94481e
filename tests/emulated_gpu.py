"""The CUDA driver with this processor in place of a GPU: kernels run as their own text, thread by thread.

Kernels whose threads wait for each other run as fibres. What is left out is what one thread at a time cannot
show: races within the time from one barrier to the next, and time.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from ctypes import c_uint64, c_void_p
from typing import Any

import numpy as np

from gcomp.backends.llvm.cpu import host
from gcomp.backends.llvm.cuda.build import Program
from gcomp.backends.llvm.cuda.driver import SIGNATURES, Driver
from gcomp.backends.llvm.cuda.module import CudaModule, compile_graph
from gcomp.backends.llvm.jit import emit_object, load_objects
from gcomp.ir import Graph
from gcomp.native import aligned
from tests.fibres import BARRIER, RUN, WAIT, library

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_FOUND = 0, 1, 2, 500

GRID = """
@block = internal global i32 0
@lane = internal global i32 0
define i32 @run(ptr %arguments, i32 %blocks, i32 %threads, ptr %library) {
entry:
LOADS
  br label %outer
outer:
  %b = phi i32 [ 0, %entry ], [ %b1, %outer.end ]
  store i32 %b, ptr @block
  br label %inner
inner:
  %t = phi i32 [ 0, %outer ], [ %t1, %inner ]
  store i32 %t, ptr @lane
  call void @KERNEL(PASSED)
  %t1 = add i32 %t, 1
  %more = icmp ult i32 %t1, %threads
  br i1 %more, label %inner, label %outer.end
outer.end:
  %b1 = add i32 %b, 1
  %again = icmp ult i32 %b1, %blocks
  br i1 %again, label %outer, label %end
end:
  ret i32 0
}
"""


def on_this_processor(text: str, symbol: str) -> str:
    """A kernel's module with `run(arguments, blocks, threads, library)`, which runs it in each thread."""
    frame = RUN if BARRIER in text else GRID
    text = text.replace(BARRIER, WAIT)
    text = text.replace("define ptx_kernel void", "define internal void")
    text = re.sub(
        r"^attributes #0 = .*$", 'attributes #0 = { nounwind "no-builtins" }', text, flags=re.MULTILINE
    )
    text = re.sub(r"^declare .*llvm\.nvvm.*\n", "", text, flags=re.MULTILINE)
    for register, variable in (("ctaid", "block"), ("tid", "lane")):
        text = text.replace(f"call i32 @llvm.nvvm.read.ptx.sreg.{register}.x()", f"load i32, ptr @{variable}")
    text = re.sub(r"addrspacecast \(ptr addrspace\(3\) (@\w+) to ptr\)", r"\1", text)
    text = text.replace("internal addrspace(3) global", "internal global")
    (parameters,) = re.findall(rf"@{symbol}\((.*?)\) #0", text)
    count = parameters.count("ptr")
    loads = "\n".join(
        f"  %s{n} = getelementptr ptr, ptr %arguments, i64 {n}\n  %a{n} = load ptr, ptr %s{n}"
        for n in range(count)
    )
    passed = ", ".join(f"ptr %a{n}" for n in range(count))
    return text + frame.replace("LOADS", loads).replace("PASSED", passed).replace("KERNEL", symbol)


class EmulatedLibrary:
    """`libcuda` for one program: as C functions, so that what is passed is converted as for the real one."""

    def __init__(self, capability: tuple[int, int] = (9, 0), gpus: int = 1, memory: int = 1 << 30) -> None:
        self.capability, self.gpus, self.largest = capability, gpus, memory
        self.programs: dict[bytes, Program] = {}
        self.memory: dict[int, Any] = {}
        self.depth = 0
        self.launched: list[str] = []
        self._handles: list[Any] = [None]
        for name, parameters in SIGNATURES.items():
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, *parameters)
            setattr(self, name, prototype(self._inside(name, getattr(self, f"_{name}"))))

    def _inside(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        needs_context = name.startswith(("cuModule", "cuMem", "cuLaunch"))

        def called(*arguments: Any) -> int:
            return INVALID_VALUE if needs_context and not self.depth else function(*arguments)

        return called

    def _handle(self, thing: Any) -> int:
        self._handles.append(thing)
        return len(self._handles) - 1

    def _cuInit(self, flags: int) -> int:
        return SUCCESS if flags == 0 else INVALID_VALUE

    def _cuGetErrorName(self, code: int, text: Any) -> int:
        names = {1: b"CUDA_ERROR_INVALID_VALUE", 2: b"CUDA_ERROR_OUT_OF_MEMORY", 500: b"CUDA_ERROR_NOT_FOUND"}
        text[0] = names[code]
        return SUCCESS

    def _cuGetErrorString(self, code: int, text: Any) -> int:
        return INVALID_VALUE

    def _cuDeviceGetCount(self, count: Any) -> int:
        count[0] = self.gpus
        return SUCCESS

    def _cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device[0] = 17
        return SUCCESS if ordinal < self.gpus else INVALID_VALUE

    def _cuDeviceGetName(self, name: int, size: int, device: int) -> int:
        ctypes.memmove(name, b"this processor\0", min(size, 15))
        return SUCCESS if device == 17 else INVALID_VALUE

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value[0] = self.capability[(75, 76).index(attribute)]
        return SUCCESS if device == 17 else INVALID_VALUE

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        context[0] = 23
        return SUCCESS if device == 17 else INVALID_VALUE

    def _cuCtxPushCurrent_v2(self, context: int) -> int:
        self.depth += 1
        return SUCCESS if context == 23 else INVALID_VALUE

    def _cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.depth -= 1
        return SUCCESS

    def _cuCtxSynchronize(self) -> int:
        return SUCCESS if self.depth else INVALID_VALUE

    def _cuModuleLoadDataEx(self, module: Any, image: bytes, count: int, options: Any, values: Any) -> int:
        if image not in self.programs:
            assert [options[place] for place in range(count)] == [5, 6]
            ctypes.memmove(values[0], b"ptxas fatal: no such program\0", 29)
            return INVALID_VALUE
        module[0] = self._handle(self.programs[image])
        return SUCCESS

    def _cuModuleGetFunction(self, function: Any, module: int, name: bytes) -> int:
        texts = self._handles[module].texts
        if name.decode() not in texts:
            return NOT_FOUND
        text = on_this_processor(texts[name.decode()], name.decode())
        loaded = load_objects([emit_object(text, host(), True)], ["run"])
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, ctypes.c_uint, ctypes.c_uint, c_void_p)
        run = prototype(loaded.addresses["run"])
        function[0] = self._handle((name.decode(), run, loaded))
        return SUCCESS

    def _cuModuleUnload(self, module: int) -> int:
        self._handles[module] = None
        return SUCCESS

    def _cuMemAlloc_v2(self, address: Any, size: int) -> int:
        if size > self.largest:
            return OUT_OF_MEMORY
        memory = aligned(size)
        memory[:] = 0xCD  # nothing may depend on what is there
        address[0] = memory.ctypes.data
        self.memory[memory.ctypes.data] = memory
        return SUCCESS

    def _cuMemFree_v2(self, address: int) -> int:
        return SUCCESS if self.memory.pop(address, None) is not None else INVALID_VALUE

    def _cuMemcpyHtoD_v2(self, target: int, source: int, size: int) -> int:
        ctypes.memmove(target, source, size)
        return SUCCESS

    def _cuMemcpyDtoH_v2(self, target: int, source: int, size: int) -> int:
        ctypes.memmove(target, source, size)
        return SUCCESS

    def _cuMemsetD8_v2(self, target: int, value: int, size: int) -> int:
        ctypes.memset(target, value, size)
        return SUCCESS

    def _cuLaunchKernel(self, function: int, *rest: Any) -> int:
        name, run, _ = self._handles[function]
        (blocks, *others), threads, parameters = rest[:6], rest[3], rest[8]
        assert (others[0], others[1], others[3], others[4], rest[6]) == (1, 1, 1, 1, 0)
        assert 0 < blocks < 1 << 31 and 0 < threads <= 1024
        text = next(p.texts[name] for p in self.programs.values() if name in p.texts)
        (declared,) = re.findall(rf"@{name}\((.*?)\) #0", text)
        places = range(declared.count("ptr"))
        values = np.array([c_uint64.from_address(parameters[place]).value for place in places], np.uint64)
        self.launched.append(name)
        return run(values.ctypes.data, blocks, threads, ctypes.addressof(library()[1]))


def emulated(graph: Graph, arch: str, gpu: EmulatedLibrary, templates: bool = True) -> CudaModule:
    """The graph compiled for a GPU, to run on this library's."""
    module = compile_graph(graph, arch, graph.name, lambda: Driver(gpu), templates)
    gpu.programs[module.program.ptx.encode()] = module.program
    return module
