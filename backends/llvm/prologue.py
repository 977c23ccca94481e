"""LLVM text of an artefact's entry points: what they check, and the hidden function that they then call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import Literal


def template(weights: Literal["embedded", "external", "none"], arena: bool) -> Template:
    """The entry points, for weights from inside or only from the context, with or without an arena."""
    return Template("".join((_TENSORS, _WEIGHTS[weights], _ARENA if arena else _NO_ARENA, _ENTRIES)))


def static(name: str, arena_bytes: int) -> dict[str, str]:
    """What the template says of an artefact whose sizes are all numbers."""
    empty = dict.fromkeys(("entry_types", "declarations", "slots", "measure", "entry_sizes", "needed"), "")
    specs = {f"{side}_spec": f"@{name}_{side}_spec" for side in ("in", "out")}
    return {**empty, **specs, "arena_bytes": str(arena_bytes)}


def sized(name: str, symbols: Sequence[str], slots: Mapping[str, int]) -> dict[str, str]:
    """What it says of one with symbolic sizes, which `NAME_measure` reads; `slots` are arrays of i64."""
    types = ", ".join(["i64"] * len(symbols))
    values = ", ".join(f"i64 %size.{symbol}" for symbol in symbols)
    loads = "".join(
        f"\n  %at.{symbol} = getelementptr i64, ptr %symbols, i64 {place}"
        f"\n  %size.{symbol} = load i64, ptr %at.{symbol}"
        for place, symbol in enumerate(symbols)
    )
    return {
        "entry_types": f", {types}",
        "declarations": f"\ndeclare hidden i64 @{name}_arena_bytes({types}) nounwind",
        "slots": "".join(f"\n  %{slot} = alloca [{max(count, 1)} x i64]" for slot, count in slots.items()),
        "measure": _MEASURE.substitute(name=name, loads=loads, values=values),
        "in_spec": "%in.spec",
        "out_spec": "%out.spec",
        "entry_sizes": f", {values}",
        "needed": f"\n  %needed = call i64 @{name}_arena_bytes({values})",
        "arena_bytes": "%needed",
    }


_MEASURE = Template("""
  %found = call i32 @${name}_measure(ptr %in, ptr %symbols)
  %known = icmp eq i32 %found, 0
  br i1 %known, label %measured, label %unknown
unknown:
  ret i32 %found
measured:$loads
  call void @${name}_specify(ptr %in.spec, ptr %out.spec, $values)""")

_TENSORS = """
; Whether the tensors have the dtype, rank and sizes that %spec lists, and memory, where that is asked.
define internal i1 @${name}_fits(ptr %tensors, ptr %spec, i64 %count, i1 %memory) #0 {
entry:
  %some = icmp ne i64 %count, 0
  %nothing = icmp eq ptr %tensors, null
  %lost = and i1 %some, %nothing
  br i1 %lost, label %bad, label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %sizes ]
  %at = phi ptr [ %spec, %entry ], [ %at.next, %sizes ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %tensor, label %good
tensor:
  %i.next = add i64 %i, 1
  %data.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 0
  %dtype.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 1
  %rank.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 2
  %shape.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 3
  %data = load ptr, ptr %data.at
  %dtype.32 = load i32, ptr %dtype.at
  %rank.32 = load i32, ptr %rank.at
  %shape = load ptr, ptr %shape.at
  %dtype = sext i32 %dtype.32 to i64
  %rank = sext i32 %rank.32 to i64
  %want.rank.at = getelementptr i64, ptr %at, i64 1
  %want.bytes.at = getelementptr i64, ptr %at, i64 2
  %want.sizes = getelementptr i64, ptr %at, i64 3
  %want.dtype = load i64, ptr %at
  %want.rank = load i64, ptr %want.rank.at
  %want.bytes = load i64, ptr %want.bytes.at
  %same.dtype = icmp eq i64 %dtype, %want.dtype
  %same.rank = icmp eq i64 %rank, %want.rank
  %same = and i1 %same.dtype, %same.rank
  %no.data = icmp eq ptr %data, null
  %needed = icmp ne i64 %want.bytes, 0
  %needed.now = and i1 %needed, %memory
  %no.memory = and i1 %no.data, %needed.now
  %scalar = icmp eq i64 %want.rank, 0
  %has.shape = icmp ne ptr %shape, null
  %measured = or i1 %scalar, %has.shape
  %has.memory = xor i1 %no.memory, true
  %plain = and i1 %same, %measured
  %fine = and i1 %plain, %has.memory
  br i1 %fine, label %sizes, label %bad
sizes:
  %axis = phi i64 [ 0, %tensor ], [ %axis.next, %equal ]
  %at.next = getelementptr i64, ptr %want.sizes, i64 %axis
  %inside = icmp ult i64 %axis, %want.rank
  br i1 %inside, label %size, label %next
size:
  %size.at = getelementptr i64, ptr %shape, i64 %axis
  %given = load i64, ptr %size.at
  %wanted = load i64, ptr %at.next
  %equals = icmp eq i64 %given, %wanted
  br i1 %equals, label %equal, label %bad
equal:
  %axis.next = add i64 %axis, 1
  br label %sizes
good:
  ret i1 true
bad:
  ret i1 false
}

