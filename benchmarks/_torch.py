"""PyTorch as a peer, where it is installed: the same ResNet and its step."""

from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from benchmarks._plain import DECAY, EPSILON, MOMENTUM, RATE


def find_torch() -> ModuleType | None:
    """Return PyTorch where it can be compared with, and say in a sentence why not elsewhere."""
    if jax.default_backend() != "cpu":
        print("PyTorch is compared with on CPU only: its rows are skipped.")
        return None
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: its rows are skipped (pip install torch).")
        return None
    return torch


class TorchStep:
    """A training step of the CIFAR ResNet in PyTorch that carries its own state from call to call.

    Args:
      torch: what `find_torch` returned.
      params: the network of `benchmarks._plain`, in its tree.
      stats: its running statistics.
      images: ``[n, h, w, c]``.
      labels: ``[n]``.
    """

    def __init__(
        self, torch: ModuleType, params: PyTree, stats: PyTree, images: Array, labels: Array
    ):
        self._functional = torch.nn.functional
        tensor = torch.from_numpy
        self._params = jax.tree.map(lambda p: tensor(_weights(p)).requires_grad_(), params)
        self._stats = jax.tree.map(lambda s: tensor(_weights(s)), stats)
        # a view and no copy: what PyTorch calls channels last, its faster layout
        self._images = tensor(np.array(images).transpose(0, 3, 1, 2))
        self._labels = tensor(np.array(labels)).long()
        self._optimizer = torch.optim.SGD(
            jax.tree.leaves(self._params), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
        )

    def __call__(self) -> Any:
        """Take one step; return the loss before it, a scalar tensor."""
        loss = self._functional.cross_entropy(self._forward(), self._labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _forward(self) -> Any:
        f, params, stats = self._functional, self._params["layers"], self._stats["layers"]
        x = f.relu(self._layer(self._images, params[0], stats[0]))
        for i in range(1, len(params)):
            p, s = params[i], stats[i]
            outputs, inputs = p["convs"][0]["conv"]["kernel"].shape[:2]
            stride = 1 if inputs == outputs else 2
            y = f.relu(self._layer(x, p["convs"][0], s["convs"][0], stride))
            y = self._layer(y, p["convs"][1], s["convs"][1])
            if stride > 1:
                x = f.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, outputs - inputs))
            x = f.relu(y + x)
        head = self._params["head"]
        return x.mean(dim=(2, 3)) @ head["kernel"] + head["bias"]

    def _layer(self, x: Any, params: PyTree, stats: PyTree, stride: int = 1) -> Any:
        x = self._functional.conv2d(x, params["conv"]["kernel"], stride=stride, padding=1)
        norm, running = params["norm"], stats["norm"]
        return self._functional.batch_norm(
            x,
            running["mean"],
            running["var"],
            norm["scale"],
            norm["bias"],
            training=True,
            momentum=0.1,
            eps=EPSILON,
        )


def _weights(x: Array) -> np.ndarray:
    """Copy a parameter; a kernel ``[h, w, inputs, outputs]`` as ``[outputs, inputs, h, w]``."""
    values = np.array(x)
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1)) if values.ndim == 4 else values
