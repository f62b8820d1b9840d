"""Reference values for tests/gaussian.rs, in 60 digits. Needs: pip install numpy mpmath pot. Run: python gaussian.py
Writes gaussians.json beside itself. Covariances are products of small whole numbers over powers of two, so they are the
same numbers in binary floating point; POT checks the well-conditioned ones."""

import json
import pathlib

import mpmath
import numpy as np
import ot

mpmath.mp.dps = 60


def root(matrix):
    values, vectors = mpmath.eigsy(matrix)
    roots = mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values])
    return vectors * roots * vectors.T


def squared_distance(m1, s1, m2, s2):
    a, b = mpmath.matrix(s1.tolist()), mpmath.matrix(s2.tolist())
    half = root(a)
    # Rounding at 60 digits leaves 1e-30 in the root of a zero, which is far below f64.
    cross = mpmath.eigsy(half * b * half, eigvals_only=True)
    trace = sum(mpmath.sqrt(max(v, 0)) for v in cross)
    shift = sum((mpmath.mpf(float(p)) - mpmath.mpf(float(q))) ** 2 for p, q in zip(m1, m2))
    return shift + sum(a[i, i] + b[i, i] for i in range(len(m1))) - 2 * trace


def covariance(rng, d, rank, exponents):
    """A scaled product of integer matrices; `exponents` spread the scales of the factors in powers of two."""
    factors = rng.integers(-4, 5, (d, rank)).astype(float) * 2.0 ** np.linspace(0, -exponents, rank).round()
    return factors @ factors.T / 16


rng = np.random.default_rng(11)
cases = []
for name, d, ranks, exponents in [
    ("full 2", 2, (2, 2), 0),
    ("full 5", 5, (5, 5), 0),
    ("full 12", 12, (14, 15), 0),
    ("singular source", 6, (3, 6), 0),
    ("both singular", 6, (2, 3), 0),
    ("rank one each", 5, (1, 1), 0),
    ("no covariance", 4, (0, 4), 0),
    ("ill-conditioned", 6, (6, 6), 16),
    ("worse", 4, (4, 4), 20),
]:
    m1, m2 = rng.integers(-8, 9, d) / 4, rng.integers(-8, 9, d) / 4
    s1, s2 = covariance(rng, d, ranks[0], exponents), covariance(rng, d, ranks[1], exponents)
    value = squared_distance(m1, s1, m2, s2)
    if exponents == 0 and min(ranks) >= d:
        pot = ot.gaussian.bures_wasserstein_distance(m1, m2, s1, s2) ** 2
        assert abs(float(value) - pot) < 1e-9 * max(1, pot), (name, value, pot)
    cases.append(
        dict(name=name, mean1=m1.tolist(), covariance1=s1.tolist(), mean2=m2.tolist(), covariance2=s2.tolist(), squared_distance=float(value))
    )

made_with = dict(numpy=np.__version__, mpmath=mpmath.__version__, pot=ot.__version__)
path = pathlib.Path(__file__).with_name("gaussians.json")
path.write_text(json.dumps(dict(made_with=made_with, cases=cases), separators=(",", ":")).replace("},{", "},\n{") + "\n")
