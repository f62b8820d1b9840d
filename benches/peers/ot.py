"""Times other libraries on the inputs of ot-bench: python ot.py FOLDER pot|ott|geomloss

Prints one JSON line about itself, then answers each JSON line on its input with one on its output, as `ot-bench serve`
does. The first request of a kind also compiles and tunes, outside the timing: of the settings that reach the tolerance,
verified on what comes out, the fastest is taken. The answer's `setting` may be sent along later to spare that search.
"""

import json
import math
import os
import sys
import time
import warnings
from pathlib import Path

from serve import NotRun, repeated, serve

# This file would hide the package that it times.
sys.path.pop(0)

import numpy as np

warnings.filterwarnings("ignore")
FOLDER = Path(sys.argv[1])


class Input:
    """The arrays of one input; only the last one asked for is kept."""

    held = None

    def __init__(self, name):
        self.name = name
        for part in ("cost", "source", "target", "x", "y"):
            path = FOLDER / f"{name}-{part}.npy"
            setattr(self, part, np.load(path) if path.exists() else None)

    @classmethod
    def get(cls, name):
        if cls.held is None or cls.held.name != name:
            cls.held = None
            cls.held = cls(name)
        return cls.held


def seconds_of(run):
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def measured(plan, data):
    """Value and L1 error of a plan, or of a stack of them."""
    plan = np.asarray(plan, dtype=np.float64)
    rows = np.abs(plan.sum(-1) - data.source).sum(-1).max()
    columns = np.abs(plan.sum(-2) - data.target).sum(-1).max()
    count = plan.shape[0] if plan.ndim == 3 else 1
    return {"value": float((plan * data.cost).sum() / count), "error": float(max(rows, columns))}


def tightened(reach, start, tolerance, tries):
    """The first of ever smaller thresholds whose result, verified, meets the tolerance."""
    threshold = start
    for _ in range(tries):
        if reach(threshold)["error"] <= tolerance:
            return threshold
        threshold *= 0.9
    raise NotRun("no threshold reaches the tolerance")


def plain_iterations(data, epsilon, tolerance, limit):
    """Sinkhorn updates, columns first, until the L1 error of the marginals is at most the tolerance."""
    kernel, start, count = np.exp(-data.cost / epsilon), time.perf_counter(), 0
    u, sums = np.ones(data.source.size), kernel.sum(0)
    while time.perf_counter() - start < 2 * limit:
        v = data.target / sums
        u = data.source / (kernel @ v)
        sums = kernel.T @ u
        count += 1
        if np.abs(v * sums - data.target).sum() <= tolerance:
            return count
    raise NotRun(f"not reached in {count} iterations")


