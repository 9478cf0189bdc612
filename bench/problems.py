"""Times every problem of a network's build by itself, beside oneDNN where that has primitives for it, and with --ort beside a
model of that one operator in ONNX Runtime. Losses come first, the dearest on top. Ratios are the peer's time over
Sinter's: above 1, Sinter is faster. Where stages are fused with contractions, oneDNN does the contractions alone.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import mask
import measure
import models
import peers

TOOL = os.path.join(models.ROOT, "build", "problems_bench")
FLAGS = {"default": [], "strict": ["--strict-fp32"], "bf16": ["--bf16"], "fp16": ["--fp16"]}


def timed(name, arguments):
    """What the tool says of every problem: a list of dictionaries."""
    command = [TOOL, models.path(name) if name in models.MODELS else name, "--threads", str(arguments.threads),
               "--rounds", str(arguments.rounds), *FLAGS[arguments.kind]]
    if arguments.level:
        command += ["--level", arguments.level]
    if name in models.MODELS:
        for dim, extent in peers.opening(name)[1].items():
            command += ["--dim", f"{dim}={extent}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "OMP_PROC_BIND": "false"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def alone(row):
    """A model of the operator of a row and its inputs; None where the row does not say enough."""
    operands, given = row.get("operands"), row.get("attributes")
    if not operands or given is None:
        return None
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(o["dims"], dtype=np.float32) for o in operands]
    attributes = {}
    if row["op"] != "MatMul":
        attributes = {key: value for key, value in given.items() if value}
    elif given["transpose_b"]:
        if not operands[1]["constant"]:
            return None  # ONNX has no such operator
        arrays[1] = np.ascontiguousarray(np.swapaxes(arrays[1], -1, -2))
    names = ["x", "w", "b"][:len(arrays)]
    fixed = [numpy_helper.from_array(a, n) for a, n, o in zip(arrays, names, operands) if o["constant"]]
    free = {n: a for a, n, o in zip(arrays, names, operands) if not o["constant"]}
    graph = helper.make_graph([helper.make_node(row["op"], names, ["y"], **attributes)], "operator",
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in free.items()],
                              [helper.make_empty_tensor_value_info("y")], fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString(), free


def beside_ort(row, arguments):
    """The same operator by itself in both, from Python: figures go into the row."""
    import sinter

    made = alone(row)
    if made is None:
        return
    data, feeds = made
    session = peers.session(data, arguments.threads)
    engine = sinter.build(data, threads=arguments.threads, level=arguments.level, **peers.CLASSES[arguments.kind])
    context, ordered = engine.context(arguments.threads), [feeds[i.name] for i in engine.inputs]
    times = measure.interleaved([lambda: context.run(*ordered), lambda: session.run(["y"], feeds)], 0.2, arguments.rounds)
    row["alone_us"], row["ort_us"] = (1e6 * float(x) for x in np.median(times, 0))
    row["ort"] = measure.ratio(times[:, 1], times[:, 0])


def shape_of(row):
    """The operator in words: 1x64x56x56, 64x64x3x3 /2."""
    text = ", ".join("x".join(map(str, o["dims"])) for o in row.get("operands", [])[:2])
    given = row.get("attributes") or {}
    if any(s > 1 for s in given.get("strides", [])):
        text += f" /{max(given['strides'])}"
    if given.get("group", 1) > 1:
        text += f" g{given['group']}"
    return text or row["problem"][:60]


def line(row, total):
    cost = row["us"] * row["count"]
    rate = f"{1e6 * row['gflop'] / row['us']:>8.0f}" if "gflop" in row else " " * 8
    peer = (f"{row['onednn_us']:>11.1f}{row['ratio']:>7.2f}  " + f"{row['p10']:.2f} - {row['p90']:.2f}".ljust(13)
            if "ratio" in row else " " * 33)
    ort = (f"{row['ort_us']:>10.1f}{row['ort']['ratio']:>7.2f}" if "ort" in row else " " * 17)
    stages = f" +{row['stages'] - 1}" if row["stages"] > 1 else ""
    return (f"{100 * cost / total:>6.1f}{row['count']:>4}{row['us']:>11.1f}{rate}{peer}{ort}  "
            f"{row['kernel']:<18}{row['op']}{stages} {shape_of(row)}").rstrip()


def shown(name, rows):
    done = [r for r in rows if "us" in r]
    total = sum(r["us"] * r["count"] for r in done) or 1.0
    print(f"\n{name}: {len(rows)} problems, {total / 1e3:.2f} ms one after the other")
    print(f"{'share%':>6}{'n':>4}{'Sinter us':>11}{'GFLOP/s':>8}{'oneDNN us':>11}{'ratio':>7}  {'p10 - p90':<13}"
          f"{'ORT us':>10}{'ratio':>7}  kernel            problem")
    cost = lambda r: r["us"] * r["count"]
    # An operator by itself in ONNX Runtime changes layouts at its borders, so it judges only where oneDNN is silent.
    judged = lambda r: r.get("ratio", r.get("ort", {}).get("ratio"))
    lost = [r for r in done if judged(r) is not None and judged(r) < 1]
    won = [r for r in done if judged(r) is not None and judged(r) >= 1]
    for title, part in (("slower than the peer", lost), ("faster", won),
                        ("without a peer", [r for r in done if judged(r) is None])):
        if part:
            print(f"{title}: {len(part)} problems, {100 * sum(map(cost, part)) / total:.0f} % of the time")
            for row in sorted(part, key=cost, reverse=True):
                print(line(row, total))
    for row in rows:
        if "us" not in row:
            print(f"not timed: {row['kernel']} {row['problem'][:80]}: {row.get('reason', '')}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(prog="bench/problems", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(models.MODELS)}; or an ONNX file")
    parser.add_argument("--class", dest="kind", choices=list(FLAGS), default="default", help="of precision")
    parser.add_argument("--level", choices=mask.LEVELS, help="Sinter's instruction set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ort", action="store_true", help="also beside ONNX Runtime, as models of one operator")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    kept = {}
    for name in arguments.names:
        rows = timed(name, arguments)
        if arguments.ort:
            for row in rows:
                beside_ort(row, arguments)
        shown(name, rows)
        kept[name] = rows
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
