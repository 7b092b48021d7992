"""Batch norm folded into the convolution before it, where that is exact.

    bn(k x) = gamma (k x - mean) / s + beta = (gamma / s) k x + (beta - gamma mean / s),   s = sqrt(var + eps)

holds for a convolution k whose output goes into one batch norm and nowhere else. It does not for an operator that
several smoothing steps share (each has its own batch norm: folding would take a copy of B per step, and with it the
sharing), nor for bn1 of a smoothing step, whose input f - A u is a sum. The normalisation of the images stays out as
well: a zero at the border of a normalised image is not a zero of the raw one.
"""

from __future__ import annotations

import collections
import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...models.layers import Convolution


class _Tracer(fx.Tracer):
    """Takes mgnas's convolutions for single operations, as torch's own layers are."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return type(module) is Convolution or super().is_leaf_module(module, module_qualified_name)


def fold_batch_norms(network: nn.Module) -> tuple[fx.GraphModule, int]:
    """A copy of a network in evaluation mode that computes the same with fewer operations.

    Args:
        network: of mgnas; not changed.

    Returns:
        the copy, and how many batch norms were folded.
    """
    copied = copy.deepcopy(network).eval()
    graph_module = fx.GraphModule(copied, _Tracer().trace(copied))
    modules = dict(graph_module.named_modules())
    calls = collections.Counter(node.target for node in graph_module.graph.nodes if node.op == "call_module")
    folded = 0
    for norm in list(graph_module.graph.nodes):
        if norm.op != "call_module" or not isinstance(modules[norm.target], nn.BatchNorm2d):
            continue
        conv = norm.args[0]
        if conv.op != "call_module" or type(modules[conv.target]) is not Convolution or len(conv.users) > 1:
            continue
        if calls[conv.target] > 1 or calls[norm.target] > 1:
            continue
        graph_module.set_submodule(conv.target, fuse_conv_bn_eval(modules[conv.target], modules[norm.target]))
        norm.replace_all_uses_with(conv)
        graph_module.graph.erase_node(norm)
        folded += 1
    graph_module.graph.lint()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module.eval(), folded
