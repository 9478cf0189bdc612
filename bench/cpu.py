"""Latency beside ONNX Runtime, batch 1: candidates take turns in one process, each round the same time slice; printed are
the median latency of each and the median over the rounds of the ratio of one round, with its 10th and 90th percentile.

A ratio above 1 means that Sinter is faster. Outputs are compared before anything is timed.
"""

import argparse
import json
import os
import sys
import time

import numpy as np

import models

CASES = ["resnet50", "mobilenet_v2", "bert_base_128", "ppocr_rec", "silero_vad"]


def timer(run, seconds):
    """Median seconds of one call within a slice of time, at least three calls."""
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def candidates(name, threads):
    import onnxruntime as ort
    import sinter

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(models.path(name), options, providers=["CPUExecutionProvider"])
    inputs = models.inputs(name, 0, [i.name for i in session.get_inputs()])
    engine = sinter.build(models.path(name), threads=threads)
    context = engine.context(threads)
    names = [o.name for o in engine.outputs]
    got, wanted = context.run(inputs), session.run(names, inputs)
    error = max(float(np.max(np.abs(g.astype(np.float64) - w))) / (float(np.ptp(w)) or 1.0) for g, w in zip(got, wanted))
    ordered = [inputs[i.name] for i in engine.inputs]
    return (lambda: context.run(*ordered)), (lambda: session.run(names, inputs)), error


def main():
    parser = argparse.ArgumentParser(prog="bench/cpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(models.MODELS)}")
    parser.add_argument("--threads", default="1,2", help="thread counts (default 1,2)")
    parser.add_argument("--seconds", type=float, default=8, help="time of one case, both candidates together")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(models.MODELS)
    if unknown:
        parser.error(f"no network is named {', '.join(sorted(unknown))}")
    rows = []
    print(f"{'network':<16}{'input':<12}{'threads':>8}{'ORT fp32 ms':>13}{'Sinter ms':>11}{'ORT / Sinter':>14}"
          f"{'p10':>7}{'p90':>7}{'error / range':>15}")
    for threads in [int(t) for t in arguments.threads.split(",")]:
        for name in arguments.names or CASES:
            ours, theirs, error = candidates(name, threads)
            slice_ = arguments.seconds / 24
            for run in (ours, theirs):
                timer(run, slice_)
            pairs = []
            for round_ in range(11):
                first, second = (ours, theirs) if round_ % 2 else (theirs, ours)
                a, b = timer(first, slice_), timer(second, slice_)
                pairs.append((a, b) if round_ % 2 else (b, a))
            times = np.array(pairs)
            ratios = times[:, 1] / times[:, 0]
            row = {"network": name, "input": models.MODELS[name][0][0], "threads": threads,
                   "ort_ms": 1e3 * float(np.median(times[:, 1])), "sinter_ms": 1e3 * float(np.median(times[:, 0])),
                   "ratio": float(np.median(ratios)), "p10": float(np.percentile(ratios, 10)),
                   "p90": float(np.percentile(ratios, 90)), "error": error}
            rows.append(row)
            print(f"{name:<16}{row['input']:<12}{threads:>8}{row['ort_ms']:>13.3f}{row['sinter_ms']:>11.3f}"
                  f"{row['ratio']:>14.2f}{row['p10']:>7.2f}{row['p90']:>7.2f}{error:>15.1e}", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"precision": {"ort": "fp32", "sinter": "fp32"}, "rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main())
