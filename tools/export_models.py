#!/usr/bin/python3
"""Exports the networks that tests and benchmarks use: ResNet-50, MobileNetV2, a BERT-base encoder.

Runs with Debian's python3-torch and python3-torchvision. Weights are random with fixed seeds, scaled
so that activations keep their size through the depth of the network. Batch norm statistics are
those of random data, mildly disturbed, and batch norm stays in the file, so folding it is work.

usage: export_models.py FOLDER [NAME]...      existing files of the same recipe are kept
"""

import os
import sys

RECIPE = "1"  # raise when the content of a file changes
NAMES = ("resnet50", "mobilenet_v2", "bert_base_128")
OPSET = 14  # before LayerNormalization: norms arrive in pieces, as in most published files


def image_network(name):
    import torch
    import torchvision

    torch.manual_seed(sum(map(ord, name)))
    net = getattr(torchvision.models, name)(weights=None)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # plain average over the batches below
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(0.0, 0.1)
        net.train()
        for _ in range(2):
            net(torch.randn(4, 3, 224, 224))
        net.eval()
        for norm in norms:
            spread = norm.running_var.sqrt()
            norm.running_mean += 0.1 * spread * torch.randn_like(spread)
            norm.running_var *= torch.empty_like(spread).uniform_(0.8, 1.25)
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


def bert_base():
    import torch
    from torch import nn

    width, heads, depth, hidden, words, positions = 768, 12, 12, 3072, 30522, 512

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
            self.value = nn.Linear(width, width)
            self.output = nn.Linear(width, width)

        def split(self, x):
            n, s, _ = x.shape
            return x.view(n, s, heads, width // heads).permute(0, 2, 1, 3)

        def forward(self, x, bias):
            q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
            scores = q.matmul(k.transpose(-1, -2)) / (width // heads) ** 0.5 + bias
            mixed = torch.softmax(scores, dim=-1).matmul(v)
            n, _, s, _ = mixed.shape
            return self.output(mixed.permute(0, 2, 1, 3).reshape(n, s, width))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention()
            self.attention_norm = nn.LayerNorm(width, eps=1e-12)
            self.up = nn.Linear(width, hidden)
            self.down = nn.Linear(hidden, width)
            self.output_norm = nn.LayerNorm(width, eps=1e-12)

        def forward(self, x, bias):
            x = self.attention_norm(x + self.attention(x, bias))
            return self.output_norm(x + self.down(nn.functional.gelu(self.up(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.word = nn.Embedding(words, width)
            self.position = nn.Embedding(positions, width)
            self.kind = nn.Embedding(2, width)
            self.norm = nn.LayerNorm(width, eps=1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(depth))
            self.register_buffer("ids", torch.arange(positions).unsqueeze(0))

        def forward(self, input_ids, attention_mask, token_type_ids):
            place = self.ids[:, : input_ids.shape[1]]
            x = self.word(input_ids) + self.kind(token_type_ids) + self.position(place)
            x = self.norm(x)
            bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
            for layer in self.layers:
                x = layer(x, bias)
            return x

    torch.manual_seed(768)
    net = Encoder()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                # Query and key products get a spread of about 2, so that softmax has a shape.
                module.weight.normal_(0.0, 0.05)
                module.bias.normal_(0.0, 0.05)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, 0.05)
            elif isinstance(module, nn.LayerNorm):
                module.weight.normal_(1.0, 0.1)
                module.bias.normal_(0.0, 0.1)
    net.eval()
    ids = torch.randint(0, words, (2, 128))
    mask = torch.ones(2, 128, dtype=torch.int64)
    mask[1, 100:] = 0
    types = torch.zeros(2, 128, dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    return {
        "model": net,
        "training": torch.onnx.TrainingMode.EVAL,
        "fold": True,
        "args": (ids, mask, types),
        "input_names": names,
        "output_names": ["last_hidden_state"],
        "dynamic_axes": {n: {0: "N", 1: "S"} for n in names + ["last_hidden_state"]},
    }


def export(folder, name):
    import torch

    target = os.path.join(folder, name + ".onnx")
    spec = bert_base() if name == "bert_base_128" else image_network(name)
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
        out.write(RECIPE)
    os.replace(work, target + ".recipe")


def present(folder, name):
    target = os.path.join(folder, name + ".onnx")
    try:
        with open(target + ".recipe", encoding="ascii") as file:
            return os.path.getsize(target) > 0 and file.read() == RECIPE
    except OSError:
        return False


def main():
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(NAMES):
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name in sys.argv[2:] or NAMES:
        if not present(folder, name):
            print(f"exporting {name}", flush=True)
            export(folder, name)


if __name__ == "__main__":
    main()
