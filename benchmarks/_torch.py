"""PyTorch as a peer, where it is installed: the same ResNet and its step."""

from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from benchmarks._plain import DECAY, EPSILON, MOMENTUM, RATE


def find_torch(*, accelerated: bool = False) -> ModuleType | None:
    """Return PyTorch where it can be compared with, and say in a sentence why not elsewhere.

    Args:
      accelerated: whether the comparison can be made on a GPU, too.
    """
    backend = jax.default_backend()
    if backend != "cpu" and not (accelerated and backend == "gpu"):
        print(f"PyTorch is not compared with on {backend}: its rows are skipped.")
        return None
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: its rows are skipped (pip install torch).")
        return None
    if backend == "gpu" and not torch.cuda.is_available():
        print("PyTorch finds no GPU: its rows are skipped (install its CUDA build).")
        return None
    return torch


class TorchNet:
    """The CIFAR ResNet in PyTorch, with its optimizer.

    Args:
      torch: what `find_torch` returned.
      params: the network of `benchmarks._plain`, in its tree.
      stats: its running statistics.
      device: where it computes.
    """

    def __init__(self, torch: ModuleType, params: PyTree, stats: PyTree, device: str = "cpu"):
        def tensor(x):
            return torch.from_numpy(_weights(x)).to(device)

        self._functional = torch.nn.functional
        self._params = jax.tree.map(lambda p: tensor(p).requires_grad_(), params)
        self.stats = jax.tree.map(tensor, stats)
        self.optimizer = torch.optim.SGD(
            jax.tree.leaves(self._params), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
        )

    def loss(self, images: Any, labels: Any) -> Any:
        """Return the mean cross-entropy of a batch ``[n, c, h, w]``."""
        return self._functional.cross_entropy(self._forward(images), labels)

    def _forward(self, images: Any) -> Any:
        f, params, stats = self._functional, self._params["layers"], self.stats["layers"]
        x = f.relu(self._layer(images, params[0], stats[0]))
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
        self._net = TorchNet(torch, params, stats)
        # a view and no copy: what PyTorch calls channels last, its faster layout
        self._images = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2))
        self._labels = torch.from_numpy(np.array(labels)).long()

    def __call__(self) -> Any:
        """Take one step; return the loss before it, a scalar tensor."""
        loss = self._net.loss(self._images, self._labels)
        self._net.optimizer.zero_grad()
        loss.backward()
        self._net.optimizer.step()
        return loss.detach()


def _weights(x: Array) -> np.ndarray:
    """Copy a parameter; a kernel ``[h, w, inputs, outputs]`` as ``[outputs, inputs, h, w]``."""
    values = np.array(x)
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1)) if values.ndim == 4 else values
