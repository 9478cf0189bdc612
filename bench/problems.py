"""Times every problem of a network's build by itself, beside oneDNN where that has primitives for it, and beside a model
of the same work in ONNX Runtime, which Sinter builds and runs as well. Losses come first, the dearest on top. Ratios are
the peer's time over Sinter's: above 1, Sinter is faster. Where stages are fused with contractions, oneDNN does the
contractions alone.
"""

import argparse
import collections
import json
import os
import subprocess
import sys

import numpy as np

import fragment
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
    given = dict(arguments.input)
    if name in models.MODELS:
        given = {key: x.shape for key, x in peers.opening(name)[0].items()}
    for key, dims in given.items():
        if dims:
            command += ["--input", f"{key}={'x'.join(map(str, dims))}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "OMP_PROC_BIND": "false"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def extents(text):
    """An input's name and its extents."""
    name, dims = text.rsplit("=", 1)
    return name, [int(d) for d in dims.split("x")]


def beside_ort(row, arguments):
    """A model of the same work in both, from Python: figures go into the row, or the reason why there are none."""
    import sinter

    if "us" not in row:
        return
    try:
        data, feeds = fragment.model(row)
        session = peers.session(data, arguments.threads)
        engine = sinter.build(data, threads=arguments.threads, level=arguments.level, **peers.CLASSES[arguments.kind])
        context, ordered = engine.context(arguments.threads), [feeds[i.name] for i in engine.inputs]
        times = measure.interleaved([lambda: context.run(*ordered), lambda: session.run(None, feeds)], 0.2,
                                    arguments.rounds)
    except Exception as error:  # neither side's exceptions have a base of their own; the other problems go on
        row["ort_reason"] = measure.told(error)
        return
    row["alone_us"], row["ort_us"] = (1e6 * float(x) for x in np.median(times, 0))
    row["ort"] = measure.ratio(times[:, 1], times[:, 0])


def in_words(row):
    """The operator that most is about: Conv +1 1x64x56x56, 64x64x3x3 /2."""
    if not row.get("stages"):
        return row["problem"][:60]
    stages = row["stages"]
    products = [s for s in stages if s["op"] in ("MatMul", "Conv", "ConvTranspose", "MatMulInteger", "ConvInteger")]
    stage = (products or stages)[0]
    types = row["operands"] + [t for s in stages for t in s["results"]]
    operands = [types[v] for v in stage["inputs"][:2] if v is not None]
    text = ", ".join("x".join(map(str, t["dims"])) or "1" for t in operands if t)
    given = stage["attributes"]
    if any(s > 1 for s in given.get("strides", [])):
        text += f" /{max(given['strides'])}"
    if given.get("group", 1) > 1:
        text += f" g{given['group']}"
    more = f" +{len(stages) - 1}" if len(stages) > 1 else ""
    return f"{stage['op']}{more} {text}"


def judged(row):
    """The ratio beside the best peer. ONNX Runtime's is left out where it has to change layouts at the borders of a
    problem that has images in the middle of a network, unless it is the only one."""
    ratios = [row["ratio"]] if "ratio" in row else []
    if "ort" in row and not (row.get("ordered") and ratios):
        ratios.append(row["ort"]["ratio"])
    return min(ratios, default=None)


def line(row, total):
    cost = row["us"] * row["count"]
    rate = f"{1e6 * row['gflop'] / row['us']:>8.0f}" if "gflop" in row else " " * 8
    peer = (f"{row['onednn_us']:>11.1f}{row['ratio']:>7.2f}  " + f"{row['p10']:.2f} - {row['p90']:.2f}".ljust(13)
            if "ratio" in row else " " * 33)
    ort = (f"{row['alone_us']:>10.1f}{row['ort_us']:>10.1f}{row['ort']['ratio']:>7.2f}" if "ort" in row else " " * 27)
    return (f"{100 * cost / total:>6.1f}{row['count']:>4}{row['us']:>11.1f}{rate}{peer}{ort}  "
            f"{row['kernel']:<18}{in_words(row)}").rstrip()


def shown(name, rows):
    done = [r for r in rows if "us" in r]
    total = sum(r["us"] * r["count"] for r in done) or 1.0
    print(f"\n{name}: {len(rows)} problems, {total / 1e3:.2f} ms one after the other")
    print(f"{'share%':>6}{'n':>4}{'Sinter us':>11}{'GFLOP/s':>8}{'oneDNN us':>11}{'ratio':>7}  {'p10 - p90':<13}"
          f"{'model us':>10}{'ORT us':>10}{'ratio':>7}  kernel            problem")
    cost = lambda r: r["us"] * r["count"]
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
    for reason, count in collections.Counter(r["ort_reason"] for r in rows if "ort_reason" in r).most_common():
        print(f"not in ONNX Runtime: {count} problems: {reason}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(prog="bench/problems", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(models.MODELS)}; or an ONNX file")
    parser.add_argument("--input", metavar="NAME=1x3x64x64", action="append", default=[], type=extents,
                        help="extents of an input of ONNX files")
    parser.add_argument("--class", dest="kind", choices=list(FLAGS), default="default", help="of precision")
    parser.add_argument("--level", choices=mask.LEVELS, help="Sinter's instruction set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-ort", action="store_true", help="beside oneDNN alone")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    kept = {}
    for name in arguments.names:
        rows = timed(name, arguments)
        if not arguments.without_ort:
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
