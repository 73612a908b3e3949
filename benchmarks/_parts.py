"""Where the time of a training step goes, told by what it loses when a part of it costs nothing."""

import functools
from typing import Any

import jax
from jax import lax
from jaxtyping import Array

from benchmarks import _plain
from benchmarks._network import Problem
from benchmarks._plain import convolve
from benchmarks._rows import Row
from benchmarks._timing import compiled, interleave


def part_rows(given: Problem, rounds: int, budget: float) -> list[Row]:
    """Time the plain step beside steps and forward passes whose convolutions do a part of their work.

    The programs are whole ones: alone, a convolution finds its operands laid out and in the cache as it
    likes them, and is faster than it is within the step.

    Args:
      given: network and batch.
      rounds: how often each program is timed.
      budget: seconds after which no round begins.

    Returns:
      Shares of the step, which sum to one, and what the gradients cost over the forward pass of the same
      convolutions.
    """
    state = _plain.init(given.view.params, given.view.state)
    batch = (given.images, given.labels)

    def step(convolve):
        return _program(functools.partial(_plain.step, convolve=convolve), state, *batch)

    def forward(convolve):
        function = functools.partial(_plain.forward, convolve=convolve)
        return _program(function, state.params, state.stats, given.images)

    programs = {
        "step": step(convolve),
        "step without input gradients": step(_without_input_gradient),
        "step without weight gradients": step(_without_weight_gradient),
        "forward": forward(convolve),
        "forward without convolutions": forward(_without_work),
    }
    times = interleave(programs, rounds=rounds, budget=budget)
    forward_only = {"forward": 1, "forward without convolutions": -1}
    times = times.combined("convolutions", forward_only)
    for kind in ("input", "weight"):
        lost = {"step": 1, f"step without {kind} gradients": -1}
        times = times.combined(f"{kind} gradients", lost)
    parts = ("forward", "input gradients", "weight gradients")
    times = times.combined("the rest", {"step": 1} | dict.fromkeys(parts, -1))
    shares = [Row.timed(f"{part} / step", times, part, "step") for part in (*parts, "the rest")]
    dear = [
        Row.timed(f"{part} / forward of convolutions", times, part, "convolutions")
        for part in ("input gradients", "weight gradients")
    ]
    return shares + dear


def _program(function: Any, *args: Any) -> Any:
    """Compile; what is called starts from the same numbers every time, so that none may run away."""
    executable, _ = compiled(function, *args)
    return functools.partial(executable, *args)


def _without_work(x: Array, kernel: Array, stride: int) -> Array:
    """Return something of the output's shape."""
    return _channels(x[:, ::stride, ::stride], kernel.shape[-1])


def _without_weight_gradient(x: Array, kernel: Array, stride: int) -> Array:
    return convolve(x, lax.stop_gradient(kernel), stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _without_input_gradient(x: Array, kernel: Array, stride: int) -> Array:
    """Convolve; the gradient passes to the input as it comes, cut or padded to fit."""
    return convolve(x, kernel, stride)


def _save(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _pull(stride: int, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, pull = jax.vjp(lambda kernel: convolve(x, kernel, stride), kernel)
    between = (0, stride - 1, stride - 1)  # zeros where the convolution stepped over
    spread = lax.pad(grad, 0.0, [(0, 0, 0), between, between, (0, 0, 0)])
    return _channels(spread, x.shape[-1]), *pull(grad)


_without_input_gradient.defvjp(_save, _pull)


def _channels(x: Array, width: int) -> Array:
    """Cut channels off, or add zeros."""
    return lax.pad(x, 0.0, [(0, 0, 0)] * 3 + [(0, width - x.shape[-1], 0)])
