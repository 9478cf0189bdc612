"""Latency of networks beside ONNX Runtime and OpenVINO, batch 1. All candidates take turns in one process, each round the
same time; printed are the median latency of each, and the median over the rounds of the ratio of one round with its 10th
and 90th percentile. Ratios are the peer's time over Sinter's: above 1, Sinter is faster.

Sinter runs in three classes: default (TF32 precision or better), strict (fp32), bf16. Errors are relative: root mean
square over the root mean square of a reference in double precision.
"""

import argparse
import json
import os
import sys

import numpy as np

import chart
import costs
import mask
import measure
import models
import peers
import reference
import scaling

CASES = ["bert_base_128", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "convnext_tiny",
         "ppocr_rec", "ppocr_det", "detector", "basic_pitch", "magika", "silero_vad"]
# Each class of Sinter's is held against ONNX Runtime in fp32, and against OpenVINO in the precision nearest to its own.
NEAREST = {"default": "openvino", "strict": "openvino", "bf16": "openvino_bf16", "fp16": "openvino_bf16"}


def measured(name, threads, arguments):
    """One row of the table, as a dictionary."""
    inputs, dims = peers.opening(name)
    reasons, candidates = [], {}
    for peer in peers.PEERS:
        if peer not in arguments.without:
            made = measure.tried(peers.PEERS[peer], lambda: getattr(peers, peer)(name, inputs, dims, threads), reasons)
            if made:
                candidates[peer] = made
    options = {"level": arguments.level, "timing_cache": arguments.timing_cache}
    for kind in arguments.classes:
        made = measure.tried(f"Sinter {kind}", lambda: peers.sinter(name, inputs, dims, threads, kind, **options), reasons)
        if made:
            candidates[kind] = made

    outputs = {key: measure.tried(key, made.outputs, reasons) for key, made in candidates.items()}
    candidates = {key: made for key, made in candidates.items() if outputs[key] is not None}
    wanted, source = reference.outputs(name, inputs, outputs.get("ort"))
    errors = {}
    for key in candidates:
        if wanted:
            errors[key] = measure.relative_rms([outputs[key][o] for o in wanted], list(wanted.values()))

    keys = list(candidates)
    answers = mask.answers()
    times = measure.interleaved([candidates[key].run for key in keys], arguments.seconds, arguments.rounds, arguments.least)
    if mask.answers() != answers:
        reasons.append(f"CPUID was asked {mask.answers() - answers} times on the way: each took some microseconds")
    column = {key: times[:, n] for n, key in enumerate(keys)}
    return {
        "network": name, "input": models.MODELS[name][0][0], "threads": threads, "level": arguments.sees["Sinter"], "peers_level": arguments.sees["peers"],
        "ms": {key: 1e3 * float(np.median(column[key])) for key in keys},
        "ratios": {f"{kind}:{peer}": measure.ratio(column[peer], column[kind]) for kind in arguments.classes
                   for peer in ("ort", NEAREST[kind]) if kind in column and peer in column},
        "errors": errors, "reference": source,
        "precision": {key: candidates[key].precision for key in keys}, "reasons": reasons,
    }


def hidden(arguments):
    """Makes the peers see what Sinter is to use. A line that says what each of them sees."""
    why = "as asked"
    if arguments.level and not arguments.peers_unmasked:
        why = mask.hide(arguments.level) or "the CPU has no more"
    peers_see = mask.seen()
    arguments.sees = {"Sinter": arguments.level or peers_see, "peers": peers_see}
    if peers_see == arguments.sees["Sinter"]:
        return f"Sinter, ONNX Runtime and OpenVINO see {peers_see}" + (", CPUID says no more" if arguments.level else "")
    return f"Sinter uses {arguments.level}, ONNX Runtime and OpenVINO see {peers_see}: {why}"


HEAD = (f"{'network':<19}{'T':>2}  {'class':<8}{'Sinter ms':>10}{'error':>9}"
        f"{'ORT fp32 ms':>13}{'ratio':>7}  {'p10 - p90':<13}{'error':>8}"
        f"{'OpenVINO ms':>13}{'in':>6}{'ratio':>7}  {'p10 - p90':<13}{'error':>8}")


