"""Coefficients of the polynomials that src/simd/lanes.rs and src/simd/x86.rs use for 2^r, by interpolation at Chebyshev
points in 50 digits, and their largest relative error. Needs: pip install mpmath. Run: python exp.py"""

from mpmath import chebyfit, mp, mpf

mp.dps = 50
for name, half, degree in [
    ("f64, |r| <= 1/2", mpf(1) / 2, 11),
    ("f64, |r| <= 1/32 (table of 16)", mpf(1) / 32, 6),
    ("f32, |r| <= 1/2", mpf(1) / 2, 6),
]:
    # Fitting (2^r - 1) / r leaves the constant term exactly 1.
    quotient = lambda r: (mpf(2) ** r - 1) / r if r else mp.ln(2)
    coefficients, _ = chebyfit(quotient, [-half, half], degree, error=True)
    rounded = [float(c) for c in coefficients]
    value = lambda r: 1 + r * mp.polyval([mpf(c) for c in rounded], r)
    points = [half * (2 * mpf(k) / 2000 - 1) for k in range(2001)]
    error = max(abs(value(r) / mpf(2) ** r - 1) for r in points)
    print(f"{name}: error {mp.nstr(error, 3)}")
    for power, c in zip(range(degree, 0, -1), rounded):
        print(f"    {c!r}, // r^{power}")
print("table", [float(mpf(2) ** (mpf(k) / 16)) for k in range(16)])
