"""A matrix product as a Pallas kernel, for the blocks of a layer on a GPU or a TPU.

    y[i, j] = sum_k x[i, k] w[k, j]        a program for each tile (i, j), which walks over the tiles of k

Each block of output channels is one call. What a program reads, a row of tiles of x and a column of tiles of w, comes
to it by the grid; the sum is kept in float32 and written once. No tile depends on another, so the programs may run in
any order, as they do on a GPU. Edges are padded with zeros to whole tiles. The derivatives are two products more.

Limits: it was run in Pallas's interpret mode and lowered for both kinds of device, and timed on nothing, so nothing is
said of its speed. A program holds its rows of x and columns of w over the whole of k, which on a TPU must fit into its
memory (in float32, with tiles of 128, k of some thousands). Convolutions are unrolled before it (im2col), 1x1 ones
too. There is no forward-mode derivative. On a GPU it is lowered by Pallas's Triton backend, which JAX 0.11 has
deprecated; Mosaic GPU, which takes its place, has no product of this form.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Shaped

from wormjax._selection import check_choice

# the largest tile's rows or columns, and its part of k: what a TPU's registers are made for, and what a GPU's shared
# memory holds; smaller ones are powers of two of at least 16, which tensor cores need
TILES = {"tpu": (128, 128), "gpu": (64, 32)}
Products = Literal["xla", "pallas", "pallas_interpreted"]
Kernel = Literal["gpu", "tpu", "interpreted"]


def kernel_of(products: Products) -> Kernel | None:
    """Return how Pallas runs here; None for the products of XLA.

    Raises:
      ValueError: there is no GPU or TPU, or no such choice.
    """
    check_choice("products", products, ("xla", "pallas", "pallas_interpreted"))
    if products == "xla":
        return None
    if products == "pallas_interpreted":
        return "interpreted"
    backend = jax.default_backend()
    places: dict[str, Kernel] = {"gpu": "gpu", "tpu": "tpu"}
    if backend in places:
        return places[backend]
    raise ValueError(
        f"products='pallas' needs a GPU or a TPU, and JAX runs on {backend!r}. Take products='xla', or, to check the "
        "kernel, products='pallas_interpreted', which is slow."
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def tiled_product(
    x: Shaped[Array, "m k"],
    w: Shaped[Array, "k n"],
    dtype: Any,
    precision: Any = None,
    kernel: Kernel = "interpreted",
) -> Shaped[Array, "m n"]:
    """Multiply two matrices.

    Args:
      x: the one.
      w: the other.
      dtype: of the result; sums are float32, or float64 where an operand is.
      precision: as for ``jax.lax.dot_general``.
      kernel: what runs it; ``"interpreted"`` is a JAX program for any device, for tests.

    Returns:
      The product.

    Raises:
      TypeError: an operand is not of floating point.

    Example:
      >>> import jax.numpy as jnp
      >>> tiled_product(jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.float32).tolist()
      [[3.0], [3.0]]

    References:
      `Pallas: a JAX kernel language <https://docs.jax.dev/en/latest/pallas/index.html>`_
    """
    for operand in (x, w):
        if not jnp.issubdtype(operand.dtype, jnp.floating):
            raise TypeError(
                f"The kernel multiplies floating-point numbers, and a block has {operand.dtype}. Take products='xla'."
            )
    (m, k), n = x.shape, w.shape[1]
    side, part = TILES["gpu" if kernel == "gpu" else "tpu"]
    rows, depth, columns = _tile(m, side), _tile(k, part), _tile(n, side)
    x, w = _padded(x, rows, depth), _padded(w, depth, columns)
    steps = x.shape[1] // depth
    wide = jnp.float64 if jnp.float64 in (x.dtype, w.dtype) else jnp.float32
    same = x.dtype == w.dtype

    def program(x_ref: Any, w_ref: Any, y_ref: Any) -> None:
        def add(step: Any, total: Array) -> Array:
            along = pl.ds(step * depth, depth)
            a, b = x_ref[:, along], w_ref[along, :]
            if not same:
                a, b = a.astype(wide), b.astype(wide)
            return total + jnp.dot(a, b, precision=precision, preferred_element_type=wide)

        total = lax.fori_loop(0, steps, add, jnp.zeros((rows, columns), wide))
        y_ref[...] = total.astype(y_ref.dtype)

    padded = pl.pallas_call(
        program,
        jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), dtype),
        grid=(x.shape[0] // rows, w.shape[1] // columns),
        in_specs=[
            pl.BlockSpec((rows, x.shape[1]), lambda i, j: (i, 0)),
            pl.BlockSpec((w.shape[0], columns), lambda i, j: (0, j)),
        ],
        out_specs=pl.BlockSpec((rows, columns), lambda i, j: (i, j)),
        interpret=kernel == "interpreted",
        name="block_product",
        compiler_params=_parameters(kernel),
    )(x, w)
    return padded[:m, :n]


def _forward(x: Array, w: Array, *how: Any) -> tuple[Array, tuple[Array, Array]]:
    return tiled_product(x, w, *how), (x, w)


def _backward(
    dtype: Any, precision: Any, kernel: Kernel, read: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, w = read
    return (
        tiled_product(g, w.T, x.dtype, precision, kernel),
        tiled_product(x.T, g, w.dtype, precision, kernel),
    )


tiled_product.defvjp(_forward, _backward)


def _parameters(kernel: Kernel) -> Any:
    """What names the compiler; a TPU has one."""
    if kernel != "gpu":
        return None
    from jax.experimental.pallas import triton  # deprecated, and slow to import

    return triton.CompilerParams()


def _tile(size: int, largest: int) -> int:
    """The side of a tile along an axis: a power of two."""
    return min(largest, max(16, pl.next_power_of_2(size)))


def _padded(x: Array, rows: int, columns: int) -> Array:
    """Add zeros up to whole tiles."""
    missing = [(0, -size % tile) for size, tile in zip(x.shape, (rows, columns), strict=True)]
    return jnp.pad(x, missing) if any(after for _, after in missing) else x
