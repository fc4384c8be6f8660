"""The models of the proving ground (`tasks.py`): ours by name, variants of them, a rule of thumb, and dpmm.

A model is named as it is written on the command line: ``prism``, with options ``prism:bins=8``, with a constant of a
module changed ``prism@stage.TYPICAL=0.03`` (modules of `dpsynth.models.tabular.marginals`), ``rule-of-thumb``, or
``dpmm-mst`` and ``dpmm-aim``, which the Python of their own environment runs.
"""

import importlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpsynth import Budget, Cohort, fit
from dpsynth.coding.codec import Codec
from dpsynth.models import synthesizer
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.fitting import count_tables, fit_model
from dpsynth.privacy.session import Session

DELTA = 1e-6
CODES = 16
"""Cells of a number that dpmm is given: equal parts of the public range."""
PACKAGE = "dpsynth.models.tabular.marginals"


def rows_of(
    model: str, cohort: Cohort, epsilon: float, *, rows: int, seed: int, peer_python: str | None = None
) -> Cohort:
    """Return synthetic rows of a model that was fitted with the whole budget."""
    if model.startswith("dpmm-"):
        job = {"model": model.removeprefix("dpmm-"), "epsilon": epsilon, "delta": DELTA, "rows": rows, "seed": seed}
        return _dpmm(cohort, job, peer_python)
    if model == "rule-of-thumb":
        return rule_of_thumb(cohort, epsilon).sample(rows, seed=seed)
    name, *changes = model.split("@")
    name, _, text = name.partition(":")
    options = dict(part.split("=") for part in text.split(",") if part)
    kinds = {key: type(value)(options[key]) for key, value in synthesizer(name)().options().items() if key in options}
    with changed(changes):
        return fit(cohort, name, epsilon=epsilon, delta=DELTA, anyway=True, **kinds).sample(rows, seed=seed)


def rule_of_thumb(cohort: Cohort, epsilon: float) -> Any:
    """Fit what a statistician would write down: columns in 4 bins of 32 fine cells, and every pair with the target."""
    with Session.open(cohort, Budget(epsilon, DELTA), cells=32) as session:
        rho, target = session.rho, cohort.schema.target
        counts = one_way.measure(session, 0.3 * rho, bins=4).merged(session.codec, 4)
        others = [name for name in session.codec.columns if name != target]
        order = list(session.codec.columns).index
        pairs = [tuple(sorted((name, str(target)), key=order)) for name in others]
        measured = count_tables(session, counts, pairs, [0.7 * rho / len(pairs)] * len(pairs))
        return fit_model(session, counts, measured, lambda *_: None)


@contextmanager
def changed(changes: list[str]) -> Iterator[None]:
    """Change constants of modules, written ``module.NAME=value``, for as long as the block runs."""
    before = []
    for change in changes:
        place, value = change.split("=")
        module, name = place.rsplit(".", 1)
        owner = importlib.import_module(module if "." in module else f"{PACKAGE}.{module}")
        before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, type(before[-1][2])(float(value)))
    try:
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def _dpmm(cohort: Cohort, job: dict[str, Any], peer_python: str | None) -> Cohort:
    """Run a mechanism of dpmm on codes of public cells; its own discretisation, which costs 0.1 more, is left out."""
    if peer_python is None:
        raise SystemExit("dpmm: name the Python of its environment with --peer-python.")
    codec = Codec(cohort.schema, cells=CODES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pd.DataFrame(codec.encode(cohort)).to_csv(folder / "codes.csv", index=False)
        (folder / "job.json").write_text(json.dumps(job | {"sizes": codec.shape}))
        command = [peer_python, str(Path(__file__).with_name("task_peer.py")), name]
        subprocess.run(command, check=True, capture_output=True, timeout=1800)
        drawn = pd.read_csv(folder / "drawn.csv")
    return codec.decode({name: drawn[name].to_numpy() for name in codec.columns}, np.random.default_rng(job["seed"]))
