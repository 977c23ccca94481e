"""Threads that wait for each other, as fibres: each has a stack of its own, and hands over at a barrier.

They are contexts of the C library, entered once by `setcontext` and from then on by `longjmp`, which asks
nothing of the kernel. All of it is LLVM text, so that no C compiler is needed. Every round begins with
another thread, so that what only works in the order of the threads' numbers fails.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cache

import numpy as np

MOST = 1024
"""Threads of a block."""
CONTEXT, STACK = 2048, 1 << 16
"""Bytes for a `ucontext_t` or a `jmp_buf`, and of a stack."""

BARRIER = "call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"
WAIT = "call void @wait()"

RUN = f"""
@block = internal global i32 0
@lane = internal global i32 0
@given = internal global ptr null
@library = internal global ptr null
@known = internal global [{MOST} x i8] zeroinitializer
@ended = internal global [{MOST} x i8] zeroinitializer
define internal ptr @part(i32 %n) {{
  %l = load ptr, ptr @library
  %s = getelementptr ptr, ptr %l, i32 %n
  %p = load ptr, ptr %s
  ret ptr %p
}}
define internal ptr @context(i32 %n) {{
  %c = call ptr @part(i32 4)
  %b = mul i32 %n, {CONTEXT}
  %p = getelementptr i8, ptr %c, i32 %b
  ret ptr %p
}}
define internal void @jump(i32 %n) {{
  %go = call ptr @part(i32 3)
  %c = call ptr @context(i32 %n)
  call void %go(ptr %c, i32 1)
  unreachable
}}
define internal void @wait() noinline {{
  %l = load volatile i32, ptr @lane
  %set = call ptr @part(i32 2)
  %here = call ptr @context(i32 %l)
  %r = call i32 %set(ptr %here) returns_twice
  %first = icmp eq i32 %r, 0
  br i1 %first, label %leave, label %back
leave:
  call void @jump(i32 {MOST})
  unreachable
back:
  ret void
}}
define internal void @fibre() noinline {{
  br label %kernel
kernel:
  %arguments = load volatile ptr, ptr @given
LOADS
  call void @KERNEL(PASSED)
  %l = load volatile i32, ptr @lane
  %e = getelementptr i8, ptr @ended, i32 %l
  store volatile i8 1, ptr %e
  call void @wait()
  br label %kernel
}}
define internal void @enter(i32 %n) noinline {{
  %set = call ptr @part(i32 2)
  %here = call ptr @context(i32 {MOST})
  %r = call i32 %set(ptr %here) returns_twice
  %first = icmp eq i32 %r, 0
  br i1 %first, label %leave, label %back
leave:
  %k = getelementptr i8, ptr @known, i32 %n
  %is = load volatile i8, ptr %k
  %new = icmp eq i8 %is, 0
  br i1 %new, label %make, label %again
make:
  store volatile i8 1, ptr %k
  %create = call ptr @part(i32 0)
  %start = call ptr @part(i32 1)
  %from = call ptr @part(i32 6)
  %c = call ptr @part(i32 7)
  %g = call i32 %from(ptr %c)
  %stacks = call ptr @part(i32 5)
  %o = mul i32 %n, {STACK}
  %s = getelementptr i8, ptr %stacks, i32 %o
  %sp = getelementptr i8, ptr %c, i32 16
  store ptr %s, ptr %sp
  %size = getelementptr i8, ptr %c, i32 32
  store i64 {STACK}, ptr %size
  call void (ptr, ptr, i32, ...) %create(ptr %c, ptr @fibre, i32 0)
  %x = call i32 %start(ptr %c)
  unreachable
again:
  call void @jump(i32 %n)
  unreachable
back:
  ret void
}}
define i32 @run(ptr %arguments, i32 %blocks, i32 %threads, ptr %library) {{
entry:
  store ptr %library, ptr @library
  store volatile ptr %arguments, ptr @given
  call void @llvm.memset.p0.i64(ptr @known, i8 0, i64 {MOST}, i1 false)
  br label %outer
outer:
  %b = phi i32 [ 0, %entry ], [ %b1, %block.end ]
  store volatile i32 %b, ptr @block
  br label %round
round:
  %number = phi i32 [ 0, %outer ], [ %number1, %round.end ]
  call void @llvm.memset.p0.i64(ptr @ended, i8 0, i64 {MOST}, i1 false)
  br label %inner
inner:
  %u = phi i32 [ 0, %round ], [ %u1, %inner ]
  %count = phi i32 [ 0, %round ], [ %count1, %inner ]
  %shift = mul i32 %number, 97
  %v = add i32 %u, %shift
  %t = urem i32 %v, %threads
  store volatile i32 %t, ptr @lane
  call void @enter(i32 %t)
  %e = getelementptr i8, ptr @ended, i32 %t
  %is = load volatile i8, ptr %e
  %one = zext i8 %is to i32
  %count1 = add i32 %count, %one
  %u1 = add i32 %u, 1
  %more = icmp ult i32 %u1, %threads
  br i1 %more, label %inner, label %round.end
round.end:
  %number1 = add i32 %number, 1
  %none = icmp eq i32 %count1, 0
  br i1 %none, label %round, label %judge
judge:
  %all = icmp eq i32 %count1, %threads
  br i1 %all, label %block.end, label %apart
apart:
  ret i32 1
block.end:
  %b1 = add i32 %b, 1
  %further = icmp ult i32 %b1, %blocks
  br i1 %further, label %outer, label %end
end:
  ret i32 0
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""
"""`run(arguments, blocks, threads, library)`: 1 if some threads of a block end where others wait, else 0."""


@dataclass(frozen=True)
class Library:
    """What `run` needs, as an array of addresses: the C library's functions, contexts, stacks."""

    memory: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])

    def addresses(self) -> list[int]:
        functions = ctypes.CDLL(None)
        names = ("makecontext", "setcontext", "_setjmp", "longjmp", "getcontext")
        create, start, mark, jump, current = (
            ctypes.cast(getattr(functions, name), ctypes.c_void_p).value or 0 for name in names
        )
        contexts, stacks, spare = (self._room((MOST + 1) * size) for size in (CONTEXT, STACK, 8))
        return [create, start, mark, jump, contexts, stacks, current, spare]

    def _room(self, size: int) -> int:
        array = np.zeros(size + 64, np.uint8)
        address = -(-array.ctypes.data // 64) * 64
        self.memory[address] = array
        return address


@cache
def library() -> tuple[Library, ctypes.Array[ctypes.c_void_p]]:
    """The one of this process, and its addresses."""
    kept = Library()
    addresses = kept.addresses()
    return kept, (ctypes.c_void_p * len(addresses))(*addresses)
