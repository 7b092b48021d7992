"""Operations on a batch, against torchvision's transforms of single images."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mgnas.search.training.operations import PolicyOperations
from mgnas.search.training.policy import Operation as Op
from mgnas.search.training.policy import Policy, make_policy

CPU = torch.device("cpu")


def pixels(count: int, channels: int, size: int, seed: int = 0) -> torch.Tensor:
    """Images with smooth and with noisy parts, dark and bright ones, so that all operations do something."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((count, channels, size, size), generator=generator)
    slope = torch.linspace(0, 1, size).view(1, 1, 1, size)
    brightness = torch.rand((count, channels, 1, 1), generator=generator)
    return (255 * (0.4 * noise + 0.6 * slope) * brightness).to(torch.uint8)


def applied(policy: Policy, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    order = codes.argsort(stable=True)
    operations = PolicyOperations(policy, images.shape[-1], CPU)
    return operations(images, order, codes[order], codes[order])


def by_torchvision(operation: Op, image: torch.Tensor) -> torch.Tensor:
    """What torchvision's policies do with a single image."""
    transform = v2.TrivialAugmentWide()
    # Private, because the public call draws the operation itself.
    return transform._apply_image_or_video_transform(
        image, operation.name, operation.magnitude, interpolation=transform.interpolation, fill=transform._fill
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["trivial", "autoaugment"])
def test_every_operation_equals_torchvisions_on_single_images(name, channels):
    policy = make_policy(name, 16)
    codes = torch.arange(len(policy.operations)).repeat(2)
    codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    images = pixels(len(codes), channels, 16)
    results = applied(policy, images, codes)
    assert results.dtype == torch.uint8
    assert results.shape == images.shape
    changed = set()
    for image, code, result in zip(images, codes.tolist(), results, strict=True):
        operation = policy.operations[code]
        assert torch.equal(result, by_torchvision(operation, image)), operation
        changed |= {operation.name} if not torch.equal(result, image) else set()
    # Grey images have no colour, and the pair for it leaves them as they are.
    expected = {operation.name for operation in policy.operations} - {"Identity"}
    assert changed == expected - ({"Color"} if channels == 1 else set())


@pytest.mark.parametrize(
    "operation",
    [
        *(Op(name) for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")),
        *(Op(name) for name in ("Brightness", "Color", "Contrast", "Sharpness")),
        Op("Posterize", 8.0),
        Op("Identity"),
    ],
    ids=lambda operation: operation.name,
)
def test_operations_of_no_strength_change_nothing(operation):
    policy = Policy([[(operation, 1.0)]])
    images = pixels(5, 3, 16)
    assert torch.equal(applied(policy, images, torch.full((5,), len(policy.operations) - 1)), images)


def test_a_policy_without_operations_changes_nothing():
    policy = make_policy("trivial", 8)
    images = pixels(6, 1, 8)
    assert torch.equal(applied(policy, images, torch.zeros(6, dtype=torch.int64)), images)


def test_the_images_given_are_left_as_they_are():
    policy = make_policy("autoaugment", 8)
    images = pixels(40, 3, 8)
    before = images.clone()
    applied(policy, images, torch.arange(40) % len(policy.operations))
    assert torch.equal(images, before)


def test_each_image_of_a_batch_keeps_its_place():
    policy = Policy([[(Op("Invert"), 1.0)], [(Op("Equalize"), 1.0)], [(Op("Rotate", 90.0), 1.0)]])
    images, names = pixels(8, 3, 8), [operation.name for operation in policy.operations]
    codes = torch.tensor([names.index(name) for name in ["Invert", "Rotate", "Equalize", "Identity"] * 2])
    results = applied(policy, images, codes)
    rotation = policy.operations[names.index("Rotate")].magnitude
    for start in (0, 4):
        assert torch.equal(results[start], F.invert(images[start]))
        assert torch.equal(results[start + 1], F.rotate(images[start + 1], rotation))
        assert torch.equal(results[start + 2], F.equalize(images[start + 2]))
        assert torch.equal(results[start + 3], images[start + 3])
