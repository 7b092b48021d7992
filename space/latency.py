"""A latency model: milliseconds of a network on one device, from counts that are known before anything is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mgnas.settings import settings

from ..models.cost import Cost

_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def amounts(cost: Cost) -> tuple[float, ...]:
    """What the times of a `LatencyModel` are multiplied by, in their order."""
    return 1, cost.calls, (cost.macs - cost.grouped_macs) / 1e6, cost.grouped_macs / 1e6, cost.written / 1e6


@settings
class LatencyModel:
    """Milliseconds for one image, as a sum over what the network does. None of the times is negative."""

    network: _NotNegative = 0.0
    """Per network."""
    calls: _NotNegative = 0.0
    """Per run of a convolution or of a transfer between channel levels."""
    dense: _NotNegative = 0.0
    """Per million multiply-accumulates in convolutions of one group."""
    grouped: _NotNegative = 0.0
    """Per million multiply-accumulates in grouped convolutions."""
    written: _NotNegative = 0.0
    """Per million values that convolutions and transfers write."""

    def milliseconds(self, cost: Cost) -> float:
        """For one image."""
        times = (self.network, self.calls, self.dense, self.grouped, self.written)
        return sum(time * amount for time, amount in zip(times, amounts(cost), strict=True))
