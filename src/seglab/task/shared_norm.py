"""Batch norm over the batches of all processes, with the gradient of one process that has the joined batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; as each of them has a loss of its own, its gradient is a sum as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """All-reduce."""
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """All-reduce."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance in training are those of the batches of all processes, whatever their sizes.

    torch.nn.SyncBatchNorm does the same on GPUs only. This one is made of plain operations and two all-reduces of as
    many numbers as there are channels, so it runs with gloo and NCCL alike. Parameters and buffers are those of
    nn.BatchNorm2d and nn.BatchNorm3d, and so are the keys in checkpoints.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        """Any number of axes after the channels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Normalise.

        Shape: (N, C, *spatial) -> the same.
        """
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        image = input.float()
        axes = [axis for axis in range(image.dim()) if axis != 1]
        shape = [1, -1, *[1] * (image.dim() - 2)]
        n = image.new_tensor([image.numel() / image.shape[1]])
        sums: Tensor = SumOverProcesses.apply(torch.cat([image.sum(axes), n]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = image - mean.view(shape)
        variance: Tensor = SumOverProcesses.apply(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; momentum None means the plain average of all so far, as in torch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def share_batch_norm(net: nn.Module) -> int:
    """Replace every batch norm inside a network, keeping its parameters and buffers; the number of them."""
    n_replaced = 0
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
                setattr(module, name, _shared(child))
                n_replaced += 1
    return n_replaced


def _shared(norm: _BatchNorm) -> SharedBatchNorm:
    new = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new.train(norm.training)
