"""A latency model: milliseconds of a network on one device, from counts that are known before anything is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mgnas.settings import settings

from ..models.cost import Cost

_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def amounts(cost: Cost) -> tuple[float, ...]:
    """What the times of a `LatencyModel` are multiplied by, in their order."""
    millions = (cost.macs - cost.grouped_macs, cost.unfolded, cost.written, cost.transferred)
    return 1, cost.calls, cost.groups, *(count / 1e6 for count in millions)


@settings
class LatencyModel:
    """Milliseconds for one image, as a sum over what the network does. None of the times is negative."""

    network: _NotNegative = 0.0
    """Per network."""
    calls: _NotNegative = 0.0
    """Per run of a convolution, of a transfer between channel levels, or of the linear layer."""
    groups: _NotNegative = 0.0
    """Per group in each run of a grouped convolution that is not depthwise."""
    dense: _NotNegative = 0.0
    """Per million multiply-accumulates in convolutions of one group and in the linear layer."""
    unfolded: _NotNegative = 0.0
    """Per million values under the kernels of such grouped convolutions."""
    written: _NotNegative = 0.0
    """Per million values that convolutions write, and that batch norms, ReLU and additions then read and write."""
    transferred: _NotNegative = 0.0
    """Per million values that transfers without weights between channel levels write."""

    def milliseconds(self, cost: Cost) -> float:
        """For one image."""
        times = (self.network, self.calls, self.groups, self.dense, self.unfolded, self.written, self.transferred)
        return sum(time * amount for time, amount in zip(times, amounts(cost), strict=True))
