"""What more threads are worth to Sinter: the same network built for one and for several, taking turns in one process."""

import contextlib
import os
import subprocess
import sys

import numpy as np

import measure
import peers


@contextlib.contextmanager
def busy(count):
    """So many other processes that compute without end; they end with this one."""
    program = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(100000))"
    others = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def table(names, arguments):
    """Prints a line a network, class and number of threads above one; returns the figures. Ratios are the time of one
    thread over that of several, of the medians of rounds, and of the fastest round of each."""
    with busy(arguments.busy):
        return _table(names, arguments)


def _table(names, arguments):
    print(f"{'network':<19}{'T':>2}  {'class':<8}{'T=1 ms':>10}{'T ms':>10}{'ratio':>7}  {'p10 - p90':<13}{'of best':>9}",
          flush=True)
    rows = []
    options = {"level": arguments.level, "timing_cache": arguments.timing_cache}
    counts = [int(t) for t in arguments.threads.split(",") if int(t) > 1]
    for name in names:
        inputs, dims = peers.opening(name)
        for kind in arguments.classes:
            reasons = []
            made = [measure.tried(f"{name} {kind}, {t} threads",
                                  lambda: peers.sinter(name, inputs, dims, t, kind, **options).run, reasons)
                    for t in [1] + counts]
            for threads, run in zip(counts, made[1:]):
                if made[0] is None or run is None:
                    continue
                times = measure.interleaved([made[0], run], arguments.seconds, arguments.rounds, arguments.least)
                one, several = times[:, 0], times[:, 1]
                row = {"network": name, "threads": threads, "class": kind, "one_ms": 1e3 * float(np.median(one)),
                       "ms": 1e3 * float(np.median(several)), **measure.ratio(one, several),
                       "of_best": float(one.min() / several.min())}
                rows.append(row)
                print(f"{name:<19}{threads:>2}  {kind:<8}{row['one_ms']:>10.3f}{row['ms']:>10.3f}{row['ratio']:>7.2f}  "
                      f"{row['p10']:.2f} - {row['p90']:.2f}".ljust(71) + f"{row['of_best']:>9.2f}", flush=True)
            for reason in reasons:
                print(f"    {reason}", flush=True)
    return rows
