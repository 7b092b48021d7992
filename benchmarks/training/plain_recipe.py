"""The plain recipe, with which mgnas's training is compared: what one would write first.

The data are PIL images in a Dataset, with torchvision's transforms and a DataLoader. The networks are the papers'
formulas, word for word, as modules. The training is in float32, in the default memory layout, with torch.optim.SGD and
its defaults. Schedule, gradient clipping, batches and weight decay are those of mgnas. A plain network has copies of
the weights of a network that mgnas has built.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mgnas.models.layers import Head, ResolutionTransfer
from mgnas.models.mgiad import ChannelCycle, LearnedChannelTransfer
from mgnas.models.mgic import MGICBlock
from mgnas.models.mgnet import MultigridNet
from mgnas.models.resnet import BasicBlock
from mgnas.models.smoothers import SharedSmoother, SmoothingStep
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.epoch_plan import learning_rate
from mgnas.space.candidate import TrainingSettings


def plain_conv(layer: nn.Module | None) -> nn.Conv2d:
    """An ordinary convolution, in the default memory layout, with a copy of the layer's weights.

    Raises:
        ValueError: the layer is not a convolution.
    """
    if not isinstance(layer, nn.Conv2d):
        raise ValueError("the plain recipe knows levels with one shared A only, and at least two steps on the last")
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    fresh = nn.Conv2d(
        layer.in_channels, layer.out_channels, kernel, stride, kernel // 2, groups=layer.groups, bias=False
    )
    fresh.weight.data.copy_(layer.weight.data)
    return fresh


def plain_batch_norm(layer: nn.Module) -> nn.BatchNorm2d:
    """An ordinary batch norm, which counts its batches, with a copy of the layer's weights and statistics."""
    assert isinstance(layer, nn.BatchNorm2d)
    fresh = nn.BatchNorm2d(layer.num_features)
    fresh.load_state_dict({**layer.state_dict(), "num_batches_tracked": torch.tensor(0)})
    return fresh


def plain_conv_bn_relu(layer: nn.Module, bn: nn.Module) -> nn.Sequential:
    return nn.Sequential(plain_conv(layer), plain_batch_norm(bn), nn.ReLU())


def plain_head(head: Head) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(head.linear))


class Step(nn.Module):
    """u + sigma(bn2(B sigma(bn1(f - A u))))."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        assert isinstance(step, SmoothingStep)
        self.bn1, self.bn2 = plain_batch_norm(step.bn1), plain_batch_norm(step.bn2)

    def forward(self, u: Tensor, f: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        return u + F.relu(self.bn2(b(F.relu(self.bn1(f - a(u))))))


class Smoother(nn.Module):
    """The smoothing steps of a level with a shared A. B is shared too, or there is one per step."""

    def __init__(self, smoother: SharedSmoother) -> None:
        super().__init__()
        self.a = plain_conv(smoother.a)
        self.b = nn.ModuleList(plain_conv(b) for b in smoother.b)
        self.steps = nn.ModuleList(Step(step) for step in smoother.steps)

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        for index, step in enumerate(self.steps):
            u = step(u, f, self.a, self.b[index % len(self.b)])
        return u


class SiCBlock(nn.Module):
    """Smoothing in channels: a V-cycle over channel levels, as a full approximation scheme."""

    def __init__(self, cycle: ChannelCycle) -> None:
        super().__init__()
        self.a, self.b = plain_conv(cycle.a), plain_conv(cycle.b)
        self.pre = nn.ModuleList(Step(step) for step in cycle.pre)
        self.post = nn.ModuleList(Step(step) for step in cycle.post)
        self.learned = isinstance(cycle.transfer, LearnedChannelTransfer)
        if isinstance(cycle.transfer, LearnedChannelTransfer):
            self.restriction = plain_conv(cycle.transfer.restriction)
            self.prolongation = plain_conv(cycle.transfer.prolongation)
        self.coarse = plain_smoother(cycle.coarse)

    def restrict(self, x: Tensor) -> Tensor:
        """P' x: the mean of each pair of channels, unless learned."""
        return self.restriction(x) if self.learned else x.unflatten(1, (-1, 2)).mean(dim=2)

    def prolong(self, x: Tensor) -> Tensor:
        """P x: each channel twice, unless learned."""
        return self.prolongation(x) if self.learned else x.repeat_interleave(2, dim=1)

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        for step in self.pre:
            u = step(u, f, self.a, self.b)
        restricted = self.restrict(u)
        coarse_f = self.restrict(f - self.a(u)) + self.coarse.a(restricted)
        u = u + self.prolong(self.coarse(restricted, coarse_f) - restricted)
        for step in self.post:
            u = step(u, f, self.a, self.b)
        return u


