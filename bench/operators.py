"""Single operators beside ONNX Runtime, as bench/cpu does it for networks: candidates take turns in one process; printed
are the median latency of each and the median over the rounds of the ratio of one round, with its 10th and 90th percentile.

A ratio above 1 means that Sinter is faster; both pay for one call from Python. Outputs are compared before anything is
timed. What one of the two cannot build or run is timed on the other alone, with the reason under it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import measure
import peers
from operator_cases import CASES, Draw, open_extents


def rows_of(engine):
    """Names of the kernels that an engine runs, by the command that is installed with the package."""
    import sinter

    command = os.path.join(os.path.dirname(os.path.dirname(sinter.__file__)), "bin", "sinter")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "case.engine")
        engine.save(path)
        shown = subprocess.run([command, "inspect", path, "--json"], check=True, stdout=subprocess.PIPE)
    return ", ".join(json.loads(shown.stdout)["kernels"]) or "none"


def show(name, threads, arguments):
    import sinter

    made, feeds = CASES[name](Draw())
    if arguments.open:
        open_extents(made)
    data = made.SerializeToString()
    reasons = []
    session = measure.tried("ONNX Runtime", lambda: peers.session(data, threads), reasons)
    engine = measure.tried("Sinter", lambda: sinter.build(data, threads=threads), reasons)
    ours = theirs = got = wanted = None
    if engine:
        context, ordered = engine.context(threads), [feeds[i.name] for i in engine.inputs]
        ours = lambda: context.run(*ordered)
        got = measure.tried("Sinter", ours, reasons)
    if session:
        names = [o.name for o in made.graph.output]
        theirs = lambda: session.run(names, feeds)
        wanted = measure.tried("ONNX Runtime", theirs, reasons)

    both = got is not None and wanted is not None
    error = measure.of_range(got, wanted) if both else float("nan")
    if both:
        times = measure.interleaved([ours, theirs], arguments.seconds)
        a, b = np.median(times, 0)
        ratios = times[:, 1] / times[:, 0]
    else:
        a = measure.timer(ours, arguments.seconds / 2) if got is not None else float("nan")
        b = measure.timer(theirs, arguments.seconds / 2) if wanted is not None else float("nan")
        ratios = [float("nan")]
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    rows = f"  {rows_of(engine)}" if arguments.rows and engine else ""
    print(f"{name:<38}{threads:>8}{1e6 * b:>11.1f}{1e6 * a:>11.1f}{middle:>14.2f}{low:>7.2f}{high:>7.2f}{error:>15.1e}{rows}",
          *(f"    {reason}" for reason in reasons), sep="\n", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="bench/operators", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names of cases, in any case; default: all")
    parser.add_argument("--threads", default="1", help="thread counts (default 1)")
    parser.add_argument("--seconds", type=float, default=2, help="time of one case, both candidates together (default 2)")
    parser.add_argument("--rows", action="store_true", help="print which kernels were chosen, too")
    parser.add_argument("--open", action="store_true", help="leave all extents of all inputs open")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.names if not any(part.lower() in name.lower() for name in CASES)]
    if unknown:
        parser.error(f"no case has {', '.join(map(repr, unknown))} in its name; the cases are\n  " + "\n  ".join(CASES))
    print(f"{'operator':<38}{'threads':>8}{'ORT us':>11}{'Sinter us':>11}{'ORT / Sinter':>14}{'p10':>7}{'p90':>7}"
          f"{'error / range':>15}{'  kernels' if arguments.rows else ''}")
    for threads in [int(t) for t in arguments.threads.split(",")]:
        for name in CASES:
            if not arguments.names or any(part.lower() in name.lower() for part in arguments.names):
                show(name, threads, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