; Writes dtype, rank and, where there is room, the sizes that %spec lists.
define internal void @${name}_fill(ptr %tensors, ptr %spec, i64 %count) #0 {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %sizes ]
  %at = phi ptr [ %spec, %entry ], [ %at.next, %sizes ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %tensor, label %done
tensor:
  %i.next = add i64 %i, 1
  %dtype.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 1
  %rank.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 2
  %shape.at = getelementptr $tensor, ptr %tensors, i64 %i, i32 3
  %shape = load ptr, ptr %shape.at
  %room = icmp ne ptr %shape, null
  %want.rank.at = getelementptr i64, ptr %at, i64 1
  %want.sizes = getelementptr i64, ptr %at, i64 3
  %dtype = load i64, ptr %at
  %rank = load i64, ptr %want.rank.at
  %dtype.32 = trunc i64 %dtype to i32
  %rank.32 = trunc i64 %rank to i32
  store i32 %dtype.32, ptr %dtype.at
  store i32 %rank.32, ptr %rank.at
  br label %sizes
sizes:
  %axis = phi i64 [ 0, %tensor ], [ %axis.next, %counted ]
  %at.next = getelementptr i64, ptr %want.sizes, i64 %axis
  %inside = icmp ult i64 %axis, %rank
  br i1 %inside, label %size, label %next
size:
  br i1 %room, label %write, label %counted
write:
  %size.at = getelementptr i64, ptr %shape, i64 %axis
  %size.value = load i64, ptr %at.next
  store i64 %size.value, ptr %size.at
  br label %counted
counted:
  %axis.next = add i64 %axis, 1
  br label %sizes
done:
  ret void
}
"""

# The distance is a whole word and read at run time, so weights may lie further away than code can address.
_WEIGHTS = {
    "embedded": """
@${name}_weights = external hidden constant i8, align 64
@${name}_weights_distance = internal constant $word sub (
  $word ptrtoint (ptr @${name}_weights to $word), $word ptrtoint (ptr @${name}_weights_distance to $word))

define internal ptr @${name}_own_weights() #0 {
  %distance = load volatile $word, ptr @${name}_weights_distance
  %weights = getelementptr i8, ptr @${name}_weights_distance, $word %distance
  ret ptr %weights
}

define internal i1 @${name}_weights_ok(ptr %weights) #0 {
  %address = ptrtoint ptr %weights to $word
  %odd = and $word %address, $misaligned
  %ok = icmp eq $word %odd, 0
  ret i1 %ok
}
""",
    "external": """
define internal ptr @${name}_own_weights() #0 {
  ret ptr null
}

define internal i1 @${name}_weights_ok(ptr %weights) #0 {
  %address = ptrtoint ptr %weights to $word
  %odd = and $word %address, $misaligned
  %even = icmp eq $word %odd, 0
  %given = icmp ne ptr %weights, null
  %ok = and i1 %even, %given
  ret i1 %ok
}
""",
    "none": """
define internal ptr @${name}_own_weights() #0 {
  ret ptr null
}

define internal i1 @${name}_weights_ok(ptr %weights) #0 {
  ret i1 true
}
""",
}

_NO_ARENA = """
define internal i1 @${name}_arena_ok(ptr %arena) #0 {
  ret i1 true
}
"""

_ARENA = """
define internal i1 @${name}_arena_ok(ptr %arena) #0 {
  %address = ptrtoint ptr %arena to $word
  %odd = and $word %address, $misaligned
  %even = icmp eq $word %odd, 0
  %given = icmp ne ptr %arena, null
  %ok = and i1 %even, %given
  ret i1 %ok
}
"""

_ENTRIES = """
declare hidden i32 @${name}_entry(ptr, ptr, ptr, ptr$entry_types) nounwind$declarations

