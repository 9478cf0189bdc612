"""The networks that tests and benchmarks share: where they lie, and inputs that mean something at several sizes."""

import os

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, ".cache", "models")


def path(name):
    return os.path.join(FOLDER, name + ".onnx")


def _image(n, c, h, w):
    return lambda rng: {"x": rng.standard_normal((n, c, h, w), dtype=np.float32)}


def _text_picture(h, w):
    """Dark text on light paper in [-1, 1]. (On noise the detector's outputs are all near zero, and say nothing.)"""
    def make(rng):
        from PIL import Image, ImageDraw, ImageFont
        picture = Image.new("RGB", (w, h), (245, 240, 230))
        draw = ImageDraw.Draw(picture)
        for y in range(8, h - 24, 40):
            text = "".join(chr(c) for c in rng.integers(97, 123, 6)) + " reads " + str(int(rng.integers(1000, 9999)))
            draw.text((12 + int(rng.integers(0, 30)), y), text, fill=(30, 30, 60), font=ImageFont.load_default(24))
        x = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        return {"x": np.ascontiguousarray(x)}
    return make


def _torch_image(n):
    return lambda rng: {"input": rng.standard_normal((n, 3, 224, 224), dtype=np.float32)}


def _picture(h, w):
    return lambda rng: {"images": rng.random((1, 3, h, w), dtype=np.float32)}


def _silero(n, samples, rate):
    def make(rng):
        speech = 0.1 * np.sin(np.arange(samples, dtype=np.float32) * 0.05) + 0.05 * rng.standard_normal((n, samples))
        return {"input": speech.astype(np.float32), "state": 0.1 * rng.standard_normal((2, n, 128), dtype=np.float32),
                "sr": np.array(rate, dtype=np.int64)}
    return make


def _magika(n):
    return lambda rng: {"bytes": rng.integers(0, 257, (n, 2048), dtype=np.int32)}


def _basic_pitch(n):
    return lambda rng: {"serving_default_input_2:0": 0.1 * rng.standard_normal((n, 43844, 1), dtype=np.float32)}


def _swift_f0(samples):
    def make(rng):
        t = np.arange(samples) / 16000.0
        tone = 0.5 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 440 * t)
        return {"audio": (tone + 0.01 * rng.standard_normal(samples)).astype(np.float32)[None],
                "fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
    return make


def _bert(n, s):
    def make(rng):
        mask = np.ones((n, s), np.int64)
        mask[:, s - s // 8:] = 0
        return {"input_ids": rng.integers(0, 30522, (n, s)), "attention_mask": mask,
                "token_type_ids": np.zeros((n, s), np.int64)}
    return make


def _light(shape):
    # The suite's own input: a ramp over [0, 1).
    count = int(np.prod(shape))
    return lambda rng: {None: (np.arange(count, dtype=np.float32) / count).reshape(shape)}


# name: [(label, inputs)]
MODELS = {
    "ppocr_det": [(f"{h}x{w}", _text_picture(h, w)) for h, w in ((640, 640), (320, 480), (96, 736))],
    "ppocr_cls": [(f"{n}x48x192", _image(n, 3, 48, 192)) for n in (1, 6, 3)],
    "ppocr_rec": [(f"{n}x48x{w}", _image(n, 3, 48, w)) for n, w in ((1, 320), (6, 160), (2, 517))],
    "silero_vad": [("16 kHz", _silero(1, 576, 16000)), ("8 kHz", _silero(1, 288, 8000)), ("3 streams", _silero(3, 576, 16000))],
    "magika": [(f"{n} files", _magika(n)) for n in (1, 4, 7)],
    "basic_pitch": [(f"{n} windows", _basic_pitch(n)) for n in (1, 2, 3)],
    "swift_f0": [(f"{n} samples", _swift_f0(n)) for n in (16000, 4800, 23456)],
    "light_bvlc_alexnet": [("fixed", _light((1, 3, 224, 224)))],
    "light_densenet121": [("fixed", _light((1, 3, 224, 224)))],
    "light_inception_v1": [("fixed", _light((1, 3, 224, 224)))],
    "light_inception_v2": [("fixed", _light((1, 3, 224, 224)))],
    "light_resnet50": [("fixed", _light((1, 3, 224, 224)))],
    "light_shufflenet": [("fixed", _light((1, 3, 224, 224)))],
    "light_squeezenet": [("fixed", _light((1, 3, 224, 224)))],
    "light_vgg19": [("fixed", _light((1, 3, 224, 224)))],
    "light_zfnet512": [("fixed", _light((1, 3, 224, 224)))],
    "resnet50": [(f"batch {n}", _torch_image(n)) for n in (1, 2)],
    "mobilenet_v2": [(f"batch {n}", _torch_image(n)) for n in (1, 3)],
    "mobilenet_v3_large": [(f"batch {n}", _torch_image(n)) for n in (1, 2)],
    "efficientnet_b0": [(f"batch {n}", _torch_image(n)) for n in (1, 2)],
    "vit_b_16": [(f"batch {n}", _torch_image(n)) for n in (1, 2)],
    "convnext_tiny": [(f"batch {n}", _torch_image(n)) for n in (1, 2)],
    "detector": [("640x640", _picture(640, 640))],
    "bert_base_128": [(f"{n}x{s}", _bert(n, s)) for n, s in ((1, 128), (2, 37))],
}


def inputs(name, index, names, seed=0):
    """Inputs of one size point as {name: array}; `names` are the model's own input names, for those known by place."""
    made = MODELS[name][index][1](np.random.default_rng(seed + index))
    return {names[0] if key is None else key: value for key, value in made.items()}
