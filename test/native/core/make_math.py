"""Writes math_values.h: arguments of the functions of core/math.h and their values to 40 digits and more. Needs mpmath 1.3.0.

A value is the nearest double and, in units of its last place, what is missing to the exact one.
"""

import math
import random
import struct
from pathlib import Path

import mpmath
from mpmath import mpf

mpmath.mp.prec = 2400
random.seed(1)


def neighbours(x, count=1):
    """Doubles next to one."""
    bits = struct.unpack("<q", struct.pack("<d", x))[0]
    return [struct.unpack("<d", struct.pack("<q", bits + i))[0] for i in range(-count, count + 1)]


def spread(count, low, high):
    return [random.uniform(low, high) for _ in range(count)]


def scaled(count, low, high):
    """Of any mantissa, with exponents in a range."""
    return [math.ldexp(random.uniform(1, 2), random.randint(low, high)) for _ in range(count)]


def signed(values):
    return [random.choice([-1, 1]) * x for x in values]


def angles():
    quarters = [float(k * mpmath.pi / 2) for k in (1, 2, 3, 4, 5, 8, 100, 1001, 65536, 2**31 + 1)]
    # The last but four is the double that is closest to a multiple of pi / 2.
    return [*spread(40, 0, 2 * math.pi), *scaled(15, -60, 0), *scaled(15, 1, 20), *scaled(15, 21, 1023), *quarters,
            6381956970095103 * 2.0**797, 0.78125, math.pi / 4, 5e-324, 1e-310]


def powers():
    steps = [(beta, float(step)) for beta in (0.9, 0.95, 0.99, 0.999, 0.9999) for step in (1, 2, 3, 10, 777, 5000)]
    steps += [(float(step), power) for step in (1, 2, 3, 10, 777, 5000) for power in (-0.8, -0.5, 0.5, 1 / 3)]
    mixed = []
    while len(mixed) < 60:
        x, exponent = scaled(1, -1022, 1022)[0], random.uniform(-1070, 1020)
        y = exponent / math.log2(x) if x != 1 else 1.0
        mixed.append((x, y))
    near_one = [(1 + random.uniform(-1, 1) * 2.0**-k, signed(scaled(1, k, k + 8))[0]) for k in range(2, 50, 2)]
    negative = [(-x, float(n)) for x in spread(5, 0.5, 3) for n in (2, 3, -5, 40)]
    return steps + mixed + near_one + negative


CASES = {
    "exp": [(x,) for x in [*spread(40, -745, 709.7), *spread(30, -1, 1), *signed(scaled(10, -60, -1)),
                           *spread(20, -745.1, -708), *neighbours(709.782712893384), *neighbours(-745.13321910194)]],
    "expm1": [(x,) for x in [*spread(40, -2, 2), *spread(40, -0.25, 0.25), *spread(20, -44, 60), *spread(5, 60, 709),
                             *signed(scaled(15, -60, -3)), *neighbours(0.1875), *neighbours(-0.1875), 5e-324]],
    "log": [(x,) for x in [*scaled(40, -1022, 1023), *spread(40, 0.5, 2), *spread(20, 0.98, 1.02), *neighbours(1, 3),
                           *[1 + s * 2.0**-k for k in range(5, 50, 3) for s in (-1, 1)], 5e-324, 1e-310,
                           *neighbours(0.6875), *neighbours(1.375)]],
    "pow": powers(),
    "sin": [(x,) for x in signed(angles())],
    "cos": [(x,) for x in signed(angles())],
}
FUNCTIONS = {
    "exp": mpmath.exp, "expm1": mpmath.expm1, "log": mpmath.log, "pow": mpmath.power, "sin": mpmath.sin, "cos": mpmath.cos,
}


def nearest(exact):
    """The nearest double, and the unit of its last place."""
    if exact == 0:
        return 0.0, mpf(2) ** -1074
    exponent = max(int(mpmath.floor(mpmath.log(abs(exact), 2))), -1022)
    unit = mpf(2) ** (exponent - 52)
    whole = int(mpmath.nint(exact / unit))
    if abs(whole) * unit >= mpf(2) ** 1024:
        return math.copysign(math.inf, whole), unit
    return math.ldexp(whole, exponent - 52), unit


lines = ["// Written by make_math.py.", "#pragma once", "", "struct MathValue {", "  double x, y, value, rest;", "};", ""]
for name, arguments in CASES.items():
    lines.append(f"inline constexpr MathValue k{name.capitalize()}Values[] = {{")
    for each in arguments:
        exact = FUNCTIONS[name](*(mpf(x) for x in each))
        value, unit = nearest(exact)
        if math.isinf(value):
            rest, text = 0.0, "INFINITY"
        else:
            rest, text = float((exact - mpf(value)) / unit), value.hex()
        x, y = (*each, 0.0)[:2]
        lines.append(f"    {{{x.hex()}, {y.hex()}, {text}, {rest:.4f}}},")
    lines += ["};", ""]
(Path(__file__).parent / "math_values.h").write_text("\n".join(lines[:-1]) + "\n")
