"""Deep models for tables at patient-level epsilon, beside the default model, the direct classifier and others' code.

Everything is fitted on SUPPORT2's training patients with the whole budget counted. Results are added to
``<results>/deep_tables.csv`` (a row a fit), and ``deep_tables.md`` is written from all of them. Other people's models
run in environments of their own: `--python` names the interpreter that has them.

Examples
--------
::

    python benchmarks/deep_tables.py --epsilon 1 3 10 --seeds 3
    python benchmarks/deep_tables.py --models sdv-ctgan sdv-tvae sdv-copula --epsilon inf --python sdv-env/bin/python
    python benchmarks/deep_tables.py --models smartnoise-dpctgan --python smartnoise-env/bin/python --epsilon 1 10
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import DELTA, HERE, KEYS, ROWS, Task, auroc, cell, code, distances, tasks

import dpsynth
from dpsynth import Cohort
from dpsynth.evaluation.arrays.table import tables
from dpsynth.models.registry import available

OURS = ("ctgan", "tvae", "tabular-diffusion", "pate-gan", "prism", "independent")
DIRECT = ("logistic", "mlp")
OTHERS = ("sdv-copula", "sdv-ctgan", "sdv-tvae", "smartnoise-dpctgan", "smartnoise-patectgan")
FIGURES = ("1-way", "2-way", "3-way", "AUROC GB", "AUROC LR")
FOREIGN = """
import sys, warnings
import numpy as np, pandas as pd
warnings.filterwarnings("ignore")
model, epsilon, seed, rows, source, target = sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:5]), *sys.argv[5:7]
table = pd.read_csv(source)
np.random.seed(seed)
import torch
torch.manual_seed(seed)
torch.set_num_threads(1)
if model.startswith("sdv"):
    from sdv import single_table
    from sdv.metadata import Metadata
    kinds = {"sdv-copula": "GaussianCopulaSynthesizer", "sdv-ctgan": "CTGANSynthesizer", "sdv-tvae": "TVAESynthesizer"}
    facts = {} if model == "sdv-copula" else {"epochs": 100}
    whole = {"table": table}  # the form of sdv 2
    maker = getattr(single_table, kinds[model])(Metadata.detect_from_dataframes(whole), **facts)
    maker.fit(whole)
    drawn = maker.sample(rows)
    drawn = drawn["table"] if isinstance(drawn, dict) else drawn
else:
    from snsynth import Synthesizer
    numbers = [c for c in table if table[c].dtype.kind in "fi" and table[c].nunique() > 12]
    table = table.copy()
    for column in table:  # it takes no missing values: they become a category, numbers are cut at deciles (not private)
        if column in numbers:
            table[column] = pd.qcut(table[column], 10, duplicates="drop").astype(str)
        table[column] = table[column].astype(str)
    maker = Synthesizer.create(model.split("-")[1], epsilon=epsilon, verbose=False)
    maker.fit(table, categorical_columns=list(table.columns), preprocessor_eps=0.0)
    drawn = maker.sample(rows)
drawn.to_csv(target, index=False)
"""


def fitted(task: Task, model: str, epsilon: float, seed: int, python: str) -> dict[str, Any]:
    """Fit one model, draw rows, judge them; of a classifier only its AUROC."""
    start, start_cpu = time.perf_counter(), time.process_time()
    if model in DIRECT:
        figures = direct(task, model, epsilon)
    else:
        drawn = foreign(task, model, epsilon, seed, python) if model in OTHERS else ours(task, model, epsilon, seed)
    times = {"seconds": time.perf_counter() - start, "CPU s": time.process_time() - start_cpu}
    if model not in DIRECT:
        figures = judged(task, drawn)
    return {"arm": "", "model": model, "epsilon": epsilon, "seed": seed, "code": code(), **times, **figures}


def ours(task: Task, model: str, epsilon: float, seed: int) -> Cohort:
    """Return rows of one of our models; the noise is the operating system's."""
    return dpsynth.fit(task.train, model, epsilon=epsilon, delta=DELTA).sample(ROWS, seed=seed)


def direct(task: Task, kind: str, epsilon: float) -> dict[str, float]:
    """Return the AUROC of the classifier that is trained on the patients themselves."""
    from sklearn.metrics import roc_auc_score

    from dpsynth.models.tabular.deep.classifier import fit_classifier

    assert task.test is not None  # noqa: S101  (SUPPORT2 has test patients)
    found = fit_classifier(task.train, epsilon=epsilon, delta=DELTA, kind=kind)
    codes = dpsynth.coding.codec.Codec(task.train.schema).encode(task.test, [found.target])[found.target]
    chance = float(roc_auc_score(codes == 1, found.predict_proba(task.test)[:, 1]))
    return {"AUROC LR" if kind == "logistic" else "AUROC GB": chance}


