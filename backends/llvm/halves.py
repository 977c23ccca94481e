"""LLVM text of the conversions between f32 and 16-bit floats that LLVM calls where the processor has none."""

from __future__ import annotations

from .cpu import Cpu

# Hidden and weak, as memcpy is. An f16 without its sign, shifted to where f32 has exponent and mantissa, is
# too small by 2**112, subnormal or not; one addition rounds a subnormal result to its last place, half to
# even.
_TEXT = """\
define weak hidden float @__extendhfsf2(half %x) #1 {
  %short = bitcast half %x to i16
  %bits = zext i16 %short to i32
  %size = and i32 %bits, 32767
  %wide = shl i32 %size, 13
  %tiny = bitcast i32 %wide to float
  %scaled = fmul float %tiny, 0x46F0000000000000
  %finite = bitcast float %scaled to i32
  %special = or i32 %wide, 2139095040
  %is.special = icmp uge i32 %size, 31744
  %chosen = select i1 %is.special, i32 %special, i32 %finite
  %sign.low = and i32 %bits, 32768
  %sign = shl i32 %sign.low, 16
  %all = or i32 %chosen, %sign
  %result = bitcast i32 %all to float
  ret float %result
}

define weak hidden half @__truncsfhf2(float %x) #1 {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %value = bitcast i32 %size to float
  %moved = fadd float %value, 5.0e-1
  %moved.bits = bitcast float %moved to i32
  %subnormal = sub i32 %moved.bits, 1056964608
  %shifted = lshr i32 %size, 13
  %odd = and i32 %shifted, 1
  %rebased = sub i32 %size, 939520001
  %rounded = add i32 %rebased, %odd
  %normal = lshr i32 %rounded, 13
  %payload = and i32 %shifted, 1023
  %nan = or i32 %payload, 32256
  %is.subnormal = icmp ult i32 %size, 947912704
  %is.large = icmp uge i32 %size, 1199570944
  %is.nan = icmp ugt i32 %size, 2139095040
  %small = select i1 %is.subnormal, i32 %subnormal, i32 %normal
  %bounded = select i1 %is.large, i32 31744, i32 %small
  %chosen = select i1 %is.nan, i32 %nan, i32 %bounded
  %sign.high = lshr i32 %bits, 16
  %sign = and i32 %sign.high, 32768
  %all = or i32 %chosen, %sign
  %short = trunc i32 %all to i16
  %result = bitcast i16 %short to half
  ret half %result
}
"""

_BFLOAT = """\
define weak hidden bfloat @__truncsfbf2(float %x) #1 {
  %bits = bitcast float %x to i32
  %upper = lshr i32 %bits, 16
  %odd = and i32 %upper, 1
  %bias = add i32 %odd, 32767
  %carried = add i32 %bits, %bias
  %rounded = lshr i32 %carried, 16
  %quiet = or i32 %upper, 64
  %nan = fcmp uno float %x, %x
  %chosen = select i1 %nan, i32 %quiet, i32 %rounded
  %short = trunc i32 %chosen to i16
  %result = bitcast i16 %short to bfloat
  ret bfloat %result
}
"""


def halves_text(cpu: Cpu) -> str:
    """The functions that LLVM may call on this processor; nothing for one that converts by itself."""
    if cpu.arch != "x86_64":
        return ""
    return ("" if cpu.has("f16c") else _TEXT) + ("" if cpu.has("avx512bf16") else _BFLOAT)
