"""What stages with whole networks share: an engine that is saved and run by a new process, and the distance of results.

usage (by itself, as the new process): saved.py ENGINE INPUTS OUTPUTS THREADS
"""

import os
import pickle
import subprocess
import sys
import tempfile
import time

import numpy as np


class Failed(Exception):
    """The build or the run of an engine went wrong; the text says how."""


def run_saved(model, points, threads, **options):
    """Builds the model (a path; options are sinter.build's), saves the engine, and has a new process run it with each
    point's {name: array}.

    Returns (seconds of building, seconds of loading, names of the outputs, a list of outputs for each point).
    """
    import sinter

    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, n) for n in ("model.engine", "inputs", "outputs")]
        start = time.perf_counter()
        try:
            sinter.build(model, threads=threads, **options).save(paths[0])
        except sinter.Error as error:
            raise Failed(f"build failed: {error}") from error
        built = time.perf_counter() - start
        with open(paths[1], "wb") as file:
            pickle.dump(points, file)
        command = [sys.executable, os.path.abspath(__file__), *paths, str(threads)]
        child = subprocess.run(command, capture_output=True, text=True)
        if child.returncode != 0:
            said = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise Failed(f"run failed: {said[0]}")
        with open(paths[2], "rb") as file:
            return (built, *pickle.load(file))


def deviation(got, wanted, relative=1e-3, of_range=1e-4):
    """(worst error in units of what is allowed, largest error over the range)"""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return np.inf, np.inf
    if wanted.size == 0:
        return 0.0, 0.0
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    span = float(np.max(wanted) - np.min(wanted)) or float(np.max(np.abs(wanted))) or 1.0
    error = np.abs(got - wanted)
    if not np.all(np.isfinite(got) == np.isfinite(wanted)):
        return np.inf, np.inf
    allowed = np.maximum(relative * np.abs(wanted), of_range * span)
    return float(np.max(error / allowed)), float(np.max(error)) / span


def relative_rms(got, wanted):
    """Root mean square of the errors over that of the wanted values; infinite where types or finiteness differ."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return np.inf
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if not np.all(np.isfinite(got) == np.isfinite(wanted)):
        return np.inf
    finite = np.isfinite(wanted)
    size = np.sqrt(np.mean(wanted[finite] ** 2)) if finite.any() else 0.0
    return float(np.sqrt(np.mean((got - wanted)[finite] ** 2)) / (size or 1.0)) if finite.any() else 0.0


def _new_process(engine_path, inputs_path, outputs_path, threads):
    """Nothing but the engine file is read."""
    import sinter

    with open(inputs_path, "rb") as file:
        points = pickle.load(file)
    start = time.perf_counter()
    engine = sinter.load(engine_path, threads=int(threads))
    loaded = time.perf_counter() - start
    context = engine.context()
    results = [context.run(inputs) for inputs in points]
    with open(outputs_path, "wb") as file:
        pickle.dump((loaded, [i.name for i in engine.outputs], results), file)


if __name__ == "__main__":
    _new_process(*sys.argv[1:])
