"""Compares Sinter with PyTorch and with ONNX Runtime on torchvision's architectures; prints a line for each.

Two children under Debian's Python export the networks in turn, each one ahead of the comparison; a network is deleted
when it is done. An output agrees when every element is within 1e-4 of the output's range of both; outputs of
integers (labels) are equal. A network whose outputs say nothing fails too: everything must be finite, and the two
pictures of a batch must give different results.

usage: compare.py [NAME]...
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "models"))
from networks import NETWORKS  # noqa: E402
from saved import Failed, deviation, run_saved  # noqa: E402

OF_RANGE = 1e-4
EXPORTERS = 2  # exporting takes most of the time, on one core


class Exporter:
    """Exports its share of the names, one ahead of the one that is asked for."""

    def __init__(self, folder, names):
        self.process = subprocess.Popen(
            ["/usr/bin/python3", os.path.join(HERE, "export.py"), folder], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.waiting = list(names)
        self._next()

    def _next(self):
        if self.waiting:
            self.process.stdin.write(self.waiting.pop(0) + "\n")
            self.process.stdin.flush()

    def wait(self, name):
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise Failed(f"the exporter ended with {self.process.wait()}; run export.py by itself to see why")
        self._next()
        if answer != name:
            raise Failed(f"export failed: {answer[len(name) + 1:]}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def says_nothing(outputs, batched):
    for output in outputs:
        if not np.all(np.isfinite(output)):
            return "an output is not finite"
    if all(output.size == 0 for output in outputs):
        return "the outputs are empty"
    if batched:
        for output in outputs:
            difference = float(np.max(np.abs(output[0] - output[1])))
            if difference < 1e-2 * float(np.max(output) - np.min(output)):
                return "two pictures give the same outputs"
    return None


def distance(got, wanted):
    """Largest error over the range; infinite where integers differ."""
    if len(got) != len(wanted):
        return np.inf
    worst = 0.0
    for g, w in zip(got, wanted):
        if not np.issubdtype(w.dtype, np.floating):
            worst = max(worst, 0.0 if g.dtype == w.dtype and np.array_equal(g, w) else np.inf)
        else:
            worst = max(worst, deviation(g, w, relative=0)[1])
    return worst


def compare(folder, name):
    """The columns of one line: seconds of building, errors beside PyTorch and ONNX Runtime, verdict."""
    import onnxruntime as ort

    path = os.path.join(folder, name + ".onnx")
    with np.load(os.path.join(folder, name + ".npz")) as data:
        inputs = {n: data[n] for n in data.files if n.startswith("input")}
        wanted = [data[n] for n in data.files if n.startswith("output")]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {i.name: inputs[i.name] for i in session.get_inputs()}
    beside = session.run(None, inputs)
    empty = says_nothing(wanted, NETWORKS[name].get("kind") != "detection")
    if empty:
        raise Failed(empty)
    # What a detector selects and crops depends on numbers, which magnifies how they round.
    strict = {"tf32": False} if NETWORKS[name].get("kind") == "detection" else {}
    built, _, _, (results,) = run_saved(path, [inputs], threads=1, **strict)
    return built, distance(results, wanted), distance(results, beside), distance(beside, wanted)


def main():
    names = sys.argv[1:] or list(NETWORKS)
    unknown = [n for n in names if n not in NETWORKS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; networks.py has the names")
    passed = failed = 0
    print(f"{'network':<38}{'build s':>8}{'all s':>7}{'to PyTorch':>12}{'to ORT':>9}  verdict")
    with tempfile.TemporaryDirectory() as folder:
        exporters = [Exporter(folder, names[k::EXPORTERS]) for k in range(EXPORTERS)]
        for index, name in enumerate(names):
            start = time.perf_counter()
            try:
                exporters[index % EXPORTERS].wait(name)
                built, *errors = compare(folder, name)
                good = max(errors[:2]) <= OF_RANGE
                columns = f"{built:>8.2f}{time.perf_counter() - start:>7.1f}{errors[0]:>12.1e}{errors[1]:>9.1e}"
                verdict = "agrees" if good else f"DIFFERS (ORT to PyTorch {errors[2]:.1e})"
            except Exception as failure:  # of any of the three; the other networks go on
                good, columns, verdict = False, "", f"FAILED: {failure}"
            passed += good
            failed += not good
            print(f"{name:<38}{columns}  {verdict}", flush=True)
            for suffix in (".onnx", ".npz"):
                try:
                    os.remove(os.path.join(folder, name + suffix))
                except FileNotFoundError:
                    pass
        for exporter in exporters:
            exporter.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
