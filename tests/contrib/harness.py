"""One-node models of domain com.microsoft, run by Sinter's command line tool and by a judge.

The judge is ONNX Runtime unless a case brings a formula. Inputs named in `constants` become initializers; with
`dynamic`, axes of the other inputs are declared without extents. Forms of a case: as it is; frozen, with every input an
initializer; open, with no extent declared; reloaded, built into an engine that a new process runs.
"""

import os
import subprocess
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SINTER = os.path.join(os.environ.get("SINTER_BUILD", os.path.join(ROOT, "build")), "sinter")


class Case:
    def __init__(self, name, op, inputs, attributes=None, outputs=1, constants=(), tolerance=1e-4, formula=None,
                 domain="com.microsoft", dynamic=None, compare=None, opset=17, shared=None, rankless=(), refused=None):
        self.name, self.op, self.inputs, self.attributes = name, op, inputs, attributes or {}
        self.outputs = outputs if isinstance(outputs, (list, tuple)) else [f"y{i}" for i in range(outputs)]
        self.constants, self.tolerance, self.formula, self.domain = constants, tolerance, formula, domain
        self.dynamic, self.compare, self.opset = dynamic or {}, compare, opset
        self.shared = shared  # result → operand whose buffer the judge wants to write it to
        self.rankless = rankless  # operands that are declared without a shape
        self.refused = refused  # part of the message of the error that is wanted
        self.has_room = "room" in name or "buffers" in name or "beams" in name

    def model(self, form="as it is"):
        graph_inputs, initializers, names = [], [], []
        for i, value in enumerate(self.inputs):
            if value is None:
                names.append("")
                continue
            names.append(f"x{i}")
            if i in self.constants or (form == "frozen" and isinstance(value, np.ndarray)):
                initializers.append(numpy_helper.from_array(value, f"x{i}"))
                continue
            graph_inputs.append(helper.make_value_info(f"x{i}", self.type_of(i, value, form == "open")))
        node = helper.make_node(self.op, names, self.outputs, domain=self.domain, **self.attributes)
        # Types of results are left open: both sides infer them.
        results = [onnx.ValueInfoProto(name=n) for n in self.outputs if n]
        graph = helper.make_graph([node], "g", graph_inputs, results, initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def type_of(self, i, value, is_open):
        if i in self.rankless:
            return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), None)
        shape = [f"d{i}_{k}" if is_open or k in self.dynamic.get(i, ()) else n for k, n in enumerate(value.shape)]
        return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), shape)

    # Values as messages of ONNX, and back.
    def encoded(self, value, name):
        return numpy_helper.from_array(value, name).SerializeToString()

    def decoded(self, data):
        return numpy_helper.to_array(TensorProto.FromString(data))

    def fed(self):
        return {f"x{i}": v for i, v in enumerate(self.inputs) if v is not None and i not in self.constants}


def called(*command):
    run = subprocess.run([SINTER, *command, "--threads", "1"], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip() or f"exit code {run.returncode}")


def by_sinter(case, form="as it is"):
    model = case.model(form)
    taken = {i.name for i in model.graph.input}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        onnx.save(model, path)
        if form == "reloaded":
            called("build", path, "-o", path + ".engine")
            path += ".engine"
        files = []
        for name, value in case.fed().items():
            if name not in taken:
                continue
            files.append(os.path.join(folder, f"{name}.pb"))
            with open(files[-1], "wb") as file:
                file.write(case.encoded(value, name))
        in_place = ["--in-place"] if form == "in place" else []
        called("run", path, "--output-dir", folder, *in_place, *(["--inputs", *files] if files else []))
        results = []
        for i in range(sum(1 for n in case.outputs if n)):
            with open(os.path.join(folder, f"output_{i}.pb"), "rb") as file:
                results.append(case.decoded(file.read()))
        return results


def by_judge(case, model):
    if case.formula is not None:
        results = case.formula(*case.inputs)
        return list(results) if isinstance(results, tuple) else [results]
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if not case.shared:
        return session.run(None, case.fed())
    binding, values = session.io_binding(), {}
    for name, value in case.fed().items():
        values[name] = ort.OrtValue.ortvalue_from_numpy(value.copy())
        binding.bind_ortvalue_input(name, values[name])
    for i, name in enumerate(case.outputs):
        if i in case.shared:
            binding.bind_ortvalue_output(name, values[f"x{case.shared[i]}"])
        else:
            binding.bind_output(name)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()


def difference(case, got, wanted):
    """None, or what is wrong."""
    if len(got) != len(wanted):
        return f"{len(got)} results, not {len(wanted)}"
    if case.compare:
        got, wanted = case.compare(got), case.compare(wanted)
    for i, (a, b) in enumerate(zip(got, wanted)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"result {i}: {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        if a.size == 0:
            continue
        if a.dtype == bool:
            if not np.array_equal(a, b):
                return f"result {i} differs"
            continue
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(wide_a), np.isfinite(wide_b)):
            return f"result {i}: not finite in other places"
        finite = np.isfinite(wide_b)
        if not finite.any():
            continue
        error = np.max(np.abs(wide_a[finite] - wide_b[finite]))
        span = np.max(wide_b[finite]) - np.min(wide_b[finite]) or np.max(np.abs(wide_b[finite])) or 1
        # 8-bit results may differ by one step where the judge rounds otherwise.
        allowed = 1 if a.dtype in (np.uint8, np.int8) else 0 if a.dtype.kind in "iu" else case.tolerance * span
        if error > allowed:
            return f"result {i}: off by {error:.3g}, {allowed:.3g} is allowed"
    return None


def run(cases, pattern, forms=("as it is",), before=(0, 0)):
    passed, failed = before
    for case in cases:
        if pattern and pattern not in case.name:
            continue
        model = case.model()
        try:
            wanted = None if case.refused else by_judge(case, model)
        except Exception as error:
            print(f"FAIL {case.name}: no judge: {error}")
            failed += 1
            continue
        # Caches that have room are written over those that they come from.
        for form in (*forms, *(["in place"] if case.has_room else [])):
            try:
                got = by_sinter(case, form)
                problem = "no error" if case.refused else difference(case, got, wanted)
            except RuntimeError as error:
                problem = None if case.refused and case.refused in str(error) else str(error)
            if problem:
                print(f"FAIL {case.name}{'' if form == 'as it is' else ', ' + form}: {problem}")
                failed += 1
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return failed == 0 and passed > 0
