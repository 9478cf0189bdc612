"""Networks that tests and benchmarks use and torchvision lacks: a BERT-base encoder and a detector of objects.

Each function gives what tools/export_models.py hands to PyTorch's exporter.
"""

import torch
from torch import nn
from torch.nn import functional

from random_weights import draw_weights, settle_batch_norms


def bert_base():
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


class Step(nn.Module):
    """Convolution, batch norm, SiLU: what a YOLO is made of."""

    def __init__(self, inputs, outputs, size=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return functional.silu(self.norm(self.conv(x)))


class Stage(nn.Module):
    """A cross stage partial block: half of the channels pass `depth` residual pairs of 3x3, and every pair's result is
    kept for the last 1x1."""

    def __init__(self, inputs, outputs, depth, residual):
        super().__init__()
        self.half, self.residual = outputs // 2, residual
        self.first = Step(inputs, outputs)
        self.pairs = nn.ModuleList(nn.Sequential(Step(self.half, self.half, 3), Step(self.half, self.half, 3))
                                   for _ in range(depth))
        self.last = Step((2 + depth) * self.half, outputs)

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for pair in self.pairs:
            made = pair(parts[-1])
            parts.append(parts[-1] + made if self.residual else made)
        return self.last(torch.cat(parts, 1))


class Pyramid(nn.Module):
    """Maxima over 5x5, 9x9 and 13x13, as three poolings in a row."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.last = Step(channels, channels // 2), Step(2 * channels, channels)

    def forward(self, x):
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """Backbone, two ways through a pyramid of features, and a head at each of three scales. A head gives for every cell
    the distances to the sides of a box, each as the mean of a distribution over 16 distances, and a score per class."""

    classes, bins = 80, 16

    def __init__(self, size, width):
        super().__init__()
        c = [width << n for n in range(5)]
        self.stem = nn.Sequential(Step(3, c[0], 3, 2), Step(c[0], c[1], 3, 2), Stage(c[1], c[1], 1, True))
        self.down3 = nn.Sequential(Step(c[1], c[2], 3, 2), Stage(c[2], c[2], 2, True))
        self.down4 = nn.Sequential(Step(c[2], c[3], 3, 2), Stage(c[3], c[3], 2, True))
        self.down5 = nn.Sequential(Step(c[3], c[4], 3, 2), Stage(c[4], c[4], 1, True), Pyramid(c[4]))
        self.up4, self.up3 = Stage(c[4] + c[3], c[3], 1, False), Stage(c[3] + c[2], c[2], 1, False)
        self.pool4, self.pool5 = Step(c[2], c[2], 3, 2), Step(c[3], c[3], 3, 2)
        self.again4, self.again5 = Stage(c[3] + c[2], c[3], 1, False), Stage(c[4] + c[3], c[4], 1, False)
        boxes = max(16, c[2] // 4, 4 * self.bins)
        scores = max(c[2], min(self.classes, 100))
        self.boxes = nn.ModuleList(nn.Sequential(Step(n, boxes, 3), Step(boxes, boxes, 3),
                                                 nn.Conv2d(boxes, 4 * self.bins, 1)) for n in c[2:])
        self.scores = nn.ModuleList(nn.Sequential(Step(n, scores, 3), Step(scores, scores, 3),
                                                  nn.Conv2d(scores, self.classes, 1)) for n in c[2:])
        cells, strides = [], []
        for stride in (8, 16, 32):
            ys, xs = torch.meshgrid(*[torch.arange(size // stride) + 0.5] * 2, indexing="ij")
            cells.append(torch.stack([xs.flatten(), ys.flatten()]))
            strides.append(torch.full((1, xs.numel()), float(stride)))
        self.register_buffer("cells", torch.cat(cells, 1)[None])
        self.register_buffer("strides", torch.cat(strides, 1))
        self.register_buffer("distances", torch.arange(float(self.bins)).view(1, self.bins, 1, 1))

    def forward(self, x):
        p3 = self.down3(self.stem(x))
        p4 = self.down4(p3)
        p5 = self.down5(p4)
        twice = lambda t: functional.interpolate(t, scale_factor=2.0, mode="nearest")
        n4 = self.up4(torch.cat([twice(p5), p4], 1))
        n3 = self.up3(torch.cat([twice(n4), p3], 1))
        n4 = self.again4(torch.cat([self.pool4(n3), n4], 1))
        n5 = self.again5(torch.cat([self.pool5(n4), p5], 1))
        levels = (n3, n4, n5)
        sides = torch.cat([head(t).flatten(2) for head, t in zip(self.boxes, levels)], 2)
        scores = torch.cat([head(t).flatten(2) for head, t in zip(self.scores, levels)], 2)
        n, _, cells = sides.shape
        shares = sides.view(n, 4, self.bins, cells).transpose(1, 2).softmax(1)
        left_top, right_bottom = (shares * self.distances).sum(1).chunk(2, 1)
        low, high = self.cells - left_top, self.cells + right_bottom
        boxes = torch.cat([(low + high) / 2, high - low], 1) * self.strides
        return boxes, scores.sigmoid()


def detector():
    torch.manual_seed(640)
    net = Detector(640, 32).eval()
    with torch.no_grad():
        draw_weights(net)
        for module in net.modules():
            if isinstance(module, Stage) and module.residual:
                for pair in module.pairs:
                    pair[1].norm.weight.mul_(0.3)  # see draw_weights
        for head in (*net.boxes, *net.scores):
            head[2].weight.mul_(0.3)
        settle_batch_norms(net, lambda n: n(torch.rand(2, 3, 640, 640)))
    return {
        "model": net,
        "training": torch.onnx.TrainingMode.EVAL,  # published files have their batch norms folded
        "fold": True,
        "args": (torch.rand(1, 3, 640, 640),),
        "input_names": ["images"],
        "output_names": ["boxes", "scores"],
        "dynamic_axes": None,
    }
