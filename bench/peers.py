"""What can run a model: Sinter in each of its classes of precision, ONNX Runtime, OpenVINO. Each by its own best switches:
the extents of the benchmark's inputs are fixed for all of them, all optimizations are on, and all get as many threads.

A candidate that cannot be had or cannot take the model raises; whoever asks makes an empty column of it.
"""

import models

# Sinter's classes, by the arguments of sinter.build.
CLASSES = {"default": {}, "strict": {"tf32": False}, "bf16": {"bf16": True}, "fp16": {"fp16": True}}
# What they are called in the columns, and the candidates that they are held against.
PEERS = {"ort": "ORT fp32", "openvino": "OV fp32", "openvino_bf16": "OV bf16"}


def opening(name, index=0):
    """Inputs of one size point by name, and what they make of the model's named extents."""
    import onnx

    graph = onnx.load(models.path(name), load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    declared = [i for i in graph.input if i.name not in weights]
    inputs = models.inputs(name, index, [i.name for i in declared])
    dims = {}
    for i in declared:
        for dim, extent in zip(i.type.tensor_type.shape.dim, inputs[i.name].shape):
            if dim.dim_param.replace("?", ""):  # some exporters write "?" for what has no name
                dims[dim.dim_param] = extent
    return inputs, dims


class Candidate:
    """run() runs once; outputs() gives {name: array} of a run; `precision` says how it multiplies."""

    def __init__(self, run, outputs, precision):
        self.run, self.outputs, self.precision = run, outputs, precision


def session(model, threads, dims=()):
    """ONNX Runtime's session for a model, given by its path or its bytes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for name in dims:
        options.add_free_dimension_override_by_name(name, dims[name])
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ort(name, inputs, dims, threads):
    made = session(models.path(name), threads, dims)
    names = [o.name for o in made.get_outputs()]
    run = lambda: made.run(names, inputs)
    return Candidate(run, lambda: dict(zip(names, run())), "fp32")


def compile_openvino(path, inputs, threads, precision):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({i.get_any_name(): list(inputs[i.get_any_name()].shape) for i in model.inputs})
    return core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False})


def openvino(name, inputs, dims, threads, precision="f32"):
    compiled = compile_openvino(models.path(name), inputs, threads, precision)
    request = compiled.create_infer_request()
    ordered = [inputs[i.get_any_name()] for i in compiled.inputs]
    run = lambda: request.infer(ordered, share_inputs=True, share_outputs=True)
    outputs = lambda: {key.get_any_name(): value.copy() for key, value in run().items()}
    got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Candidate(run, outputs, {"f32": "fp32", "bf16": "bf16"}.get(got, got))


def openvino_bf16(name, inputs, dims, threads):
    made = openvino(name, inputs, dims, threads, "bf16")
    if made.precision != "bf16":
        raise RuntimeError(f"OpenVINO runs {made.precision} where bf16 was asked for")
    return made


def sinter(name, inputs, dims, threads, kind, **options):
    import sinter as package

    engine = package.build(models.path(name), threads=threads, dims=dims, **CLASSES[kind], **options)
    context = engine.context(threads)
    ordered = [inputs[i.name] for i in engine.inputs]
    run = lambda: context.run(*ordered)
    names = [o.name for o in engine.outputs]
    precision = {"default": "TF32 or better", "strict": "fp32"}.get(kind, kind)
    return Candidate(run, lambda: dict(zip(names, run())), precision)
