"""Builds an engine, saves it, loads it and runs it on random data: python first_run.py MODEL.onnx ENGINE [NAME=EXTENT]..."""

import sys

import numpy as np

import sinter

model, path = sys.argv[1:3]
extents = {name: int(value) for name, value in (a.split("=") for a in sys.argv[3:])}
sinter.build(model, progress=True).save(path)
engine = sinter.load(path)
rng = np.random.default_rng(0)
inputs = {}
for info in engine.inputs:
    shape = [extents.get(d, 1) if isinstance(d, str) else d for d in info.shape]
    inputs[info.name] = rng.standard_normal(shape).astype(info.dtype)
for name, value in engine.run(inputs).items():
    print(f"{name}: {value.dtype}{list(value.shape)}, mean {value.mean():.4g}")