def plain_smoother(smoother: nn.Module) -> SiCBlock | Smoother:
    """The literal form of a level's smoother.

    Raises:
        ValueError: the smoother has one A per step, or none, or polynomials.
    """
    if isinstance(smoother, ChannelCycle):
        return SiCBlock(smoother)
    if not isinstance(smoother, SharedSmoother):
        raise ValueError("the plain recipe knows levels with one shared A only, and at least two steps on the last")
    if not smoother.b:
        raise ValueError("the plain recipe knows no polynomials in place of B")
    return Smoother(smoother)


class Transfer(nn.Module):
    """u' = Pi u and f' = R(f - A u) + A' u'."""

    def __init__(self, transfer: nn.Module) -> None:
        super().__init__()
        assert isinstance(transfer, ResolutionTransfer)
        pi_bn, r_bn = transfer.pi_bn, transfer.r_bn
        self.pi = plain_conv(transfer.pi) if pi_bn is None else plain_conv_bn_relu(transfer.pi, pi_bn)
        self.r = plain_conv(transfer.r) if r_bn is None else plain_conv_bn_relu(transfer.r, r_bn)

    def forward(self, u: Tensor, f: Tensor, a: nn.Module, coarse_a: nn.Module) -> tuple[Tensor, Tensor]:
        coarse_u = self.pi(u)
        return coarse_u, self.r(f - a(u)) + coarse_a(coarse_u)


class PlainMultigridNet(nn.Module):
    """MgNet and MGiaD. On the finest level u starts as zeros."""

    def __init__(self, model: MultigridNet) -> None:
        super().__init__()
        self.stem = plain_conv_bn_relu(model.stem[0], model.stem[1])
        self.levels = nn.ModuleList(plain_smoother(level) for level in model.levels)
        self.transfers = nn.ModuleList(Transfer(transfer) for transfer in model.transfers)
        self.head = plain_head(model.head)

    def forward(self, images: Tensor) -> Tensor:
        f = self.stem(images)
        u = self.levels[0](torch.zeros_like(f), f)
        for index, transfer in enumerate(self.transfers):
            fine, coarse = self.levels[index], self.levels[index + 1]
            u, f = transfer(u, f, fine.a, coarse.a)
            u = coarse(u, f)
        return self.head(u)


class PlainMGICBlock(nn.Module):
    """z = x + bn(P(y - R x)) on all but the coarsest channel level; y = sigma(z + bn2(k2 sigma(bn1(k1 z))))."""

    def __init__(self, block: MGICBlock) -> None:
        super().__init__()
        smoother = block.smoother
        self.k1, self.k2 = plain_conv(smoother.k1), plain_conv(smoother.k2)
        self.bn1, self.bn2 = plain_batch_norm(smoother.bn1), plain_batch_norm(smoother.bn2)
        self.coarse = None
        if block.coarse is not None:
            self.coarse = PlainMGICBlock(block.coarse)
            self.restriction, self.prolongation = plain_conv(block.restriction), plain_conv(block.prolongation)
            self.bn = plain_batch_norm(block.bn)

    def forward(self, x: Tensor) -> Tensor:
        if self.coarse is not None:
            restricted = self.restriction(x)
            x = x + self.bn(self.prolongation(self.coarse(restricted) - restricted))
        return F.relu(x + self.bn2(self.k2(F.relu(self.bn1(self.k1(x))))))


