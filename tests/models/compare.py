"""Compares Sinter with ONNX Runtime on real networks and prints a table.

Every network is built and saved in the strict, the default and the bf16 class; new processes load the engines and run all
input sizes. A strict output agrees when each element is within 1e-3 of ONNX Runtime's, relative, or within 1e-4 of the
output's range where values are near zero. One of the default class agrees when the root mean square of its errors is at
most 1e-3 of that of the output: a tenth of what TF32 leaves of networks that magnify roundings, as the text detector
does (by 30; logarithms of silence do too).

usage: compare.py [NAME]...
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
import models  # noqa: E402
from saved import Failed, deviation, relative_rms, run_saved  # noqa: E402


def main():
    import onnxruntime as ort

    names = sys.argv[1:] or list(models.MODELS)
    passed = failed = 0
    print(f"{'network':<20}{'input':<14}{'class':<9}{'build s':>9}{'load ms':>9}{'error':>12}  verdict")
    for name in names:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(models.path(name), options, providers=["CPUExecutionProvider"])
        input_names = [i.name for i in session.get_inputs()]
        points = [models.inputs(name, i, input_names) for i in range(len(models.MODELS[name]))]
        wanted = None
        for kind, options, most in (("strict", {"tf32": False}, None), ("default", {}, 1e-3), ("bf16", {"bf16": True}, 0.1)):
            try:
                built, loaded, output_names, results = run_saved(models.path(name), points, threads=2, **options)
            except Failed as failure:
                print(f"{name:<20}{'':<14}{kind:<9}  {failure}")
                failed += len(points)
                continue
            wanted = wanted or [session.run(output_names, inputs) for inputs in points]
            for (label, _), expected, outputs in zip(models.MODELS[name], wanted, results):
                if most:
                    error = max(relative_rms(g, w) for g, w in zip(outputs, expected, strict=True))
                    good = error <= most
                else:
                    worst = [deviation(g, w) for g, w in zip(outputs, expected, strict=True)]
                    error = max(w[1] for w in worst)
                    good = all(w[0] <= 1 for w in worst)
                passed += good
                failed += not good
                print(f"{name:<20}{label:<14}{kind:<9}{built:>9.2f}{loaded * 1e3:>9.1f}{error:>12.1e}  "
                      + ("agrees" if good else "DIFFERS"), flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
