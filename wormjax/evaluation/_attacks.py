"""Adversarial examples within a ball around each input: FGSM and PGD."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

Norm = Literal["linf", "l2"]
Loss = Callable[[Array, Any], Array]  # (inputs, labels) to a scalar
Images = Float[Array, "_ ..."]


def fgsm(
    loss: Loss,
    inputs: Images,
    labels: Any,
    *,
    epsilon: float,
    norm: Norm = "linf",
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Images:
    r"""Move every input by one step of length epsilon up the loss.

    .. math::
        x' = x + \epsilon \, \operatorname{sign}(g) \qquad \text{or} \qquad
        x' = x + \epsilon \, \frac{g}{\lVert g \rVert_2}, \qquad g = \nabla_x L

    Args:
      loss: function of (inputs, labels), a sum or a mean over the batch, whose examples are independent: normalisation
        in evaluation mode, dropout off. It is compiled once for each function object.
      inputs: float, examples in front.
      labels: whatever ``loss`` takes.
      epsilon: radius of the ball, in the unit of the inputs.
      norm: ``"linf"`` or ``"l2"``, of one example.
      bounds: the inputs' range, to which the result is clipped; None for none.

    Returns:
      Adversarial inputs. Where the gradient is 0 an input stays.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = lambda x, y: jnp.sum(x @ jnp.array([1.0, -2.0]))
      >>> print(fgsm(loss, jnp.array([[0.5, 0.5]]), None, epsilon=0.1))
      [[0.6 0.4]]

    References:
      Goodfellow et al., `Explaining and Harnessing Adversarial Examples <https://arxiv.org/abs/1412.6572>`_, 2015
    """
    _check(epsilon, norm, bounds)
    return _step(loss, norm, bounds, inputs, inputs, labels, epsilon, epsilon)


def pgd(
    loss: Loss,
    inputs: Images,
    labels: Any,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    norm: Norm = "linf",
    bounds: tuple[float, float] | None = (0.0, 1.0),
    key: Key[Array, ""] | None = None,
) -> Images:
    r"""Climb the loss by steps of a fixed length, each followed by a projection on the ball.

    .. math::
        x_{t+1} = \Pi_{B(x, \epsilon)} \bigl( x_t + \alpha \, \operatorname{sign}(g_t) \bigr) \quad \text{or} \quad
        \Pi_{B(x, \epsilon)} \Bigl( x_t + \alpha \, \frac{g_t}{\lVert g_t \rVert_2} \Bigr)

    then clipped to the range, which keeps it in the ball.

    Args:
      loss: as for `fgsm`.
      inputs: float, examples in front.
      labels: whatever ``loss`` takes.
      epsilon: radius of the ball.
      step_size: length of a step.
      steps: how many; the host dispatches them one by one, since XLA:CPU is slow at convolutions inside a loop.
      norm: ``"linf"`` or ``"l2"``.
      bounds: the inputs' range; None for none.
      key: begin at a random point of the ball; None begins at the inputs.

    Returns:
      Adversarial inputs.

    References:
      Madry et al., `Towards Deep Learning Models Resistant to Adversarial Attacks
      <https://arxiv.org/abs/1706.06083>`_, 2018
    """
    _check(epsilon, norm, bounds)
    if steps < 1 or not step_size > 0:
        raise ValueError(f"pgd got steps={steps} and step_size={step_size}. Both must be positive.")
    moved = (
        inputs if key is None else _clipped(inputs + _random(key, inputs, epsilon, norm), bounds)
    )
    for _ in range(steps):
        moved = _step(loss, norm, bounds, moved, inputs, labels, epsilon, step_size)
    return moved


def accuracy_under(
    predict: Callable[[Array], Array],
    inputs: Images,
    labels: Integer[Array | np.ndarray, " _"],
) -> float:
    """Return the fraction of inputs, attacked or corrupted, that are classified rightly.

    Args:
      predict: function of inputs to logits ``[N, K]``.
      inputs: examples in front.
      labels: integers.
    """
    return float(jnp.mean(jnp.argmax(predict(inputs), axis=-1) == labels))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    loss: Loss,
    norm: Norm,
    bounds: tuple[float, float] | None,
    moved: Array,
    inputs: Array,
    labels: Any,
    epsilon: Any,
    step_size: Any,
) -> Array:
    gradient = jax.grad(loss)(moved, labels)
    size = jnp.asarray(step_size, moved.dtype)
    radius = jnp.asarray(epsilon, moved.dtype)
    if norm == "linf":
        offset = moved + size * jnp.sign(gradient) - inputs
        offset = jnp.clip(offset, -radius, radius)
    else:
        length = _length(gradient)
        direction = jnp.where(length > 0, gradient / jnp.where(length > 0, length, 1), 0)
        offset = moved + size * direction - inputs
        reached = _length(offset)
        offset = offset * jnp.where(
            reached > radius, radius / jnp.where(reached > 0, reached, 1), 1
        )
    return _clipped(inputs + offset, bounds)


def _length(x: Array) -> Array:
    """The norm of each example, in a shape that broadcasts."""
    # of the largest entry's scale, or the squares of a saturated network's gradients underflow
    axes = tuple(range(1, x.ndim))
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scaled = x / jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.sum(scaled**2, axis=axes, keepdims=True))


def _random(key: Array, inputs: Array, epsilon: float, norm: Norm) -> Array:
    """A uniform point of each example's ball."""
    if norm == "linf":
        return jax.random.uniform(key, inputs.shape, inputs.dtype, -epsilon, epsilon)
    of_direction, of_radius = jax.random.split(key)
    drawn = jax.random.normal(of_direction, inputs.shape, inputs.dtype)
    count = max(inputs[0].size, 1)
    shape = (len(inputs), *[1] * (inputs.ndim - 1))
    radius = epsilon * jax.random.uniform(of_radius, shape, inputs.dtype) ** (1 / count)
    return drawn / _length(drawn) * radius


def _clipped(x: Array, bounds: tuple[float, float] | None) -> Array:
    return x if bounds is None else jnp.clip(x, *(jnp.asarray(b, x.dtype) for b in bounds))


def _check(epsilon: float, norm: str, bounds: tuple[float, float] | None) -> None:
    if not epsilon >= 0:
        raise ValueError(f"epsilon={epsilon} must not be negative: it is the radius of the ball.")
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm={norm!r} is neither 'linf' nor 'l2'.")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds={bounds} must be a lower and an upper end.")
