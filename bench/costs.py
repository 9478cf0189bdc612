"""What a network costs besides its latency: time to build (with an empty timing cache, and with one that knows all),
to load, and the peak of memory over loading and a few runs. Every figure comes from a process of its own, so that
nothing of another candidate is warm or counted.

usage: costs.py STEP NAME THREADS FOLDER [CLASS]     one step, as JSON; bench/cpu --costs runs them all
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import models
import peers

RUNS = 3


def resident(peak=False):
    """MiB of this process now, or at most until now."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:" if peak else "VmRSS:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def _timed(step):
    start = time.perf_counter()
    made = step()
    return made, 1e3 * (time.perf_counter() - start)


def opening(folder):
    """The inputs and extents that the first process left: reading them from the model here would count."""
    with open(os.path.join(folder, "dims.json"), encoding="ascii") as file, \
            np.load(os.path.join(folder, "inputs.npz")) as inputs:
        return dict(inputs), json.load(file)


def leave_opening(name, folder):
    inputs, dims = peers.opening(name)
    np.savez(os.path.join(folder, "inputs.npz"), **inputs)
    with open(os.path.join(folder, "dims.json"), "w", encoding="ascii") as file:
        json.dump(dims, file)


def _used(load, inputs):
    """Loads, runs a few times, and says how long loading took and how much memory all of it took beyond what was there."""
    before = resident()
    run, milliseconds = _timed(load)
    for _ in range(RUNS):
        run(inputs)
    return {"load_ms": milliseconds, "peak_mib": resident(peak=True) - before}


def build(name, threads, folder, kind):
    """Builds twice with one timing cache: the second build finds all that it asks for."""
    import sinter

    _, dims = opening(folder)
    cache, took = os.path.join(folder, "timing.txt"), []
    plain = _timed(lambda: sinter.build(models.path(name), threads=threads, dims=dims, **peers.CLASSES[kind]))[1]
    for _ in range(2):
        engine, milliseconds = _timed(lambda: sinter.build(models.path(name), threads=threads, dims=dims,
                                                           timing_cache=cache, **peers.CLASSES[kind]))
        took.append(milliseconds)
    engine.save(os.path.join(folder, "case.engine"))
    return {"plain_ms": plain, "cold_ms": took[0], "warm_ms": took[1]}


def load(name, threads, folder, kind):
    import sinter

    def step():
        context = sinter.load(os.path.join(folder, "case.engine"), threads=threads).context(threads)
        return context.run

    return _used(step, opening(folder)[0])


def ort(name, threads, folder, kind):
    import onnxruntime  # noqa: F401  (not counted)

    inputs, dims = opening(folder)

    def step():
        made = peers.session(models.path(name), threads, dims)
        return lambda given: made.run(None, given)

    return _used(step, inputs)


def openvino(name, threads, folder, kind):
    import openvino as package  # noqa: F401  (not counted)

    inputs, _ = opening(folder)
    return _used(lambda: peers.compile_openvino(models.path(name), inputs, threads, "f32").create_infer_request().infer,
                 inputs)


STEPS = {"build": build, "load": load, "ort": ort, "openvino": openvino}


def _asked(step, name, threads, folder, kind, reasons):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), step, name, str(threads), folder, kind],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reasons.append(f"{step}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def table(names, arguments):
    """Prints a line a network and class; returns the figures."""
    titles = ("build ms", "cold cache", "warm cache", "load ms", "peak MiB", "ORT load", "ORT MiB", "OV load", "OV MiB")
    print(f"{'network':<19}{'T':>2}  {'class':<8}" + "".join(f"{title:>12}" for title in titles), flush=True)
    rows = []
    for threads in [int(t) for t in arguments.threads.split(",")]:
        for name in names:
            peers_figures = {}
            for kind in arguments.classes:
                reasons = []
                with tempfile.TemporaryDirectory() as folder:
                    leave_opening(name, folder)
                    ask = lambda step: _asked(step, name, threads, folder, kind, reasons)
                    row = {"network": name, "threads": threads, "class": kind, **ask("build"), **ask("load")}
                    for peer in ("ort", "openvino"):
                        if peer not in arguments.without and peer not in peers_figures:
                            peers_figures[peer] = ask(peer)
                for peer, figures in peers_figures.items():
                    row.update({f"{peer}_{key}": value for key, value in figures.items()})
                rows.append(row)
                keys = ("plain_ms", "cold_ms", "warm_ms", "load_ms", "peak_mib", "ort_load_ms", "ort_peak_mib",
                        "openvino_load_ms", "openvino_peak_mib")
                print(f"{name:<19}{threads:>2}  {kind:<8}"
                      + "".join(f"{row[key]:>12.1f}" if key in row else f"{'':>12}" for key in keys),
                      *(f"    {reason}" for reason in reasons), sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    print(json.dumps(STEPS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), *sys.argv[4:6])))
