"""Reference values for tests/golden.rs, from POT and SciPy. Needs: pip install numpy scipy pot. Run: python make.py
Writes couplings.json beside itself. Costs have three decimals so that the file stays small and exact in text."""

import json
import pathlib

import numpy as np
import ot
import scipy
from scipy.optimize import linear_sum_assignment, linprog


def masses(rng, n, uniform):
    weights = np.ones(n) if uniform else np.round(rng.uniform(0.1, 1.0, n), 3)
    return weights / weights.sum()


def costs(rng, n, m, kind):
    if kind == "uniform":
        return np.round(rng.uniform(0, 1, (n, m)), 3)
    if kind == "ties":
        return rng.integers(0, 4, (n, m)).astype(float)
    if kind == "negative":
        return np.round(rng.normal(-3, 2, (n, m)), 3)
    x, y = rng.normal(0, 1, (n, 2)), rng.normal(0.5, 1, (m, 2))
    return np.round(((x[:, None] - y[None]) ** 2).sum(-1), 3)


def exact_with_forbidden(cost, a, b):
    """The linear program without the forbidden arcs."""
    n, m = cost.shape
    allowed = np.isfinite(cost).ravel()
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    matrix = np.vstack([rows, columns])[:, allowed]
    result = linprog(cost.ravel()[allowed], A_eq=matrix, b_eq=np.concatenate([a, b]), method="highs-ds")
    assert result.status == 0, result.message
    return result.fun


def entropic(cost, a, b, epsilon):
    plan = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=200000, stopThr=1e-14, warn=False)
    assert max(abs(plan.sum(1) - a).sum(), abs(plan.sum(0) - b).sum()) < 1e-12
    positive = plan > 0
    relative = plan[positive] * np.log((plan / np.outer(a, b))[positive])
    value = (plan * cost).sum()
    return plan, value, value + epsilon * relative.sum()


rng = np.random.default_rng(3)
cases = []
for kind, n, m, uniform in [
    ("uniform", 5, 7, False),
    ("uniform", 8, 8, True),
    ("ties", 6, 6, True),
    ("ties", 7, 4, False),
    ("negative", 4, 9, False),
    ("squared", 9, 6, False),
    ("squared", 12, 12, True),
]:
    a, b, cost = masses(rng, n, uniform), masses(rng, m, uniform), costs(rng, n, m, kind)
    case = dict(name=f"{kind} {n}x{m}", source=a.tolist(), target=b.tolist(), cost=cost.tolist())
    case["exact"] = float(ot.emd2(a, b, cost))
    if uniform:
        rows, columns = linear_sum_assignment(cost)
        case["assignment"] = float(cost[rows, columns].mean())
    case["entropic"] = []
    for share in (1.0, 0.1, 0.03):
        epsilon = share * float(np.ptp(cost))
        plan, value, regularized = entropic(cost, a, b, epsilon)
        case["entropic"].append(
            dict(epsilon=epsilon, value=value, regularized_value=regularized, plan=np.round(plan, 12).tolist())
        )
    cases.append(case)

for n, m in [(6, 6), (5, 8)]:
    # A random plan with a mask keeps the pattern feasible.
    mask = rng.uniform(0, 1, (n, m)) < 0.5
    mask[np.arange(n), np.arange(n) % m] = mask[np.arange(m) % n, np.arange(m)] = True
    plan = rng.uniform(0.1, 1, (n, m)) * mask
    a, b = plan.sum(1) / plan.sum(), plan.sum(0) / plan.sum()
    cost = np.where(mask, np.round(rng.uniform(0, 1, (n, m)), 3), np.inf)
    listed = [[None if np.isinf(c) else c for c in row] for row in cost.tolist()]
    case = dict(name=f"forbidden {n}x{m}", source=a.tolist(), target=b.tolist(), cost=listed)
    cases.append(case | dict(exact=float(exact_with_forbidden(cost, a, b)), entropic=[]))

made_with = dict(numpy=np.__version__, scipy=scipy.__version__, pot=ot.__version__)
path = pathlib.Path(__file__).with_name("couplings.json")
path.write_text(json.dumps(dict(made_with=made_with, cases=cases), separators=(",", ":")).replace("},{", "},\n{") + "\n")
