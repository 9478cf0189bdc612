"""The architectures, with the smallest inputs that they take without degenerating. Read by export.py, under Debian's
Python, and by compare.py, which has no PyTorch; so this page imports neither.

Options: `size` of the picture (64 if left out), `make` arguments of the constructor, `since` and `until` the opsets that
PyTorch writes it in rightly, `kind` (else a classifier), `heads` the size of a detector's last weights.
"""

OPSETS = range(9, 18)  # that PyTorch 1.13 writes; the networks take them in turn


def _all(names, **options):
    return [(name, options) for name in names.split()]


_CLASSIFIERS = [
    *_all("alexnet", size=224),  # its pool to 6x6 is written for sizes that 6 divides
    *_all("vgg11_bn", size=224),
    *_all("squeezenet1_0 squeezenet1_1"),
    *_all("resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d wide_resnet50_2"),
    *_all("densenet121 densenet161 densenet169"),
    *_all("googlenet", make={"aux_logits": False, "init_weights": False}),
    *_all("inception_v3", size=96, make={"aux_logits": False, "init_weights": False}),
    *_all("mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3"),
    *_all("mobilenet_v2 mobilenet_v3_large mobilenet_v3_small"),
    *_all("shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0", since=11),
    *_all("efficientnet_b0 efficientnet_b1 efficientnet_b2"),
    *_all("efficientnet_b3 efficientnet_b4 efficientnet_v2_s", size=128),
    *_all("regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf"),
    *_all("regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf"),
    *_all("convnext_tiny"),
    *_all("swin_t swin_v2_t", since=11),
    *_all("vit_b_16 vit_b_32", make={"image_size": 64}),
    *_all("maxvit_t", size=224, since=11, make={"input_size": (224, 224)}),
]

_SEGMENTERS = _all(
    "fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large",
    kind="segmentation", since=11, make={"weights_backbone": None})

# RoiAlign of opset 16 and later is written with the default that changed then, and computes something else.
# Few candidates: with random weights, thousands would hold pairs that rounding puts in another order.
_REGIONS = {"weights_backbone": None, "min_size": 96, "max_size": 128, "rpn_pre_nms_top_n_test": 30,
            "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 10, "box_score_thresh": 0.01}
_ANCHORS = {"weights_backbone": None, "num_classes": 11, "topk_candidates": 30, "detections_per_img": 10}

_DETECTORS = [
    *_all("fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn "
          "maskrcnn_resnet50_fpn keypointrcnn_resnet50_fpn", kind="detection", size=96, since=11, until=15,
          make=_REGIONS),
    *_all("fcos_resnet50_fpn retinanet_resnet50_fpn", kind="detection", size=96, since=11,
          make={**_ANCHORS, "min_size": 96, "max_size": 128}),
    *_all("ssd300_vgg16", kind="detection", size=96, since=11, make=_ANCHORS, heads=0.05),
    *_all("ssdlite320_mobilenet_v3_large", kind="detection", size=320, since=11, make=_ANCHORS),
]

_VIDEO = [
    *_all("r3d_18 mc3_18 r2plus1d_18", kind="video", size=48),
    *_all("mvit_v1_b", kind="video", since=13),
]

_FLOW = _all("raft_small raft_large", kind="optical_flow", size=128, since=16)

NETWORKS = dict(_CLASSIFIERS + _SEGMENTERS + _DETECTORS + _VIDEO + _FLOW)
