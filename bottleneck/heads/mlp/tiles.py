"""The two products of an MLP's hidden layer, as machine code in registers, for numba.

A batch of 32 rows is too small for a BLAS: its products reach half of what the processor can do, and the
gradient goes to memory and back before Adam reads it. Here a tile of the gradient, 4 features by
some vectors of units, is summed up in registers and used there: its weights and both moments are read
once and written once in a step. Written as LLVM's instructions, because numba's own loops keep no tile in
registers (measured: 295 us a step of 32 x 1,280 x 128 with them, 113 us with these; one core, AVX512).
LLVM maps the vectors to what the processor has.

All arrays are C-contiguous; nothing checks an index. What numba has cached of `kernel` holds these tiles, and
only a change of kernel.py makes it compile again: after one here or of a constant, touch that file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _wide() -> bool:
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # not known for this processor
        return False


# With 32 registers of 16 numbers a tile has 4 x 4 of them; with 16 of 8 (AVX2) 4 x 2.
_LANES, _VECTORS = (16, 4) if _wide() else (8, 2)
TILE = 4  # features, or rows
SPAN = _LANES * _VECTORS  # units of a tile; their number is a multiple of it

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_INT = ir.IntType(64)


class _Emitter:
    """Writes LLVM's instructions into the function that numba is about to compile."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        self.types, self.arguments = signature.args, arguments

    def pointer(self, i: int) -> Any:
        """Where the data of the array begin that is argument i."""
        return self._array(i).data

    def width(self, i: int) -> Any:
        """Its number of columns."""
        return self.builder.extract_value(self._array(i).shape, 1)

    def _array(self, i: int) -> Any:
        make = self.context.make_array(self.types[i])
        return make(self.context, self.builder, self.arguments[i])

    def at(self, pointer: Any, *terms: Any) -> Any:
        """The address `pointer` + the sum of the terms."""
        for term in terms:
            index = ir.Constant(_INT, term) if isinstance(term, int) else term
            pointer = self.builder.gep(pointer, [index])
        return pointer

    def scalar(self, pointer: Any) -> Any:
        return self.builder.load(pointer)

    def load(self, pointer: Any) -> Any:
        """A vector, from an address of any alignment."""
        return self.builder.load(self.builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)

    def splat(self, value: Any) -> Any:
        """The same number in all lanes."""
        empty = ir.Constant(_VECTOR, ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(one, empty, lanes)

    def call(self, name: str, *values: Any) -> Any:
        """One of LLVM's functions on vectors: fma, sqrt."""
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
        name = f"llvm.{name}.v{_LANES}f32"
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, name), values
        )

    def accumulators(self, start: Callable[[int, int], Any]) -> list[list[Any]]:
        """Variables of the tile; LLVM keeps them in registers."""
        return [
            [cgutils.alloca_once_value(self.builder, start(i, v)) for v in range(_VECTORS)]
            for i in range(TILE)
        ]

    def add_products(self, sums: list[list[Any]], left: list[Any], right: Any) -> None:
        """sums[i][v] += left[i] * the v-th vector at `right`."""
        vectors = [self.load(self.at(right, v * _LANES)) for v in range(_VECTORS)]
        for i, pointer in enumerate(left):
            value = self.splat(self.scalar(pointer))
            for v, vector in enumerate(vectors):
                total = self.call("fma", value, vector, self.builder.load(sums[i][v]))
                self.builder.store(total, sums[i][v])

    def row(self, array: Any, number: Any, width: Any) -> Any:
        """The address of a row."""
        return self.at(array, self.builder.mul(number, width))


@intrinsic
def forward_tile(typing: Any, X, rows, W, Z, b, j0, j1, h):  # type: ignore[no-untyped-def]
    """Z[b : b + TILE, h : h + SPAN] += X[rows[b : b + TILE], j0:j1] @ W[j0:j1, h : h + SPAN].

    X (n, d), W (d, hidden), Z (batch, hidden) float32; rows (batch,), b, j0, j1, h int64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = _Emitter(context, builder, signature, arguments)
        X_at, rows_at, W_at, Z_at = (e.pointer(i) for i in range(4))
        d, hidden = e.width(0), e.width(2)
        b, j0, j1, h = arguments[4:]
        left = [e.row(X_at, e.scalar(e.at(rows_at, b, i)), d) for i in range(TILE)]
        out = [e.at(e.row(Z_at, builder.add(b, _INT(i)), hidden), h) for i in range(TILE)]
        sums = e.accumulators(lambda i, v: e.load(e.at(out[i], v * _LANES)))
        with cgutils.for_range_slice(builder, j0, j1, _INT(1), _INT) as (j, _):
            e.add_products(sums, [e.at(row, j) for row in left], e.at(e.row(W_at, j, hidden), h))
        for i in range(TILE):
            for v in range(_VECTORS):
                e.store(builder.load(sums[i][v]), e.at(out[i], v * _LANES))
        return context.get_dummy_value()

    return types.void(X, rows, W, Z, b, j0, j1, h), generate


@intrinsic
def adam_tile(  # type: ignore[no-untyped-def]
    typing: Any, X, rows, D, W, M, V, n, j, h, beta1, beta2, step, root, keep, epsilon
):
    """One step of Adam for W[j : j + TILE, h : h + SPAN], with the gradient X[rows[:n]].T @ D[:n].

    X (n, d), D (batch, hidden), W and its moments M, V (d, hidden) float32; rows (batch,), n, j, h int64.
    W = keep W - step M / (root sqrt(V) + epsilon), all float32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = _Emitter(context, builder, signature, arguments)
        X_at, rows_at, D_at, *state = (e.pointer(i) for i in range(6))
        d, hidden = e.width(0), e.width(3)
        n, j, h = arguments[6:9]
        sums = e.accumulators(lambda i, v: ir.Constant(_VECTOR, [0.0] * _LANES))
        with cgutils.for_range_slice(builder, _INT(0), n, _INT(1), _INT) as (b, _):
            row = e.at(e.row(X_at, e.scalar(e.at(rows_at, b)), d), j)
            left = [e.at(row, i) for i in range(TILE)]
            e.add_products(sums, left, e.at(e.row(D_at, b, hidden), h))
        beta1, beta2, step, root, keep, epsilon = (e.splat(a) for a in arguments[9:])
        one = ir.Constant(_VECTOR, [1.0] * _LANES)
        rest1, rest2 = builder.fsub(one, beta1), builder.fsub(one, beta2)
        for i in range(TILE):
            for v in range(_VECTORS):
                gradient = builder.load(sums[i][v])
                row = builder.add(j, _INT(i))
                W_at, M_at, V_at = (e.at(e.row(s, row, hidden), h, v * _LANES) for s in state)
                square = builder.fmul(builder.fmul(rest2, gradient), gradient)
                moment = e.call("fma", beta1, e.load(M_at), builder.fmul(rest1, gradient))
                second = e.call("fma", beta2, e.load(V_at), square)
                e.store(moment, M_at)
                e.store(second, V_at)
                below = e.call("fma", e.call("sqrt", second), root, epsilon)
                move = builder.fdiv(builder.fmul(step, moment), below)
                e.store(builder.fsub(builder.fmul(e.load(W_at), keep), move), W_at)
        return context.get_dummy_value()

    signature = types.void(X, rows, D, W, M, V, n, j, h, beta1, beta2, step, root, keep, epsilon)
    return signature, generate
