"""Coefficients of the polynomial that src/simd.rs uses for exp on [-ln2/2, ln2/2], by interpolation at Chebyshev
points in 50 digits. Needs: pip install mpmath. Run: python exp.py"""

from mpmath import mp, mpf, chebyfit, exp, log

mp.dps = 50
half = log(2) / 2 * mpf("1.0001")
coefficients, error = chebyfit(exp, [-half, half], 11, error=True)
print("largest error", mp.nstr(error, 3))
for power, value in enumerate(reversed(coefficients)):
    print(f"    {float(value)!r}, // r^{power}")
high = float(int(log(2) * 2**32)) / 2**32
print("LN2_HIGH", repr(high), "LN2_LOW", repr(float(log(2) - mpf(high))))
