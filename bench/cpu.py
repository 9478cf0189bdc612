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


def interleaved(ours, theirs, seconds):
    """Median seconds of each, and the ratio theirs / ours of every round, after a slice of time each to warm up."""
    slice_ = seconds / 24
    for run in (ours, theirs):
        timer(run, slice_)
    pairs = []
    for round_ in range(11):
        first, second = (ours, theirs) if round_ % 2 else (theirs, ours)
        a, b = timer(first, slice_), timer(second, slice_)
        pairs.append((a, b) if round_ % 2 else (b, a))
    times = np.array(pairs)
    return float(np.median(times[:, 0])), float(np.median(times[:, 1])), times[:, 1] / times[:, 0]


def difference(got, wanted):
    """The largest error of any output as a part of that output's range; infinite where shapes differ."""
    worst = 0.0
    for g, w in zip(got, wanted, strict=True):
        if g.shape != w.shape:
            return float("inf")
        if w.size:
            w = w.astype(np.float64)
            worst = np.maximum(worst, np.max(np.abs(g.astype(np.float64) - w)) / (np.ptp(w) or 1.0))
    return float(worst)


def session(model, threads):
    """ONNX Runtime's session for a model, given by its path or its bytes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def candidates(name, threads):
    import sinter

    other = session(models.path(name), threads)
    inputs = models.inputs(name, 0, [i.name for i in other.get_inputs()])
    engine = sinter.build(models.path(name), threads=threads)
    context = engine.context(threads)
    names = [o.name for o in engine.outputs]
    error = difference(context.run(inputs), other.run(names, inputs))
    ordered = [inputs[i.name] for i in engine.inputs]
    return (lambda: context.run(*ordered)), (lambda: other.run(names, inputs)), error


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
            a, b, ratios = interleaved(ours, theirs, arguments.seconds)
            row = {"network": name, "input": models.MODELS[name][0][0], "threads": threads,
                   "ort_ms": 1e3 * b, "sinter_ms": 1e3 * a,
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
