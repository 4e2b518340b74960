"""Running means by pandas: numbers/report.json, which the smoothing of charts is compared with.

    pip install pandas==2.2.3 && python test/parity/make_report_goldens.py
"""

import json
import random
from pathlib import Path

import pandas

OUT = Path(__file__).resolve().parent / "numbers" / "report.json"


def values(count, seed, missing=0.0):
    draw = random.Random(seed)
    return [None if draw.random() < missing else round(7 * 0.97**i + draw.gauss(0, 0.3), 6) for i in range(count)]


def case(series, half_life):
    mean = pandas.Series(series, dtype="float64").ewm(halflife=half_life, adjust=True, ignore_na=False).mean()
    return {"half_life": half_life, "values": series, "mean": [None if pandas.isna(x) else x for x in mean]}


cases = [
    case(values(60, 1), 3),
    case(values(60, 2), 12.5),
    case(values(60, 3, missing=0.3), 4),
    case([None, None, 5.0, 1.0, None, 2.0], 1),
    case([3.0], 5),
]
OUT.write_text(json.dumps({"pandas": pandas.__version__, "ewm": cases}) + "\n")
