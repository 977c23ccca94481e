"""Transcendental functions of each element: Exp, Log, Erf, the trigonometric and hyperbolic ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..kernel import Expr, UnaryName, unary
from ..op import operator
from ..semantics import error_function, logistic
from ..types import Array
from .elementwise import UnaryOperator


class Transcendental(UnaryOperator):
    """Base of functions that the kernel language knows by name. A subclass gives `function` and `numpy`."""

    function: ClassVar[UnaryName]
    tolerance = "close"

    def formula(self, x: Expr) -> Expr:
        return unary(self.function, x)

    @property
    def flops(self):  # type: ignore[no-untyped-def]
        return self.result.type.size * 16


@operator(onnx="Exp", since=6)
class Exp(Transcendental):
    """The exponential."""

    function = "exp"

    def numpy(self, x: Array) -> Array:
        return np.exp(x)


@operator(onnx="Log", since=6)
class Log(Transcendental):
    """The natural logarithm; -inf of 0, NaN of a negative number."""

    function = "log"
    low = 0.0

    def numpy(self, x: Array) -> Array:
        return np.log(x)


@operator(onnx="Erf", since=9)
class Erf(Transcendental):
    """The error function."""

    function = "erf"

    def numpy(self, x: Array) -> Array:
        return error_function(x)


@operator(onnx="Sin", since=7)
class Sin(Transcendental):
    """The sine of an angle in radians."""

    function = "sin"

    def numpy(self, x: Array) -> Array:
        return np.sin(x)


@operator(onnx="Cos", since=7)
class Cos(Transcendental):
    """The cosine of an angle in radians."""

    function = "cos"

    def numpy(self, x: Array) -> Array:
        return np.cos(x)


@operator(onnx="Tan", since=7)
class Tan(Transcendental):
    """The tangent of an angle in radians."""

    function = "tan"
    low, high = -1.4, 1.4

    def numpy(self, x: Array) -> Array:
        return np.tan(x)


@operator(onnx="Asin", since=7)
class Asin(Transcendental):
    """The inverse sine, in radians; NaN outside [-1, 1]."""

    function = "asin"
    low, high = -1.0, 1.0

    def numpy(self, x: Array) -> Array:
        return np.arcsin(x)


@operator(onnx="Acos", since=7)
class Acos(Transcendental):
    """The inverse cosine, in radians; NaN outside [-1, 1]."""

    function = "acos"
    low, high = -1.0, 1.0

    def numpy(self, x: Array) -> Array:
        return np.arccos(x)


@operator(onnx="Atan", since=7)
class Atan(Transcendental):
    """The inverse tangent, in radians."""

    function = "atan"

    def numpy(self, x: Array) -> Array:
        return np.arctan(x)


@operator(onnx="Sinh", since=9)
class Sinh(Transcendental):
    """The hyperbolic sine."""

    function = "sinh"

    def numpy(self, x: Array) -> Array:
        return np.sinh(x)


@operator(onnx="Cosh", since=9)
class Cosh(Transcendental):
    """The hyperbolic cosine."""

    function = "cosh"

    def numpy(self, x: Array) -> Array:
        return np.cosh(x)


@operator(onnx="Asinh", since=9)
class Asinh(Transcendental):
    """The inverse hyperbolic sine."""

    function = "asinh"

    def numpy(self, x: Array) -> Array:
        return np.arcsinh(x)


@operator(onnx="Acosh", since=9)
class Acosh(Transcendental):
    """The inverse hyperbolic cosine; NaN below 1."""

    function = "acosh"
    low = 1.0

    def numpy(self, x: Array) -> Array:
        return np.arccosh(x)


@operator(onnx="Atanh", since=9)
class Atanh(Transcendental):
    """The inverse hyperbolic tangent; NaN outside [-1, 1]."""

    function = "atanh"
    low, high = -0.9, 0.9

    def numpy(self, x: Array) -> Array:
        return np.arctanh(x)


@operator(onnx="Tanh", since=6)
class Tanh(Transcendental):
    """The hyperbolic tangent."""

    function = "tanh"

    def numpy(self, x: Array) -> Array:
        return np.tanh(x)


@operator(onnx="Sigmoid", since=6)
class Sigmoid(Transcendental):
    """`1 / (1 + exp(-x))`."""

    function = "sigmoid"

    def numpy(self, x: Array) -> Array:
        return logistic(x)
