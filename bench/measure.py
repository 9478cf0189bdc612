"""Timing and comparing, shared by the benchmarks: candidates take turns in one process, so that whatever else the machine
does meets all of them."""

import time

import numpy as np


def timer(run, seconds, least=3):
    """Median seconds of one call within a slice of time, at least `least` calls."""
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def interleaved(runs, seconds, rounds=11, least=3):
    """Seconds of one call of each candidate (columns) in each round (rows). All get the same time, after as much to warm
    up; whose turn is first goes round."""
    share = seconds / ((rounds + 1) * len(runs))
    for run in runs:
        timer(run, share, least)
    times = np.empty((rounds, len(runs)))
    for n in range(rounds):
        for k in range(len(runs)):
            at = (n + k) % len(runs)
            times[n, at] = timer(runs[at], share, least)
    return times


def ratio(theirs, ours):
    """Median over rounds of the round's ratio, with its 10th and 90th percentile."""
    low, middle, high = np.percentile(theirs / ours, [10, 50, 90])
    return {"ratio": float(middle), "p10": float(low), "p90": float(high)}


def _worst(got, wanted, of):
    """The largest part over all outputs; infinite where shapes differ, NaN where the numbers are none."""
    worst = 0.0
    for g, w in zip(got, wanted, strict=True):
        if g.shape != w.shape:
            return float("inf")
        if w.size:
            worst = np.maximum(worst, of(g.astype(np.float64), w.astype(np.float64)))
    return float(worst)


def of_range(got, wanted):
    """The largest error of any output as a part of that output's range."""
    return _worst(got, wanted, lambda g, w: np.max(np.abs(g - w)) / (np.ptp(w) or 1.0))


def relative_rms(got, wanted):
    """The root mean square of an output's errors over that of the output, of the worst output."""
    return _worst(got, wanted, lambda g, w: np.sqrt(np.mean((g - w) ** 2)) / (np.sqrt(np.mean(w ** 2)) or 1.0))


def tried(what, step, reasons):
    """The result of a step; None, and a reason more, where it cannot be done."""
    try:
        return step()
    except Exception as error:  # the peers' exceptions have no base of their own
        reasons.append(f"{what}: {told(error)}")
        return None


def told(error):
    """What an exception says, on one line of a table."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:60] + " ... " + text[-55:]
