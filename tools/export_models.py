#!/usr/bin/python3
"""Exports the networks that tests and benchmarks use: torchvision's, and those of tools/own_networks.py.

Runs with Debian's python3-torch and python3-torchvision. Weights are random with fixed seeds, scaled
so that activations keep their size through the depth of the network. Batch norm statistics are
those of random data, mildly disturbed, and batch norm stays in most files, so folding it is work.

usage: export_models.py FOLDER [NAME...]      existing files of the same recipe are kept
"""

import os
import sys
import zlib

# Raise a number when the content of the file changes.
RECIPES = {"resnet50": "2", "mobilenet_v2": "2", "bert_base_128": "1", "mobilenet_v3_large": "1",
           "efficientnet_b0": "1", "vit_b_16": "1", "convnext_tiny": "1", "detector": "1"}
OPSET = 14  # before LayerNormalization: norms arrive in pieces, as in most published files


def image_network(name):
    import torch
    import torchvision

    from random_weights import draw_weights, settle_batch_norms

    torch.manual_seed(zlib.crc32(name.encode()))
    net = getattr(torchvision.models, name)(weights=None).eval()
    with torch.no_grad():
        draw_weights(net)
        settle_batch_norms(net, lambda n: n(torch.randn(8, 3, 224, 224)))
    return {
        "model": net,
        # Keeps the module in evaluation mode, as it is, but leaves batch norm unfolded.
        "training": torch.onnx.TrainingMode.PRESERVE,
        "fold": False,
        "args": (torch.randn(2, 3, 224, 224),),
        "input_names": ["input"],
        "output_names": ["logits"],
        "dynamic_axes": {"input": {0: "N"}, "logits": {0: "N"}},
    }


def specification(name):
    if name in ("bert_base_128", "detector"):
        import own_networks

        return own_networks.bert_base() if name == "bert_base_128" else own_networks.detector()
    return image_network(name)


def export(folder, name):
    import torch

    target = os.path.join(folder, name + ".onnx")
    spec = specification(name)
    # Gradients stay enabled: without them PyTorch may take fused paths that have no ONNX form.
    work = f"{target}.tmp.{os.getpid()}"
    try:
        with torch.enable_grad():
            torch.onnx.export(
                spec["model"], spec["args"], work, opset_version=OPSET,
                training=spec["training"], do_constant_folding=spec["fold"],
                input_names=spec["input_names"], output_names=spec["output_names"],
                dynamic_axes=spec["dynamic_axes"])
        if os.path.exists(target + ".recipe"):
            os.remove(target + ".recipe")
        os.replace(work, target)
    finally:
        if os.path.exists(work):
            os.remove(work)
    with open(work, "w", encoding="ascii") as out:
        out.write(RECIPES[name])
    os.replace(work, target + ".recipe")


def present(folder, name):
    target = os.path.join(folder, name + ".onnx")
    try:
        with open(target + ".recipe", encoding="ascii") as file:
            return os.path.getsize(target) > 0 and file.read() == RECIPES[name]
    except OSError:
        return False


def main():
    arguments = sys.argv[2:]
    if len(sys.argv) < 2 or not set(arguments) <= set(RECIPES):
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name in arguments or RECIPES:
        if not present(folder, name):
            print(f"exporting {name}", flush=True)
            export(folder, name)


if __name__ == "__main__":
    main()
