"""LLVM text of memcpy, memmove and memset, which LLVM may call whatever the source says."""

from __future__ import annotations

from string import Template

# Hidden and weak: an artefact uses its own, a program around it never does.
_BODIES = Template("""\
define weak hidden ptr @memcpy(ptr %to, ptr %from, $size %count) #1 {
entry:
  br label %blocks
blocks:
  %at = phi $size [ 0, %entry ], [ %after, %block ]
  %after = add $size %at, 32
  %whole = icmp ule $size %after, %count
  br i1 %whole, label %block, label %bytes
block:
  %block.from = getelementptr i8, ptr %from, $size %at
  %block.to = getelementptr i8, ptr %to, $size %at
  %data = load <32 x i8>, ptr %block.from, align 1
  store <32 x i8> %data, ptr %block.to, align 1
  br label %blocks
bytes:
  %i = phi $size [ %at, %blocks ], [ %next, %byte ]
  %more = icmp ult $size %i, %count
  br i1 %more, label %byte, label %done
byte:
  %byte.from = getelementptr i8, ptr %from, $size %i
  %byte.to = getelementptr i8, ptr %to, $size %i
  %value = load i8, ptr %byte.from
  store i8 %value, ptr %byte.to
  %next = add $size %i, 1
  br label %bytes
done:
  ret ptr %to
}

define weak hidden ptr @memmove(ptr %to, ptr %from, $size %count) #1 {
entry:
  %a = ptrtoint ptr %to to $size
  %b = ptrtoint ptr %from to $size
  %ahead = sub $size %a, %b
  %upwards = icmp uge $size %ahead, %count
  br i1 %upwards, label %copy, label %blocks
copy: ; memcpy goes upwards and reads each block before it writes it
  %same = call ptr @memcpy(ptr %to, ptr %from, $size %count)
  ret ptr %to
blocks:
  %left = phi $size [ %count, %entry ], [ %below, %block ]
  %whole = icmp uge $size %left, 32
  br i1 %whole, label %block, label %bytes
block:
  %below = sub $size %left, 32
  %block.from = getelementptr i8, ptr %from, $size %below
  %block.to = getelementptr i8, ptr %to, $size %below
  %data = load <32 x i8>, ptr %block.from, align 1
  store <32 x i8> %data, ptr %block.to, align 1
  br label %blocks
bytes:
  %i = phi $size [ %left, %blocks ], [ %next, %byte ]
  %more = icmp ne $size %i, 0
  br i1 %more, label %byte, label %done
byte:
  %next = sub $size %i, 1
  %byte.from = getelementptr i8, ptr %from, $size %next
  %byte.to = getelementptr i8, ptr %to, $size %next
  %value = load i8, ptr %byte.from
  store i8 %value, ptr %byte.to
  br label %bytes
done:
  ret ptr %to
}

define weak hidden ptr @memset(ptr %to, i32 %value, $size %count) #1 {
entry:
  %byte = trunc i32 %value to i8
  %first = insertelement <32 x i8> poison, i8 %byte, i64 0
  %data = shufflevector <32 x i8> %first, <32 x i8> poison, <32 x i32> zeroinitializer
  br label %blocks
blocks:
  %at = phi $size [ 0, %entry ], [ %after, %block ]
  %after = add $size %at, 32
  %whole = icmp ule $size %after, %count
  br i1 %whole, label %block, label %bytes
block:
  %block.to = getelementptr i8, ptr %to, $size %at
  store <32 x i8> %data, ptr %block.to, align 1
  br label %blocks
bytes:
  %i = phi $size [ %at, %blocks ], [ %next, %one ]
  %more = icmp ult $size %i, %count
  br i1 %more, label %one, label %done
one:
  %one.to = getelementptr i8, ptr %to, $size %i
  store i8 %byte, ptr %one.to
  %next = add $size %i, 1
  br label %bytes
done:
  ret ptr %to
}
""")


def memory_text(pointer_bytes: int) -> str:
    """The three functions for a size of `pointer_bytes`, with the attributes of group #1."""
    return _BODIES.substitute(size=f"i{8 * pointer_bytes}")
