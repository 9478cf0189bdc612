#!/usr/bin/python3
"""Exports torchvision's architectures with random weights: FOLDER/NAME.onnx, inputs and PyTorch's outputs beside it.

Runs with Debian's python3-torch and python3-torchvision, one network for each line of standard input; answers each with
a line: the name, or the name and what went wrong.

usage: export.py FOLDER < names
"""

import contextlib
import os
import sys
import warnings
import zlib

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import efficientnet, mobilenetv3, resnet, swin_transformer
from torchvision.models.video import mvit
from torchvision.ops import misc

from networks import NETWORKS, OPSETS

FRAMES = 8  # of a clip
FLOW = {"num_flow_updates": 2}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RESIDUAL = (resnet.BasicBlock, resnet.Bottleneck, efficientnet.MBConv, efficientnet.FusedMBConv,
            mobilenetv3.InvertedResidual)
NORMS = BATCH_NORMS + (nn.LayerNorm, nn.GroupNorm, misc.FrozenBatchNorm2d)

PREDICTORS = {"bbox_pred", "cls_logits", "cls_score", "bbox_reg", "bbox_ctrness", "mask_fcn_logits", "kps_score_lowres",
              "module_list"}


@contextlib.contextmanager
def without_initialization():
    """All weights are drawn afterwards; drawing them twice would be most of the time that a large network takes."""
    names = [n for n in dir(nn.init) if n.startswith(("kaiming_", "xavier_", "normal_", "uniform_", "trunc_normal_"))]
    kept = {name: getattr(nn.init, name) for name in names}
    for name in names:
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(nn.init, name, function)


@contextlib.contextmanager
def small_mvit(size):
    """torchvision's own functions make MViT for 16 frames of 224x224 alone."""
    kept = mvit.MViT
    mvit.MViT = lambda **given: kept(**{**given, "spatial_size": (size, size), "temporal_size": FRAMES})
    try:
        yield
    finally:
        mvit.MViT = kept


def draw_weights(net, heads):
    """Products keep the size of activations, biases and norms are visible, nothing is left as the constructor says."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, NORMS):
                parameter.uniform_(0.7, 1.3) if name == "weight" else parameter.uniform_(-0.2, 0.2)
            elif name == "logit_scale":
                pass  # of cosine attention: has its meaning from the constructor
            elif name == "layer_scale":
                parameter.uniform_(0.1, 0.5)
            elif parameter.ndim >= 2 and name.endswith("weight"):
                transposed = isinstance(module, nn.ConvTranspose2d)
                inputs = parameter.shape[0] if transposed else parameter[0].numel()
                parameter.uniform_(-1, 1).mul_((5 / inputs) ** 0.5)
            else:
                parameter.uniform_(-0.2, 0.2)
    for name, parameter in net.named_parameters():
        # Boxes are exponentials of what these give, scores are near 0 or 1 where it is large.
        if PREDICTORS.intersection(name.split(".")):
            parameter.mul_(0.5 if "cls_score" in name else heads)
    for module in net.modules():
        # A branch that adds as much as it is given, dozens of times, magnifies rounding a thousandfold.
        branch = getattr(module, "bn3", getattr(module, "bn2", getattr(module, "block", None)))
        if isinstance(module, RESIDUAL) and branch is not None:
            [m for m in branch.modules() if isinstance(m, BATCH_NORMS)][-1].weight.mul_(0.3)
        if isinstance(module, swin_transformer.ShiftedWindowAttentionV2):
            third = module.qkv.bias.numel() // 3  # of keys: forward() takes it for 0, the exporter does not
            module.qkv.bias[third:2 * third] = 0


def settle_batch_norms(net, example):
    """Statistics of random data, mildly disturbed."""
    norms = [m for m in net.modules() if isinstance(m, BATCH_NORMS)]
    for norm in norms:
        norm.momentum = None  # plain average
        norm.train()
    if norms:
        example(net)
    for norm in norms:
        norm.eval()
        spread = norm.running_var.sqrt() + 1e-3
        norm.running_mean += 0.1 * spread * torch.randn_like(spread)
        norm.running_var.mul_(torch.empty_like(spread).uniform_(0.8, 1.25)).add_(1e-3)


def zero(graph, value):
    """Swin V2 sets a slice of its bias to 0 in place. It is 0 already: what the exporter makes of it is read by nobody."""
    return graph.op("Sub", value, value)


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [tensor for part in value for tensor in flat(part)]


def prepared(name):
    """(network, arguments that are traced, arguments that are run)"""
    options = NETWORKS[name]
    kind, size = options.get("kind"), options.get("size", 64)
    constructors = getattr(torchvision.models, kind) if kind else torchvision.models
    with without_initialization(), small_mvit(size):
        net = getattr(constructors, name)(weights=None, **options.get("make", {})).eval()
    shape = (3, FRAMES, size, size) if kind == "video" else (3, size, size)
    with torch.no_grad():
        draw_weights(net, options.get("heads", 0.1))
        if kind == "detection":
            pictures = [torch.rand(3, size, size * 5 // 4) for _ in range(4)]
            settle_batch_norms(net, lambda n: n(pictures))
            return net, (pictures[:1],), (pictures[:1],)
        if kind == "optical_flow":
            first = torch.rand(2, *shape) * 2 - 1
            pair = (first, first.roll((2, 3), (2, 3)) + 0.05 * torch.randn(2, *shape))
            settle_batch_norms(net, lambda n: n(*pair, **FLOW))
            return net, (*pair, FLOW), pair
        batch = torch.randn(2, *shape)
        settle_batch_norms(net, lambda n: n(torch.randn(2 if kind == "video" else 4, *shape)))
    return net, (batch[:1],), (batch,)


def opset_of(name):
    options = NETWORKS[name]
    usable = [o for o in OPSETS if options.get("since", 0) <= o <= options.get("until", 99)]
    return usable[list(NETWORKS).index(name) % len(usable)]


def export(folder, name):
    torch.manual_seed(zlib.crc32(name.encode()))
    options = NETWORKS[name]
    net, traced, run = prepared(name)
    # Gradients stay enabled: without them PyTorch takes fused paths of attention that have no ONNX form.
    wanted = flat(net(*run, **(FLOW if options.get("kind") == "optical_flow" else {})))
    inputs = flat(run)
    names = [f"input{i}" for i in range(len(inputs))]
    open_batch = options.get("kind") in (None, "segmentation", "video")
    torch.onnx.export(
        net, traced, os.path.join(folder, name + ".onnx"),
        opset_version=opset_of(name),
        input_names=names, output_names=[f"output{i}" for i in range(len(wanted))],
        dynamic_axes={n: {0: "N"} for n in names} if open_batch else None)
    np.savez(os.path.join(folder, name + ".npz"),
             **{n: value.detach().numpy() for n, value in zip(names, inputs)},
             **{f"output{i}": value.detach().numpy() for i, value in enumerate(wanted)})


def main():
    folder = sys.argv[1]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for opset in OPSETS:
        torch.onnx.register_custom_op_symbolic("aten::zero", zero, opset)
    for line in sys.stdin:
        name = line.strip()
        try:
            export(folder, name)
            print(name, flush=True)
        except Exception as error:  # the other networks go on
            print(name, f"{type(error).__name__}: {error}".replace("\n", " ")[:600], flush=True)


if __name__ == "__main__":
    main()