class PlainBasicBlock(nn.Module):
    """sigma(shortcut(x) + bn2(conv2 sigma(bn1(conv1 x))))."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = plain_conv(block.conv1), plain_conv(block.conv2)
        self.bn1, self.bn2 = plain_batch_norm(block.bn1), plain_batch_norm(block.bn2)
        self.shortcut = nn.Identity()
        if isinstance(block.shortcut, nn.Sequential):
            projection, bn = block.shortcut
            self.shortcut = nn.Sequential(plain_conv(projection), plain_batch_norm(bn))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def _plain_part(part: nn.Module) -> nn.Module:
    if isinstance(part, MGICBlock):
        return PlainMGICBlock(part)
    if isinstance(part, BasicBlock):
        return PlainBasicBlock(part)
    if isinstance(part, Head):
        return plain_head(part)
    assert isinstance(part, nn.Sequential)  # the stem, or the convolution between two stages
    return plain_conv_bn_relu(part[0], part[1])


def plain_network(model: nn.Module) -> nn.Module:
    """The network that mgnas has built, in the literal form of the papers' formulas.

    Args:
        model: the network that mgnas has built.

    Returns:
        A network with copies of the weights, on the CPU: N x channels x h x w images -> N x classes logits.

    Raises:
        ValueError: the network has one A per step, or mgnas leaves out an operator that the formulas have.
    """
    model = copy.deepcopy(model).cpu()
    if isinstance(model, MultigridNet):
        plain = PlainMultigridNet(model)
    else:
        assert isinstance(model, nn.Sequential)  # a ResNet or an MGIC
        plain = nn.Sequential(*(_plain_part(part) for part in model))
    if sum(p.numel() for p in plain.parameters()) != sum(p.numel() for p in model.parameters()):
        raise ValueError("the plain network and mgnas's differ in their number of weights")
    return plain


class PILImages(Dataset):
    """A data set as torchvision has them: pairs of a PIL image, which is transformed when it is read, and its label."""

    def __init__(self, images: ImageDataset, transform: Callable[[Image.Image], Tensor]) -> None:
        self.arrays, self.labels, self.transform = images.images.transpose(0, 2, 3, 1).copy(), images.labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.arrays[index]
        image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        return self.transform(image), int(self.labels[index])


class PlainTrainer:
    """Trains a plain network, with the same methods as mgnas's Trainer.

    Args:
        model: the plain network, which is trained in place.
        settings: the recipe.
        train: images to learn from.
        device: the device to train on.
        workers: number of processes of the DataLoader; 0: it loads in this process.
        seed: seed of the order of the images and of the augmentation.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        train: ImageDataset,
        device: str,
        workers: int,
        seed: int = 0,
    ) -> None:
        self.settings, self.device, self.workers, self.epoch = settings, torch.device(device), workers, 0
        self.model = model.to(self.device)
        mean, std = train.mean_std()
        self.normalise = transforms.Normalize(mean.tolist(), std.clip(1e-3).tolist())
        torch.manual_seed(seed)
        self.loader = self._loader(PILImages(train, self._transform(train.shape[-1])), workers, shuffle=True)
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        nesterov = settings.momentum > 0
        self.optimizer = torch.optim.SGD(groups, settings.learning_rate, settings.momentum, nesterov=nesterov)

    def _transform(self, size: int) -> Callable[[Image.Image], Tensor]:
        """Random crop and flip, if the recipe has them, and normalisation."""
        steps = []
        if self.settings.crop_padding:
            steps.append(transforms.RandomCrop(size, padding=self.settings.crop_padding, padding_mode="reflect"))
        if self.settings.flip:
            steps.append(transforms.RandomHorizontalFlip())
        return transforms.Compose([*steps, transforms.ToTensor(), self.normalise])

    def _loader(self, images: PILImages, workers: int, shuffle: bool) -> DataLoader:
        return DataLoader(
            images,
            min(self.settings.batch_size, len(images)),
            shuffle=shuffle,
            drop_last=shuffle,
            num_workers=workers,
            persistent_workers=workers > 0,
            # As in a script of one's own on Linux. In the process of a benchmark another method may be the default, by
            # which each loader process imports everything anew.
            multiprocessing_context="fork" if workers else None,
            pin_memory=self.device.type == "cuda",
        )

    def run_epoch(self) -> float:
        """Train for one epoch with PyTorch's default settings of cuDNN. Returns the mean loss."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):
            return self._run_epoch()

    def _run_epoch(self) -> float:
        settings, steps = self.settings, len(self.loader)
        total_loss = torch.zeros((), device=self.device)
        self.model.train()
        for step, (images, labels) in enumerate(self.loader):
            images, labels = (part.to(self.device, non_blocking=True) for part in (images, labels))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(settings, self.epoch + (step + 1) / steps)
            loss = F.cross_entropy(self.model(images), labels, label_smoothing=settings.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            if settings.gradient_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
            self.optimizer.step()
            total_loss += loss.detach()
        self.epoch += 1
        return float(total_loss) / steps

    @torch.no_grad()
    def evaluate(self, images: ImageDataset) -> float:
        """Share of these images that the network classifies correctly."""
        transform = transforms.Compose([transforms.ToTensor(), self.normalise])
        self.model.eval()
        correct = 0
        for batch, labels in self._loader(PILImages(images, transform), 0, shuffle=False):
            correct += int((self.model(batch.to(self.device)).argmax(dim=1).cpu() == labels).sum())
        return correct / len(images)
