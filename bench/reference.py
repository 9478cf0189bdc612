"""What a network should give, in double precision: ONNX's reference evaluator runs the model with every float32 made
float64. Kept in .cache/references by the contents of model and inputs, since it may take a minute."""

import hashlib
import os

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import measure
import models

FOLDER = os.path.join(models.ROOT, ".cache", "references")


class BatchNormalization(OpRun):
    """As networks run it. The evaluator's own of opsets 9 to 13 takes a momentum for training."""

    def _run(self, x, scale, bias, mean, var, epsilon=None, momentum=None, training_mode=None):
        if training_mode:
            raise NotImplementedError("BatchNormalization in training mode")
        across = lambda v: v.reshape(-1, *[1] * (x.ndim - 2))
        return ((x - across(mean)) * across(scale / np.sqrt(var + epsilon)) + across(bias),)


def _wide_tensor(tensor):
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _wide_types(values):
    for value in values:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE


def _widen(graph):
    for tensor in graph.initializer:
        _wide_tensor(tensor)
    for values in (graph.input, graph.output):
        _wide_types(values)
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _wide_tensor(attribute.t)
            if attribute.HasField("g"):
                _widen(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                attribute.CopyFrom(onnx.helper.make_attribute(
                    "value", numpy_helper.from_array(np.array(values, np.float64))))


def _evaluated(path, inputs):
    model = onnx.load(path)
    _widen(model.graph)
    wide = {key: x.astype(np.float64) if x.dtype == np.float32 else x for key, x in inputs.items()}
    names = [o.name for o in model.graph.output]
    return dict(zip(names, (np.asarray(x) for x in ReferenceEvaluator(model, new_ops=[BatchNormalization]).run(None, wide))))


def outputs(name, inputs, otherwise):
    """({output: array}, where it comes from); `otherwise` where the evaluator cannot run the model."""
    digest = hashlib.sha256(open(__file__, "rb").read())
    with open(models.path(name), "rb") as file:
        digest.update(file.read())
    for key in sorted(inputs):
        digest.update(key.encode() + inputs[key].tobytes())
    kept = os.path.join(FOLDER, f"{name}-{digest.hexdigest()[:16]}.npz")
    if not os.path.exists(kept):
        try:
            made = _evaluated(models.path(name), inputs)
        except Exception as error:  # whatever an operator of the evaluator may say
            return otherwise, f"{name}: ONNX Runtime fp32 ({measure.told(error)})"
        os.makedirs(FOLDER, exist_ok=True)
        work = f"{kept}.{os.getpid()}.npz"
        np.savez(work, **made)
        os.replace(work, kept)
    with np.load(kept) as file:
        return dict(file), "ONNX's reference evaluator in float64"
