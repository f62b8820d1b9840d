"""Times POT on the inputs of benches/ot.rs. Needs: pip install numpy pot. Run: python pot.py
Set OMP_NUM_THREADS=1 (and RAYON_NUM_THREADS=1 there) to compare one thread with one."""

import time

import numpy as np
import ot

ITERATIONS = 50
EPSILON = 0.01
ROOTS = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0])


def problem(n):
    points = np.modf(np.arange(1, 2 * n + 1)[:, None] * ROOTS)[0]
    cost = ((points[:n, None] - points[None, n:]) ** 2).sum(-1)
    weights = (np.arange(n) % 5 + 1).astype(float)
    return weights / weights.sum(), cost / cost.max()


def median(run, repeats=7):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


print("POT", ot.__version__)
for n in (256, 1024):
    mass, cost = problem(n)
    for name in ("sinkhorn", "sinkhorn_log"):
        solve = lambda: ot.sinkhorn(
            mass, mass, cost, EPSILON, method=name, numItermax=ITERATIONS, stopThr=0.0, warn=False
        )
        seconds = median(solve)
        print(f"{name} {n}: {seconds / ITERATIONS * 1e3:.3f} ms an iteration, {seconds / ITERATIONS / n**2 * 1e9:.2f} ns an entry")
mass, cost = problem(256)
print(f"emd 256: {median(lambda: ot.emd(mass, mass, cost)) * 1e3:.2f} ms, value {ot.emd2(mass, mass, cost):.12f}")
