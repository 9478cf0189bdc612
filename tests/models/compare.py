"""Compares Sinter with ONNX Runtime on real networks and prints a table.

Every network is built once and saved; a new process loads the engine and runs all input sizes. An output agrees when
each element is within 1e-3 of ONNX Runtime's, relative, or within 1e-4 of the output's range where values are near
zero.

usage: compare.py [NAME]...
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
import models  # noqa: E402
from saved import Failed, deviation, run_saved  # noqa: E402


def main():
    import onnxruntime as ort

    names = sys.argv[1:] or list(models.MODELS)
    passed = failed = 0
    print(f"{'network':<20}{'input':<14}{'build s':>9}{'load ms':>9}{'error / range':>15}  verdict")
    for name in names:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(models.path(name), options, providers=["CPUExecutionProvider"])
        input_names = [i.name for i in session.get_inputs()]
        points = [models.inputs(name, i, input_names) for i in range(len(models.MODELS[name]))]
        try:
            built, loaded, output_names, results = run_saved(models.path(name), points, threads=2)
        except Failed as failure:
            print(f"{name:<20}{'':<14}  {failure}")
            failed += len(points)
            continue
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
    sys.exit(main())
