"""Random weights for torchvision's architectures and the like, such that a network computes something: activations keep
their size through the depth, nothing is left as the constructor says, and what rounding changes stays small.

Read by what exports networks, under Debian's Python: tools/export_models.py and tests/torchvision.
"""

from torch import nn
from torchvision.models import efficientnet, mobilenetv2, mobilenetv3, resnet, swin_transformer
from torchvision.ops import misc

import torch

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RESIDUAL = (resnet.BasicBlock, resnet.Bottleneck, efficientnet.MBConv, efficientnet.FusedMBConv,
            mobilenetv2.InvertedResidual, mobilenetv3.InvertedResidual)
NORMS = BATCH_NORMS + (nn.LayerNorm, nn.GroupNorm, misc.FrozenBatchNorm2d)

PREDICTORS = {"bbox_pred", "cls_logits", "cls_score", "bbox_reg", "bbox_ctrness", "mask_fcn_logits", "kps_score_lowres",
              "module_list"}


def draw_weights(net, heads=0.1):
    """Products keep the size of activations, biases and norms are visible; `heads` is the size of a detector's last
    weights."""
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
        branches = [getattr(module, name) for name in ("bn3", "bn2", "block", "conv") if hasattr(module, name)]
        if isinstance(module, RESIDUAL) and branches and getattr(module, "use_res_connect", True):
            [m for m in branches[0].modules() if isinstance(m, BATCH_NORMS)][-1].weight.mul_(0.3)
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
