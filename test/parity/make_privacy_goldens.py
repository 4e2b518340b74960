"""What training with noise spends, by others: privacy.json in numbers/. Needs requirements-privacy.txt only.

    pip install --no-deps -r test/parity/requirements-privacy.txt && python test/parity/make_privacy_goldens.py

Epsilon by dp_accounting and by opacus over the same orders; log A, from which the Rényi divergence of a step follows,
by mpmath with 50 digits.
"""

import importlib.util
import itertools
import json
import logging
import math
import random
import warnings
from importlib.metadata import distribution, version
from pathlib import Path

import dp_accounting
import mpmath as mp
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS as ORDERS

OUT = Path(__file__).resolve().parent / "numbers" / "privacy.json"
PACKAGES = ("dp-accounting", "opacus", "scipy", "mpmath")

RATES = (1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 1.0)
SIGMAS = (0.3, 0.5, 0.8, 1.1, 2.0, 4.0, 20.0)
# Each pair of rate and sigma has four of these, in turn.
ENDS = list(itertools.product((1, 10, 300, 10_000, 1_000_000), (1e-3, 1e-5, 1e-6, 1e-8, 1e-12)))
DRAWN = 100


def opacus_rdp():
    """The module alone, since importing its package imports torch."""
    path = distribution("opacus").locate_file("opacus/accountants/analysis/rdp.py")
    spec = importlib.util.spec_from_file_location("opacus_rdp", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings() -> list[tuple[float, float, int, float]]:
    turn = itertools.cycle(range(len(ENDS)))
    rows = []
    for q, sigma in itertools.product(RATES, SIGMAS):
        # A stride of 7 through 25 pairs meets all of them.
        rows += [(q, sigma, *ENDS[7 * next(turn) % len(ENDS)]) for _ in range(4)]
    rows += [  # as in the papers and tutorials of the field
        (0.01, 1.1, 10_000, 1e-5),
        (0.01, 4.0, 1_000, 1e-5),
        (256 / 60_000, 1.3, 14_063, 1e-5),
        (0.001, 0.8, 2_000, 1e-6),
        (1.0, 5.0, 10, 1e-5),
    ]
    rng = random.Random(1)
    between = lambda low, high: float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")
    for _ in range(DRAWN):
        rows.append((between(1e-4, 1), between(0.3, 20), int(between(1, 1e6)), between(1e-12, 1e-3)))
    return rows


def epsilons() -> list[dict]:
    opacus = opacus_rdp()
    result = []
    for q, sigma, steps, delta in settings():
        accountant = RdpAccountant(ORDERS)
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma))
        accountant.compose(event, steps)
        theirs, order = accountant.get_epsilon_and_optimal_order(delta)
        rdp = opacus.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=ORDERS)
        signed, signed_order = opacus.get_privacy_spent(orders=ORDERS, rdp=rdp, delta=delta)
        result.append(
            {
                "setting": [q, sigma, steps, delta],
                "dp_accounting": [float(theirs), float(order)],
                "opacus": [float(signed), float(signed_order)],
            }
        )
    return result


def log_a(q: float, sigma: float, order: float) -> mp.mpf:
    q, sigma, a = mp.mpf(q), mp.mpf(sigma), mp.mpf(order)
    if a == int(a):
        terms = (mp.binomial(a, k) * (1 - q) ** (a - k) * q**k * mp.exp((k * k - k) / (2 * sigma**2)) for k in range(int(a) + 1))
        return mp.log(mp.fsum(terms))
    step = min(sigma**2, sigma) / 5
    low, high = -16 * sigma, a + 16 * sigma
    at = (low + step * i for i in range(int((high - low) / step) + 1))
    values = ((1 - q + q * mp.exp((2 * z - 1) / (2 * sigma**2))) ** a * mp.exp(-z * z / (2 * sigma**2)) for z in at)
    return mp.log(mp.fsum(values) * step / (sigma * mp.sqrt(2 * mp.pi)))


def divergences() -> list[dict]:
    rates, sigmas = (1e-9, 1e-4, 0.01, 0.1, 0.5, 0.9), (0.1, 0.3, 0.8, 2.0, 5.0, 20.0)
    grid = itertools.product(rates, sigmas, (1.1, 1.5, 2.0, 3.7, 8.3, 10.9, 64.0))
    return [{"setting": list(row), "log_a": float(log_a(*row))} for row in grid]


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    mp.mp.dps = 50
    head = {
        "versions": {name: version(name) for name in PACKAGES},
        "orders": [float(order) for order in ORDERS],
    }
    tables = {"epsilons": epsilons(), "divergences": divergences()}
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in tables.items():  # one setting a line
        lines = ",\n".join(json.dumps(row) for row in rows)
        parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
    OUT.write_text("{\n" + ",\n".join(parts) + "\n}\n")
