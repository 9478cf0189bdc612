"""Compares Sinter with ONNX Runtime on real networks and prints a table.

Every network is built once and saved; a new process loads the engine and runs all input sizes. An output agrees when
each element is within 1e-3 of ONNX Runtime's, relative, or within 1e-4 of the output's range where values are near
zero.

usage: compare.py [NAME]...
"""

import os
import pickle
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
import models  # noqa: E402


def run_saved(engine_path, inputs_path, outputs_path):
    """In the new process: nothing but the engine file is read."""
    import sinter

    with open(inputs_path, "rb") as file:
        points = pickle.load(file)
    start = time.perf_counter()
    engine = sinter.load(engine_path, threads=2)
    loaded = time.perf_counter() - start
    context = engine.context()
    results = [context.run(inputs) for inputs in points]
    with open(outputs_path, "wb") as file:
        pickle.dump((loaded, [i.name for i in engine.outputs], results), file)


def deviation(got, wanted):
    """(worst error in units of what is allowed, largest relative error over the range)"""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return np.inf, np.inf
    if wanted.size == 0:
        return 0.0, 0.0
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    span = float(np.max(wanted) - np.min(wanted)) or float(np.max(np.abs(wanted))) or 1.0
    error = np.abs(got - wanted)
    if not np.all(np.isfinite(got) == np.isfinite(wanted)):
        return np.inf, np.inf
    allowed = np.maximum(1e-3 * np.abs(wanted), 1e-4 * span)
    return float(np.max(error / allowed)), float(np.max(error)) / span


def main():
    import onnxruntime as ort
    import sinter

    names = sys.argv[1:] or list(models.MODELS)
    passed = failed = 0
    print(f"{'network':<20}{'input':<14}{'build s':>9}{'load ms':>9}{'error / range':>15}  verdict")
    for name in names:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(models.path(name), options, providers=["CPUExecutionProvider"])
        input_names = [i.name for i in session.get_inputs()]
        points = [models.inputs(name, i, input_names) for i in range(len(models.MODELS[name]))]
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, n) for n in ("model.engine", "inputs", "outputs")]
            start = time.perf_counter()
            try:
                sinter.build(models.path(name), threads=2).save(paths[0])
            except sinter.Error as error:
                print(f"{name:<20}{'':<14}  build failed: {error}")
                failed += len(points)
                continue
            built = time.perf_counter() - start
            with open(paths[1], "wb") as file:
                pickle.dump(points, file)
            child = subprocess.run([sys.executable, __file__, "--saved", *paths], capture_output=True, text=True)
            if child.returncode != 0:
                print(f"{name:<20}{'':<14}  run failed: {child.stderr.strip().splitlines()[-1:]}")
                failed += len(points)
                continue
            with open(paths[2], "rb") as file:
                loaded, output_names, results = pickle.load(file)
        for (label, _), inputs, outputs in zip(models.MODELS[name], points, results):
            wanted = session.run(output_names, inputs)
            worst = [deviation(g, w) for g, w in zip(outputs, wanted)]
            good = len(outputs) == len(wanted) and all(w[0] <= 1 for w in worst)
            passed += good
            failed += not good
            print(f"{name:<20}{label:<14}{built:>9.2f}{loaded * 1e3:>9.1f}{max(w[1] for w in worst):>15.1e}  "
                  + ("agrees" if good else "DIFFERS"), flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--saved"]:
        run_saved(*sys.argv[2:])
    else:
        sys.exit(main())
