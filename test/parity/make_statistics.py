"""The statistics of compare, by others: statistics.json in numbers/. Needs requirements-statistics.txt only.

    pip install -r test/parity/requirements-statistics.txt && python test/parity/make_statistics.py

Distributions by scipy; Holm, Wilson, McNemar, and the power of paired t tests by statsmodels. Mean squares of the mixed
test come from least squares on dummy variables, as statsmodels fits them, and not from sums over means.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

OUT = Path(__file__).resolve().parent / "numbers" / "statistics.json"
PACKAGES = ("numpy", "scipy", "pandas", "patsy", "statsmodels")

DFS = (1, 1.5, 2, 3.7, 4, 11, 24, 99.3, 1234.5, 1e5)
TS = (0, 1e-6, 0.3, 0.999, 1, 1.0001, 2.776, 4.3, 12, 80, -2.5)
PROBABILITIES = (0.5, 0.6, 0.8, 0.975, 1 - 0.025 / 12, 1 - 0.025 / 78, 0.9999999, 0.025)


def tails() -> list:
    return [[t, df, float(stats.t.sf(t, df))] for df in DFS for t in TS]


def quantiles() -> list:
    return [[p, df, float(stats.t.ppf(p, df))] for df in DFS for p in PROBABILITIES]


def fishers() -> list:
    fs = (0, 1e-4, 0.4, 1, 3.3, 28, 4000)
    return [[f, a, b, float(stats.f.sf(f, a, b))] for a in (1, 2, 3, 4, 9) for b in (1, 2, 7, 24, 99) for f in fs]


def holms() -> list:
    rng = np.random.default_rng(1)
    families = [[0.001, 0.02, 0.03, 0.04, 0.5, 0.012], [0.04], [0.01, 0.01, 0.01], [0.9, 0.8, 0.7]]
    families += [[round(float(p), 6) for p in rng.uniform(size=size) ** 4] for size in (2, 5, 12, 78)]
    return [[p, [float(x) for x in multipletests(p, method="holm")[1]]] for p in families]


def wilsons() -> list:
    rows = [(17, 20), (0, 20), (20, 20), (1, 3), (500, 1000), (1, 100_000)]
    return [[hits, n, [float(x) for x in proportion_confint(hits, n, method="wilson")]] for hits, n in rows]


def mcnemars() -> list:
    rows = [(9, 2), (0, 6), (30, 14), (5, 5), (0, 0), (1, 0), (700, 600), (3, 900)]
    return [[b, c, float(mcnemar([[7, b], [c, 3]], exact=True).pvalue)] for b, c in rows]


def powers() -> list:
    """Of two strategies: a paired t test, whose differences deviate by the root of two spreads."""
    solve = TTestPower().power
    return [[k, s, float(solve(s / math.sqrt(2), k, 0.05))] for k in (3, 5, 8) for s in (1, 2, 3)]


def residual(means: np.ndarray, members: list) -> tuple:
    """Sum of squares and degrees of freedom that strategies and seeds leave."""
    rows = [(s, k, means[s, k]) for s in members for k in range(means.shape[1])]
    fit = ols("y ~ C(s) + C(k)", pd.DataFrame(rows, columns=["s", "k", "y"])).fit()
    return float(fit.ssr), float(fit.df_resid)


def pool_of(means: np.ndarray) -> list:
    """Members of the pool. A strategy joins by the F test of the residual that it adds, as of two nested fits."""
    count, seeds = means.shape
    center = np.median(means - means.mean(axis=1, keepdims=True), axis=0)
    order = [int(s) for s in np.argsort(np.var(means - center, axis=1), kind="stable")]
    size = count // 2 + 1
    pool, rest = order[:size], order[size:]
    while rest:
        squares, df = residual(means, pool)
        added = {s: residual(means, [*pool, s])[0] - squares for s in rest}
        steadiest = min(rest, key=added.get)
        ratio = added[steadiest] / (seeds - 1) / (squares / df)
        if stats.f.sf(ratio, seeds - 1, df) < 1e-5 / count:
            break
        pool.append(steadiest)
        rest.remove(steadiest)
    return sorted(pool)


def differences(scores: np.ndarray, first: int, second: int) -> dict:
    strategies, seeds, items = scores.shape
    means = scores.mean(axis=2)
    pool = pool_of(means)
    squares, pool_df = residual(means, pool)
    pooled = squares / pool_df
    d = scores[first] - scores[second]
    own = float(np.var(d.mean(axis=1), ddof=1))
    if seeds >= 8 or strategies < 4:
        seed_square, seed_df = items * own, seeds - 1
    else:
        center = means[pool].mean(axis=0)
        alone = [
            float(np.var(means[s] - center, ddof=1)) / (1 + (-1 if s in pool else 1) / len(pool)) for s in (first, second)
        ]
        variance = max(pooled + max(alone), own)
        share = min(0.5, pooled / variance)
        seed_square, seed_df = items * variance, 1 / (share**2 / pool_df + (1 - share) ** 2 / (seeds - 1))
    parts = [(seed_square, seed_df)]
    total, least = seed_square, seed_square
    if items > 1:
        rows = pd.DataFrame([(k, i, d[k, i]) for k in range(seeds) for i in range(items)], columns=["k", "i", "d"])
        table = anova_lm(ols("d ~ C(k) + C(i)", rows).fit())
        item_square, rest = float(table["mean_sq"]["C(i)"]), float(table["mean_sq"]["Residual"])
        parts += [(item_square, items - 1), (rest, (items - 1) * (seeds - 1))]
        total, least = seed_square + item_square - rest, max(seed_square, item_square)
    fallen = total < least
    df = seed_df if fallen else total**2 / sum(square**2 / n for square, n in parts)
    error = math.sqrt((least if fallen else total) / (seeds * items))
    difference = float(d.mean())
    t = stats.t(df)
    half = float(t.ppf(0.975)) * error
    return {
        "pair": [first, second],
        "own_variance": own > 2 * pooled,
        "paired": seeds >= 8 or strategies < 4,
        "left": [s for s in range(strategies) if s not in pool],
        "fallen": fallen,
        "difference": difference,
        "df": df,
        "p": float(2 * t.sf(abs(difference) / error)),
        "interval": [difference - half, difference + half],
    }


def mixed() -> list:
    rng = np.random.default_rng(7)
    cases = []
    # Strategies, seeds, items, item spread, noise, and how many times the last one's spread is the others'.
    for s, k, i, item_spread, noise, unstable in (
        (2, 3, 1, 0, 0, 1),
        (2, 5, 8, 1, 1, 1),
        (4, 3, 12, 0.5, 3, 3),
        (5, 2, 6, 1, 6, 1),
        (3, 4, 10, 2, 0.2, 4),
        (6, 4, 5, 0.3, 0.3, 30),
        (5, 9, 4, 0.5, 1, 2),
    ):
        spread = np.ones(s)
        spread[-1] = unstable
        seed_part = rng.normal(size=(s, k, 1)) * spread[:, None, None] + rng.normal(size=(1, k, 1))
        item_part = rng.normal(size=(s, 1, i)) * item_spread + 3 * rng.normal(size=(1, 1, i))
        scores = np.round(seed_part + item_part + rng.normal(size=(s, k, i)) * noise + np.arange(s)[:, None, None] / 2, 4)
        pairs = [(a, b) for a in range(1, s) for b in range(a)]
        cases.append({"scores": scores.tolist(), "differences": [differences(scores, a, b) for a, b in pairs]})
    one = np.array([[0.812, 0.806, 0.821], [0.801, 0.803, 0.807]])[:, :, None]
    found = differences(one, 0, 1)
    paired = stats.ttest_rel(one[0, :, 0], one[1, :, 0])
    assert abs(found["p"] - paired.pvalue) < 1e-12
    cases.append({"scores": one.tolist(), "differences": [found]})
    found = [row for case in cases for row in case["differences"]]
    assert any(row["left"] for row in found) and any(not row["left"] for row in found)
    assert any(row["fallen"] for row in found) and any(row["own_variance"] and not row["fallen"] for row in found)
    return cases


if __name__ == "__main__":
    result = {
        "versions": {name: version(name) for name in PACKAGES},
        "tails": tails(),
        "quantiles": quantiles(),
        "fishers": fishers(),
        "holm": holms(),
        "wilson": wilsons(),
        "mcnemar": mcnemars(),
        "power": powers(),
        "mixed": mixed(),
    }
    lines = []
    for key, value in result.items():
        rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else json.dumps(value)
        lines.append(f"{json.dumps(key)}: [\n{rows}\n]" if isinstance(value, list) else f"{json.dumps(key)}: {rows}")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