define i32 @${name}_init(ptr %context) #0 {
entry:
  %lost = icmp eq ptr %context, null
  br i1 %lost, label %no.context, label %fill
no.context:
  ret i32 $error_abi
fill:
  store $context zeroinitializer, ptr %context
  %abi.at = getelementptr $context, ptr %context, i32 0, i32 0
  %cpu.at = getelementptr $context, ptr %context, i32 0, i32 1
  %weights.at = getelementptr $context, ptr %context, i32 0, i32 2
  %weights = call ptr @${name}_own_weights()
  store i32 $abi, ptr %abi.at
  store ptr %weights, ptr %weights.at
  %ok = call i1 @${name}_cpu_ok()
  br i1 %ok, label %good, label %lacking
good:
  store i32 $token, ptr %cpu.at
  ret i32 $error_ok
lacking:
  ret i32 $error_cpu
}

define i32 @${name}_run(ptr %context, ptr %in, ptr %out) #0 {
entry:$slots
  %lost = icmp eq ptr %context, null
  br i1 %lost, label %wrong.abi, label %version
version:
  %abi.at = getelementptr $context, ptr %context, i32 0, i32 0
  %abi = load i32, ptr %abi.at
  %same.abi = icmp eq i32 %abi, $abi
  br i1 %same.abi, label %processor, label %wrong.abi
processor:
  %cpu.at = getelementptr $context, ptr %context, i32 0, i32 1
  %cpu = load i32, ptr %cpu.at
  %checked = icmp eq i32 %cpu, $token
  br i1 %checked, label %memory, label %check
check:
  %cpu.ok = call i1 @${name}_cpu_ok()
  br i1 %cpu.ok, label %memory, label %wrong.cpu
memory:
  %arena.at = getelementptr $context, ptr %context, i32 0, i32 3
  %arena = load ptr, ptr %arena.at
  %arena.ok = call i1 @${name}_arena_ok(ptr %arena)
  br i1 %arena.ok, label %blob, label %wrong.arena
blob:
  %weights.at = getelementptr $context, ptr %context, i32 0, i32 2
  %given = load ptr, ptr %weights.at
  %absent = icmp eq ptr %given, null
  br i1 %absent, label %own, label %have
own:
  %inside = call ptr @${name}_own_weights()
  br label %have
have:
  %weights = phi ptr [ %given, %blob ], [ %inside, %own ]
  %weights.ok = call i1 @${name}_weights_ok(ptr %weights)
  br i1 %weights.ok, label %tensors, label %wrong.weights
tensors:$measure
  %in.ok = call i1 @${name}_fits(ptr %in, ptr $in_spec, i64 $inputs, i1 true)
  %out.ok = call i1 @${name}_fits(ptr %out, ptr $out_spec, i64 $outputs, i1 true)
  %fit = and i1 %in.ok, %out.ok
  br i1 %fit, label %go, label %misfit
go:
  %code = call i32 @${name}_entry(ptr %weights, ptr %arena, ptr %in, ptr %out$entry_sizes)
  ret i32 %code
wrong.abi:
  ret i32 $error_abi
wrong.cpu:
  ret i32 $error_cpu
misfit:
  ret i32 $error_input
wrong.arena:
  ret i32 $error_arena
wrong.weights:
  ret i32 $error_weights
}

define i32 @${name}_sizes(ptr %in, ptr %out, ptr %arena.bytes) #0 {
entry:$slots$measure
  %no.in = icmp eq ptr %in, null
  br i1 %no.in, label %sizes, label %check
check:
  %fit = call i1 @${name}_fits(ptr %in, ptr $in_spec, i64 $inputs, i1 false)
  br i1 %fit, label %sizes, label %misfit
sizes:
  %no.out = icmp eq ptr %out, null
  br i1 %no.out, label %arena, label %fill
fill:
  call void @${name}_fill(ptr %out, ptr $out_spec, i64 $outputs)
  br label %arena
arena:
  %no.arena = icmp eq ptr %arena.bytes, null
  br i1 %no.arena, label %done, label %tell
tell:$needed
  store i64 $arena_bytes, ptr %arena.bytes
  br label %done
done:
  ret i32 $error_ok
misfit:
  ret i32 $error_input
}

attributes #0 = { nounwind $baseline }
attributes #1 = { nounwind noinline "no-builtins" }
"""