def foreign(task: Task, model: str, epsilon: float, seed: int, python: str) -> Cohort:
    """Return rows of other people's code, which reads the training patients' typed table."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "train.csv", Path(folder) / "drawn.csv"
        frame = task.train.to_pandas()[list(task.train.schema.modelled)]
        frame.to_csv(source, index=False)
        command = [python, "-c", FOREIGN, model, str(epsilon), str(seed), str(ROWS), str(source), str(target)]
        subprocess.run(command, check=True)
        drawn = pd.read_csv(target)
    return Cohort.from_pandas(_typed(frame, drawn, seed), task.train.schema, synthetic=True)


def _typed(real: pd.DataFrame, drawn: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return foreign rows in the types of the real table; numbers that came back as intervals are drawn in them."""
    rng = np.random.default_rng(seed)
    for name in drawn:
        if real[name].dtype.kind in "fiu" and drawn[name].dtype.kind not in "fiu":
            ends = drawn[name].astype(str).str.extract(r"\(([-\d.e+]+), ([-\d.e+]+)\]").astype(float)
            values = ends[0] + rng.random(len(ends)) * (ends[1] - ends[0])
            whole = (real[name].dropna() % 1 == 0).all()
            drawn[name] = values.round() if whole else values
        elif drawn[name].dtype.kind == "O":
            drawn[name] = drawn[name].where(~drawn[name].isin(["nan", "None", "<NA>"]), None)
    return drawn


def judged(task: Task, drawn: Cohort) -> dict[str, float]:
    """Return distances at quantile bins, and the AUROC of learners trained on the rows."""
    assert task.test is not None  # noqa: S101  (SUPPORT2 has test patients)
    found = tables({"reference": task.reference, "drawn": drawn, "test": task.test})
    target = task.train.schema.target
    assert target is not None  # noqa: S101  (and a target)
    return distances(found["reference"], found["drawn"], "quantile") | auroc(found["drawn"], found["test"], target)


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    lines = [
        "# Deep models for tables: SUPPORT2",
        "",
        f"Written by `benchmarks/deep_tables.py`; δ = {DELTA:g}, the whole budget counted, at patient level, noise of",
        f"the operating system. Mean (least to most) over fits. TVD of {ROWS:,} synthetic rows from the real training",
        "patients at 8 quantile bins, mean over all marginals of 1, 2 and 3 columns; AUROC on the real test",
        "patients (30 %, apart by patient) of gradient boosting (GB) and logistic regression (LR) trained on the",
        "synthetic rows. *logistic* and *mlp* are trained by DP-SGD on the real training patients",
        "(`dpsynth.models.tabular.deep.classifier`); no rows are drawn. The hyperparameters of all our networks were",
        "chosen on this",
        "very dataset, which is public, with few tries; on private patients they are used as they are. SDV's models",
        "are **not private** (ε = ∞). SmartNoise's counts ε for rows and is given decile cuts of the data for nothing.",
        "Seconds: one thread of two cores that others used at the same time, therefore the CPU seconds (ours only).",
        "",
    ]
    for epsilon in sorted(frame["epsilon"].unique()):
        lines += [f"## ε = {'∞ (not private)' if np.isinf(epsilon) else f'{epsilon:g}'}", ""]
        lines += ["| model | fits | seconds | CPU s | " + " | ".join(FIGURES) + " |", "|---" * (4 + len(FIGURES)) + "|"]
        mine = frame[frame["epsilon"] == epsilon]
        for model in [name for name in (*OURS, *DIRECT, *OTHERS) if name in set(mine["model"])]:
            rows = mine[mine["model"] == model]
            figures = [
                cell(rows[name].dropna(), 3) if name in rows and rows[name].notna().any() else "" for name in FIGURES
            ]
            times = [cell(rows[name], 0) for name in ("seconds", "CPU s")]
            lines.append("| " + " | ".join([model, str(len(rows)), *times, *figures]) + " |")
        lines.append("")
    return "\n".join(lines)


def kept(path: Path, new: dict[str, Any]) -> pd.DataFrame:
    """Add a row to the CSV, in place of an earlier one with the same keys, and return all of it."""
    frame = pd.DataFrame([new])
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"code": "str"}), frame])
    frame = frame.assign(arm="").drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in OURS if name in available()]
    parser.add_argument("--models", nargs="+", default=[*names, *DIRECT], choices=[*OURS, *DIRECT, *OTHERS])
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, default=3, help="fits of each model and budget")
    parser.add_argument("--python", default="python", help="the interpreter that has other people's models")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for, one fit of everything before the next; the files are brought up to date after each."""
    import torch

    torch.set_num_threads(1)
    asked = arguments()
    path = asked.results / "deep_tables.csv"
    (task,) = tasks("support2", None)
    for seed in range(asked.seeds):
        for model in asked.models:
            for epsilon in [np.inf] if model.startswith("sdv") else asked.epsilon:
                row = fitted(task, model, epsilon, seed, asked.python)
                path.with_suffix(".md").write_text(page(kept(path, row)), encoding="utf-8")
                print(
                    {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()},
                    flush=True,
                )


if __name__ == "__main__":
    main()