class Pot:
    packages = ("POT", "numpy", "scipy")

    def __init__(self):
        import ot
        import ot.batch
        from scipy.optimize import linear_sum_assignment

        self.ot, self.assignment = ot, linear_sum_assignment
        # Iterations that a tolerance takes, by input and epsilon.
        self.counts = {}

    def prepare(self, request):
        data, solver = Input.get(request["input"]), request["solver"]
        if solver == "emd":
            return {}, lambda: self.emd(data)
        if solver == "assignment":
            return {}, lambda: self.assign(data)
        if solver.startswith("batch "):
            return {}, lambda: self.batch(data, request)
        if solver.startswith("loop "):
            return {}, lambda: self.loop(data, request)
        if request.get("iterations"):
            return {}, lambda: self.entropic(data, request, 0.0, request["iterations"])
        setting = request.get("setting") or self.tune(data, request)
        return setting, lambda: self.entropic(data, request, setting["threshold"], setting["most"])

    def entropic(self, data, request, threshold, most):
        plan, log = self.ot.sinkhorn(
            data.source, data.target, data.cost, request["epsilon"], method=request["solver"],
            numItermax=most, stopThr=threshold, warn=False, log=True,
        )
        return {"plan": plan, "iterations": int(log.get("niter", log.get("n_iter", most - 1))) + 1}

    def tune(self, data, request):
        """As many iterations as the tolerance takes, up to the next one at which POT would look at its error."""
        period = 20 if request["solver"] == "sinkhorn_stabilized" else 10
        most = -(-(self.needed(data, request) - 1) // period) * period + 1
        short, long = (seconds_of(lambda: self.entropic(data, request, 0.0, count))[0] for count in (1, 6))
        estimate = (long - short) / 5 * most
        if estimate > request["limit"]:
            raise NotRun(f"would take {estimate:.0f} s")
        return {"threshold": 0.0, "most": most}

    def needed(self, data, request):
        """Iterations of plain Sinkhorn, whose iterates every form of POT shares, to the tolerance."""
        key = (data.name, request["epsilon"])
        if key not in self.counts:
            self.counts[key] = plain_iterations(data, *key[1:], request["tolerance"], request["limit"])
        return self.counts[key]

    def emd(self, data):
        plan, log = self.ot.emd(data.source, data.target, data.cost, numItermax=10**9, log=True)
        return {"plan": plan, "iterations": 0, "status": "converged" if log["warning"] is None else "failed"}

    def assign(self, data):
        rows, columns = self.assignment(data.cost)
        plan = np.zeros_like(data.cost)
        plan[rows, columns] = data.source
        return {"plan": plan, "iterations": 0, "status": "converged"}

    def batch(self, data, request):
        result = self.ot.batch.solve_batch(
            data.cost, request["epsilon"], data.source, data.target, max_iter=request["iterations"], tol=0.0,
            method=request["solver"].removeprefix("batch "), grad="detach",
        )
        return {"plan": result.plan, "iterations": request["iterations"]}

    def loop(self, data, request):
        plans = [
            self.ot.sinkhorn(
                a, b, cost, request["epsilon"], method=request["solver"].removeprefix("loop "),
                numItermax=request["iterations"], stopThr=0.0, warn=False,
            )
            for a, b, cost in zip(data.source, data.target, data.cost)
        ]
        return {"plan": np.stack(plans), "iterations": request["iterations"]}


class Ott:
    packages = ("ott-jax", "jax", "jaxlib")
    # Ways to reach a tolerance; each is tried. "kernel" scales a stored exp(-C / epsilon) instead of summing logarithms.
    ways = [f"{mode}{more}" for mode in ("lse", "kernel") for more in (" 1.5", " 1.8", " adaptive", " anderson")]

    def __init__(self):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        # Fastest first at the last size.
        self.ranking = ["lse", *self.ways, "kernel"]

    def solver(self, way, epsilon, threshold, most, inner, least=0):
        """A compiled function of cost and masses to potentials and iterations."""
        from ott.geometry import geometry
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import acceleration, sinkhorn

        jnp = self.jax.numpy
        mode, _, more = way.partition(" ")
        extra = {}
        if more == "adaptive":
            extra["momentum"] = acceleration.Momentum(start=100, value=1.0, error_threshold=1.0)
        elif more == "anderson":
            extra["anderson"] = acceleration.AndersonAcceleration(memory=5, refresh_every=5, ridge_identity=1e-5)
        elif more:
            extra["momentum"] = acceleration.Momentum(value=float(more))
        sinkhorn_solver = sinkhorn.Sinkhorn(
            lse_mode=mode == "lse", threshold=threshold, max_iterations=most, min_iterations=least,
            inner_iterations=inner, **extra,
        )

        def solve(cost, source, target):
            kernel = jnp.exp(-cost / epsilon) if mode == "kernel" else None
            geom = geometry.Geometry(cost_matrix=cost, kernel_matrix=kernel, epsilon=epsilon)
            out = sinkhorn_solver(linear_problem.LinearProblem(geom, source, target))
            return out.f, out.g, out.n_iters

        return solve

    def ready(self, solve, arrays, batched=False):
        """Compiled for these arrays, warmed up; waits for the result."""
        jitted = self.jax.jit(self.jax.vmap(solve) if batched else solve)
        compiled = jitted.lower(*arrays).compile()
        return lambda: self.jax.block_until_ready(compiled(*arrays))

    def arrays(self, data, single):
        dtype = np.float32 if single else np.float64
        return [self.jax.device_put(part.astype(dtype)) for part in (data.cost, data.source, data.target)]

    def prepare(self, request):
        data, solver, epsilon = Input.get(request["input"]), request["solver"], request["epsilon"]
        batched, single = solver.startswith("batch "), solver.endswith("f32")
        arrays = self.arrays(data, single)
        way = solver.removeprefix("batch ").removesuffix(" f32")
        if count := request.get("iterations"):
            # The error is only computed at the end, which costs the least.
            solve = self.solver(way, epsilon, 0.0, count, min(count, 10), least=count)
            run = self.ready(solve, arrays, batched)
            return {}, lambda: self.result(run(), data, epsilon)
        setting = request.get("setting") or self.tune(data, arrays, request)
        solve = self.solver(setting["way"], epsilon, setting["threshold"], setting["most"], setting["inner"])
        run = self.ready(solve, arrays)
        return setting, lambda: self.result(run(), data, epsilon)

    def result(self, out, data, epsilon):
        f, g, iterations = out
        return {"iterations": int(np.max(iterations)), "potentials": (f, g, epsilon)}

    def tune(self, data, arrays, request):
        """The fastest way: of all at the first size, then of the best half, beyond 2000 points of the best two."""
        if request["epsilon"] >= 0.05:
            ways, inner = ["lse", "kernel"], 1  # A few iterations end it, and none can be spared.
        else:
            ways, inner = (self.ranking if data.target.size <= 2000 else self.ranking[:2]), 10
        paces = {mode: self.pace(mode, data, arrays, request) for mode in ("lse", "kernel")}
        found, reasons = [], []
        for way in ways:
            # Twice the best so far is too slow to win.
            budget = min([request["limit"], *(2.0 * seconds for seconds, _ in found)])
            most = max(20, int(budget / paces[way.split()[0]] / inner) * inner)
            try:
                found.append(self.tune_way(way, inner, most, data, arrays, request))
            except NotRun as reason:
                reasons.append(f"{way}: {reason}")
        if not found:
            raise NotRun("; ".join(reasons[:2]))
        found.sort(key=lambda pair: pair[0])
        for seconds, setting in found:
            print(f"  {data.name}: OTT {setting['way']} {seconds:.3f} s", file=sys.stderr)
        if inner > 1:
            self.ranking = [setting["way"] for _, setting in found][: max(2, len(self.ranking) // 2)]
        return found[0][1]

    def pace(self, mode, data, arrays, request):
        run = self.ready(self.solver(mode, request["epsilon"], 0.0, 20, 10, least=20), arrays)
        run()
        return seconds_of(run)[0] / 20

    def tune_way(self, way, inner, most, data, arrays, request):
        epsilon, tolerance = request["epsilon"], request["tolerance"]
        fastest = math.inf

        def reach(threshold):
            nonlocal fastest
            run = self.ready(self.solver(way, epsilon, threshold, most, inner), arrays)
            fastest, out = seconds_of(run)
            if int(out[2]) >= most:
                raise NotRun(f"not reached in {most} iterations")
            return verified(self.result(out, data, epsilon), data)

        threshold = tightened(reach, tolerance, tolerance, tries=6)
        return fastest, {"way": way, "threshold": threshold, "most": most, "inner": inner}


class GeomLoss:
    packages = ("geomloss", "pykeops", "torch")

    def __init__(self):
        import torch
        from geomloss import SamplesLoss

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.torch, self.loss = torch, SamplesLoss

    def prepare(self, request):
        data = Input.get(request["input"])
        backend, _, kind = request["solver"].partition(" ")
        dtype = self.torch.float32 if kind == "f32" else self.torch.float64
        x, y = (self.torch.from_numpy(points).to(dtype) for points in (data.x, data.y))
        # GeomLoss halves the squared distance, and its blur is the square root of its epsilon.
        loss = self.loss(
            "sinkhorn", p=2, blur=math.sqrt(request["epsilon"] / 2), debias=False, potentials=True, backend=backend
        )
        small = slice(0, 200)
        loss(x[small].contiguous(), y[small].contiguous())
        estimate = self.estimate(loss, x, y)
        if estimate > request["limit"]:
            raise NotRun(f"would take > {request['limit']:.0f} s")

        def run():
            with self.torch.no_grad():
                f, g = loss(x, y)
            return {"iterations": 0, "status": "no tolerance", "points": (2 * f.numpy().ravel(), 2 * g.numpy().ravel(), request["epsilon"])}

        return {}, run

    def estimate(self, loss, x, y):
        # Fewer would measure what a call costs, not what a point does.
        few = min(len(x), max(len(x) // 10, 2000))
        return seconds_of(lambda: loss(x[:few].contiguous(), y[:few].contiguous()))[0] * (len(x) / few) ** 2


def from_points(f, g, epsilon, data):
    """Value and error of the plan of these potentials, a block of rows at a time."""
    n, m = len(f), len(g)
    value, rows, columns = 0.0, np.zeros(n), np.zeros(m)
    for first in range(0, n, 500):
        part = slice(first, first + 500)
        cost = ((data.x[part, None] - data.y[None]) ** 2).sum(-1)
        plan = np.exp((f[part, None] + g[None] - cost) / epsilon) / (n * m)
        value, rows[part] = value + float((plan * cost).sum()), plan.sum(1)
        columns += plan.sum(0)
    error = max(np.abs(rows - 1 / n).sum(), np.abs(columns - 1 / m).sum())
    return {"value": value, "error": float(error)}


def verified(out, data):
    """The result with value and error of the plan that it stands for, outside the timing."""
    if (plan := out.pop("plan", None)) is not None:
        return {**out, **measured(plan, data)}
    if (potentials := out.pop("potentials", None)) is not None:
        f, g = (np.asarray(part, dtype=np.float64) for part in potentials[:2])
        return {**out, **measured(np.exp((f[..., None] + g[..., None, :] - data.cost) / potentials[2]), data)}
    points = out.pop("points")
    return {**out, **from_points(*points, data)}


def answer(library, held, request):
    key = json.dumps({k: request[k] for k in sorted(request) if k not in ("seconds", "repeats", "setting")})
    if held.get("key") != key:
        # Two stay: a case that counts by difference asks for two numbers of iterations in turns.
        held["prepared"] = {k: v for k, v in list(held.get("prepared", {}).items())[-3:]}
        if key not in held["prepared"]:
            held["prepared"][key] = library.prepare(request)
        held["key"] = key
    setting, run = held["prepared"][key]
    times, out = repeated(request, run)
    out = verified(out, Input.get(request["input"]))
    if count := request.get("iterations"):
        out["status"] = "fixed" if out["iterations"] == count else f"stopped after {out['iterations']}"
    elif "status" not in out:
        out["status"] = "converged" if out["error"] <= request["tolerance"] else "iteration_limit"
    return {**out, "seconds": times, "setting": setting, "note": setting.get("way", "")}


library = {"pot": Pot, "ott": Ott, "geomloss": GeomLoss}[sys.argv[2]]
serve(library, library.packages, answer)
