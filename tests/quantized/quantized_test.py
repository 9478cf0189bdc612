"""Networks that ONNX Runtime's tools quantized, beside ONNX Runtime; prints a line for each.

An output agrees when every element is within 1 % of the output's range of what ONNX Runtime gives, optimized and not.
The column "in itself" is how far those two are apart, and "to float" what quantization costs.

The networks are shallow on purpose. Values that are rounded to 8 bits differ by a whole step when f32 before them
differs in the last bit, a step is some thousand times the difference it came from, and every layer repeats that. A
dynamically quantized BERT (12 layers) shows it: the 8-bit values of its first layer and a half are the same, bit for
bit, as ONNX Runtime's without optimizations; then one in 200,000 is off by one, and ten times as many in each layer
that follows. The outputs end up 2.1 % of the range apart, while ONNX Runtime's own, with and without optimizations, are
3.1 % apart, and both are 4.5 to 5 % from the network before quantization. No rounding is wrong there. The transformer
below is quantized dynamically only, for the same reason: statically, in form QDQ, Sinter gives exactly what ONNX Runtime
does without optimizations, and what its fused kernels give is 2.3 % of the range away.

ONNX Runtime adds pairs of u8 x s8 products in 16 bits on machines with AVX2 but not VNNI, which saturates; it is told
not to.

usage: quantized_test.py [SUBSTRING]
"""

import logging
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models"))
from networks import NETWORKS, points  # noqa: E402
from saved import Failed, deviation, run_saved  # noqa: E402

OF_RANGE = 0.01
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}

def dynamic(weights, per_channel, reduced=False):
    def quantize(model, target, name):
        quantize_dynamic(model, target, weight_type=TYPES[weights], per_channel=per_channel, reduce_range=reduced)
    return quantize


class Calibration(CalibrationDataReader):
    def __init__(self, name):
        self.rest = iter(points(name))

    def get_next(self):
        return next(self.rest, None)


def static(form, activations, weights, per_channel):
    def quantize(model, target, name):
        quantize_static(model, target, Calibration(name), quant_format=form, per_channel=per_channel,
                        activation_type=TYPES[activations], weight_type=TYPES[weights])
    return quantize


DYNAMIC = {f"dynamic {w}{' by channel' * c}": dynamic(w, c) for w in TYPES for c in (False, True)}
DYNAMIC["dynamic s8 7 bits"] = dynamic("s8", False, reduced=True)
STATIC = {f"{form.name} {a}{w}{' by channel' * c}": static(form, a, w, c)
          for form in (QuantFormat.QDQ, QuantFormat.QOperator)
          for a, w in (("u8", "s8"), ("u8", "u8"), ("s8", "s8")) for c in (False, True)
          if form == QuantFormat.QDQ or a == "u8"}  # ONNX Runtime has no QGemm of s8

# The operators that show that the tool did something. (DynamicQuantizeLSTM rounds to 8 bits the state that it carries
# from step to step as well; Sinter carries it in f32, which is nearer to the network before quantization.)
EXPECTED = {"lstm_tagger": "DynamicQuantizeLSTM", "mlp": "MatMulInteger", "convnet": "ConvInteger",
            "transformer": "MatMulInteger"}


def by_onnxruntime(model, feeds, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, feed)[0] for feed in feeds]


def furthest(some, others):
    return max(deviation(a, b, relative=0)[1] for a, b in zip(some, others))


def check(name, label, quantize, folder):
    """(columns of the line, verdict or None)"""
    plain, target = (os.path.join(folder, f"{name}{suffix}.onnx") for suffix in ("", "_quantized"))
    onnx.save(NETWORKS[name][0](), plain)
    quantize(plain, target, name)
    operators = {node.op_type for node in onnx.load(target).graph.node}
    if label in DYNAMIC and EXPECTED[name] not in operators:
        raise Failed(f"the tool wrote no {EXPECTED[name]}, but {', '.join(sorted(operators))}")
    feeds = points(name)
    optimized = by_onnxruntime(target, feeds)
    written = by_onnxruntime(target, feeds, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    real = by_onnxruntime(plain, feeds)
    if not all(np.isfinite(y).all() and np.ptp(y) > 0.5 for y in real):
        raise Failed("the network's outputs say nothing")
    _, _, _, results = run_saved(target, feeds, threads=1)
    results = [result[0] for result in results]
    errors = furthest(results, optimized), furthest(results, written)
    columns = "".join(f"{e:>12.2%}" for e in (*errors, furthest(written, optimized), furthest(results, real)))
    return columns, None if max(errors) <= OF_RANGE else "DIFFERS"


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    logging.disable(logging.WARNING)
    passed = failed = 0
    print(f"{'network':<14}{'quantized':<28}{'optimized':>12}{'as written':>12}{'in itself':>12}{'to float':>12}  verdict")
    for name in NETWORKS:
        variants = {**DYNAMIC, **(STATIC if name in ("mlp", "convnet") else {})}
        for label, quantize in variants.items():
            if wanted not in f"{name} {label}":
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    columns, verdict = check(name, label, quantize, folder)
                except Exception as failure:  # of the tool or either side; the others go on
                    columns, verdict = "", f"FAILED: {failure}"
            passed += verdict is None
            failed += verdict is not None
            print(f"{name:<14}{label:<28}{columns}  {verdict or 'agrees'}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