def lines(row, classes):
    """A line per class; columns of what nobody could run stay empty."""
    def number(figures, key, form, width):
        return f"{figures[key]:>{width}{form}}" if key in figures else " " * width

    def peer(kind, key, width):
        got = row["ratios"].get(f"{kind}:{key}")
        ratio = f"{got['ratio']:>7.2f}  " + f"{got['p10']:.2f} - {got['p90']:.2f}".ljust(13) if got else " " * 22
        precision = f"{row['precision'].get(key, ''):>{width}}" if width else ""
        return number(row["ms"], key, ".3f", 13) + precision + ratio + number(row["errors"], key, ".1e", 8)

    out = []
    for n, kind in enumerate(classes):
        name = f"{row['network']:<19}{row['threads']:>2}" if n == 0 else " " * 21
        out.append(f"{name}  {kind:<8}" + number(row["ms"], kind, ".3f", 10) + number(row["errors"], kind, ".1e", 9)
                   + peer(kind, "ort", 0) + peer(kind, NEAREST[kind], 6))
    return [line.rstrip() for line in out] + [f"    {reason}" for reason in row["reasons"]]


def parse():
    parser = argparse.ArgumentParser(prog="bench/cpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(models.MODELS)}")
    parser.add_argument("--threads", default="1", help="thread counts, as 1,2 (default 1)")
    parser.add_argument("--seconds", type=float, default=20, help="time of one network, all candidates together (default 20)")
    parser.add_argument("--quick", action="store_true", help="five short rounds, for a first look")
    parser.add_argument("--level", choices=mask.LEVELS,
                        help="instruction set of all: what is newer is hidden from the peers too, by answers to CPUID")
    parser.add_argument("--peers-unmasked", action="store_true", help="with --level: the peers keep all that the CPU has")
    parser.add_argument("--classes", default="default,strict,bf16", help=f"of {', '.join(peers.CLASSES)}")
    parser.add_argument("--without", default="", help=f"peers to leave out, of {', '.join(peers.PEERS)}")
    parser.add_argument("--timing-cache", metavar="FILE", help="measured times of kernels, for Sinter's builds")
    parser.add_argument("--costs", action="store_true",
                        help="instead: time to build and to load, and peak memory, each in a process of its own")
    parser.add_argument("--scaling", action="store_true",
                        help="instead: Sinter on the numbers of threads above one beside Sinter on one")
    parser.add_argument("--busy", type=int, default=0, metavar="N",
                        help="with --scaling: N other processes compute meanwhile")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--svg", metavar="FILE", help="draw the ratios there")
    arguments = parser.parse_args()
    arguments.classes = [c for c in arguments.classes.split(",") if c]
    arguments.without = [c for c in arguments.without.split(",") if c]
    arguments.rounds, arguments.least = (5, 1) if arguments.quick else (11, 3)
    if arguments.quick:
        arguments.seconds = min(arguments.seconds, 3)
    if arguments.costs and arguments.level:
        parser.error("--costs measures what there is: leave --level out")
    if arguments.scaling and (arguments.costs or arguments.svg):
        parser.error("--scaling is a table of its own: leave --costs and --svg out")
    if arguments.busy < 0 or (arguments.busy and not arguments.scaling):
        parser.error("--busy takes a number of processes and belongs to --scaling")
    if arguments.scaling and not any(int(t) > 1 for t in arguments.threads.split(",")):
        parser.error("--scaling wants a number of threads above one, as --threads 2")
    for asked, known in ((arguments.names, models.MODELS), (arguments.classes, peers.CLASSES),
                         (arguments.without, peers.PEERS)):
        if set(asked) - set(known):
            parser.error(f"unknown: {', '.join(sorted(set(asked) - set(known)))}; choose of {', '.join(known)}")
    return arguments


def main():
    arguments = parse()
    names = arguments.names or CASES
    if arguments.costs:
        rows = costs.table(names, arguments)
    elif arguments.scaling:
        rows = scaling.table(names, arguments)
    else:
        rows = []
        print(hidden(arguments), HEAD, sep="\n", flush=True)
        for threads in [int(t) for t in arguments.threads.split(",")]:
            for name in names:
                rows.append(measured(name, threads, arguments))
                print("\n".join(lines(rows[-1], arguments.classes)), flush=True)
        print("\nerrors are against: " + "; ".join(sorted({row["reference"] for row in rows})))
        if arguments.svg:
            with open(arguments.svg, "w", encoding="utf-8") as file:
                file.write(chart.drawn(rows))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main())
