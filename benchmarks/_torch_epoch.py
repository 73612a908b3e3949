"""An epoch in PyTorch as its users are advised to write it for data that fit on the device."""

import contextlib
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from benchmarks._torch import TorchNet


class TorchEpoch:
    """One epoch a call: data on the device, channels last, autocast, compiled where that works.

    Args:
      torch: what `benchmarks._torch.find_torch` returned.
      params: the network of `benchmarks._plain`, in its tree.
      stats: its running statistics.
      images: uint8 ``[n, h, w, c]``.
      labels: ``[n]``.
      moments: mean and standard deviation of each channel.
      batch: images a step.
      dtype: ``"float32"`` or ``"bfloat16"``, by autocast.
      compiled: whether to try ``torch.compile``.

    Attributes:
      compiled: whether the step is a compiled one.
      trouble: why not, in PyTorch's words; empty where it is or was not asked for.
    """

    def __init__(
        self,
        torch: ModuleType,
        params: PyTree,
        stats: PyTree,
        images: np.ndarray,
        labels: np.ndarray,
        moments: tuple[tuple[float, ...], tuple[float, ...]],
        batch: int,
        dtype: str,
        compiled: bool,
    ):
        self._torch, self._batch = torch, batch
        self._device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        self._net = TorchNet(torch, params, stats, self._device)
        # a view and no copy of an array with channels last
        self._images = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
        self._labels = torch.from_numpy(labels).long().to(self._device)
        mean, std = (torch.tensor(m, device=self._device).view(1, -1, 1, 1) for m in moments)
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._cast = (
            torch.autocast(self._device, dtype=torch.bfloat16)
            if dtype == "bfloat16"
            else contextlib.nullcontext()
        )
        self.compiled, self.trouble = False, ""
        self._loss = self._forward
        if compiled:
            self._compile()

    def __call__(self) -> Any:
        """Train for one epoch, waiting for the device at the end; return the losses."""
        order = self._torch.randperm(len(self._labels), device=self._device)
        steps = len(order) // self._batch
        told = self._torch.stack([self.step(x) for x in order.split(self._batch)[:steps]])
        if self._device == "cuda":
            self._torch.cuda.synchronize()
        return told

    def step(self, rows: Any) -> Any:
        """Take one step on these rows; return the loss before it."""
        # gathered through a view that lies as the images do, so that the batch has its channels last, too
        images = self._images.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)
        loss = self._loss(images, self._labels[rows])
        self._net.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._net.optimizer.step()
        return loss.detach()

    def _forward(self, images: Any, labels: Any) -> Any:
        with self._cast:
            return self._net.loss(images.float() * self._scale + self._shift, labels)

    def _compile(self) -> None:
        """Compile forward and backward, or remember why that cannot be done."""
        compiled = self._torch.compile(self._forward)
        rows = self._torch.arange(self._batch, device=self._device)
        images = self._images.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)
        kept = jax.tree.map(lambda s: s.clone(), self._net.stats)
        try:
            compiled(images, self._labels[rows]).backward()
        except Exception as error:
            # whatever the compiler, or the C++ compiler behind it, stumbled over
            self.trouble = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        else:
            self.compiled, self._loss = True, compiled
        self._net.optimizer.zero_grad(set_to_none=True)
        jax.tree.map(lambda s, k: s.copy_(k), self._net.stats, kept)  # that was no step
