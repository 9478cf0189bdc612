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
from torchvision.models.video import mvit

from networks import NETWORKS, OPSETS

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from random_weights import draw_weights, settle_batch_norms  # noqa: E402

FRAMES = 8  # of a clip
FLOW = {"num_flow_updates": 2}


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
