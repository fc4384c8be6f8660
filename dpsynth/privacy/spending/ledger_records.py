"""Records of a ledger file: how runs and limits are written, chained by checksums, and read again."""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpsynth.errors import LedgerError
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, grouped, total_delta, total_price, trainings

VERSION = 3
"""2: runs may reserve a training; a reader of version 1 would not count it. 3: a run names its patient column, and a
file may say that the ledger is elsewhere; a reader of version 2 would add up units that differ, or forget."""
RESTORE = "Restore it from a backup; a ledger is never repaired by guessing, because a guess could forget a spend."


@dataclass(frozen=True)
class Run:
    """One run on the dataset: what it reserved and, once it is closed, what it spent.

    ``patient_column`` is the column that tells patients apart; None where rows are protected, and for runs on patients
    that were recorded before version 3, which did not note it.
    """

    run: str
    time: str
    label: str
    budget: Budget
    accounting: Accounting
    rho: float
    extra_delta: float
    unit: str
    private: bool
    training: Event | None = None
    events: tuple[Event, ...] | None = None
    units: int = 0
    patient_column: str | None = None

    @property
    def closed(self) -> bool:
        """Whether the run committed what it spent; an open one counts with all that it reserved."""
        return self.events is not None

    @property
    def unnamed(self) -> bool:
        """Whether patients were protected and the record does not say which column told them apart."""
        return self.unit == "patient" and self.patient_column is None

    @property
    def protected(self) -> str:
        """What the run protects, in words."""
        if self.unit != "patient":
            return f"each {self.unit}"
        return "each patient" if self.unnamed else f"each patient of column {self.patient_column!r}"

    def price(self, accounting: Accounting) -> float:
        """Return what counts against the dataset.

        A reservation's price holds under its own accounting, and a ``gaussian`` price is never below the ``zcdp`` one.
        """
        return self.rho if self.events is None else total_price(self.events, accounting)

    def trained(self) -> tuple[Event, ...]:
        """Return the trainings that count against the dataset beside the price."""
        if self.events is not None:
            return trainings(self.events)
        return () if self.training is None else (self.training,)

    def delta(self) -> float:
        """Return the deltas of key discovery that count against the dataset."""
        return self.extra_delta if self.events is None else total_delta(self.events)


@dataclass(frozen=True)
class LedgerState:
    """The contents of a ledger file: its last checksum, its limit and its runs."""

    lines: tuple[str, ...] = ()
    checksum: str = ""
    limit: Budget | None = None
    runs: tuple[Run, ...] = ()


def now() -> str:
    """Return the present time for the reader of a ledger; no decision depends on it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def limit_record(limit: Budget, reason: str) -> dict[str, Any]:
    """Return the record that sets the dataset's limit."""
    return {
        "state": "limit",
        "run": "",
        "time": now(),
        "epsilon": limit.epsilon,
        "delta": limit.delta,
        "reason": reason,
    }


def reserve_record(run: Run) -> dict[str, Any]:
    """Return the record that says what a run may spend."""
    return {
        "state": "reserve",
        "run": run.run,
        "time": run.time,
        "label": run.label,
        "epsilon": run.budget.epsilon,
        "delta": run.budget.delta,
        "accounting": run.accounting,
        "rho": run.rho,
        "extra_delta": run.extra_delta,
        "unit": run.unit,
        "private": run.private,
        **({} if run.patient_column is None else {"patient_column": run.patient_column}),
        **({} if run.training is None else {"training": run.training.to_json()}),
    }


def commit_record(run: str, events: Sequence[Event]) -> dict[str, Any]:
    """Return the record that says what a run did spend."""
    return {"state": "commit", "run": run, "time": now(), "events": [e.to_json() for e in grouped(events)]}


def progress_record(run: str, units: int) -> dict[str, Any]:
    """Return the record that claims a run's units up to a number (`dpsynth.privacy.resuming`)."""
    return {"state": "progress", "run": run, "time": now(), "units": units}


def chain(records: Sequence[Mapping[str, Any]], checksum: str, *, version: int | None = None) -> Iterator[str]:
    """Yield one line a record, each with a checksum over itself and the one before it."""
    for record in records:
        facts = {"v": VERSION if version is None else version, **record}
        checksum = _checksum(facts, checksum)
        yield _line(facts, checksum)


def _line(facts: Mapping[str, Any], checksum: str) -> str:
    """Return the one way to write a record."""
    return json.dumps({**facts, "sum": checksum}, sort_keys=True, allow_nan=False)


def _checksum(facts: Mapping[str, Any], before: str) -> str:
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def parse(text: str, name: str) -> LedgerState:
    """Read and check every record of a ledger file.

    Raises
    ------
    LedgerError
        At the first doubt.
    """
    if not text.endswith("\n"):
        raise LedgerError(f"{name}: the ledger is empty or its last record is cut off. {RESTORE}")
    state = LedgerState()
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            state = _apply(state, line)
        except _Newer:
            raise LedgerError(f"{name}: was written by a newer dpsynth; upgrade before you spend.") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise LedgerError(f"{name}: record {number} was changed or is not a ledger record. {RESTORE}") from None
    return state


class _Newer(Exception):  # noqa: N818  (a signal inside this file, not an error that a user meets)
    """A record of a later version than this one can read."""


def _apply(state: LedgerState, line: str) -> LedgerState:
    """Return the state after one more record; ValueError, TypeError or KeyError when it cannot follow."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise TypeError("not an object")
    if isinstance(record.get("v"), int) and record["v"] > VERSION:
        raise _Newer
    checksum = record.pop("sum")
    if checksum != _checksum(record, state.checksum) or line != _line(record, checksum):
        raise ValueError("changed")
    state = replace(state, lines=(*state.lines, line), checksum=checksum)
    if record["state"] == "limit":
        return replace(state, limit=Budget(record["epsilon"], record["delta"]))
    if record["state"] == "reserve":
        return replace(state, runs=(*state.runs, _run(state, record)))
    if record["state"] == "commit":
        return replace(state, runs=_closed(state.runs, record))
    if record["state"] == "progress":
        return replace(state, runs=_advanced(state.runs, record))
    raise ValueError("unknown state")


def _run(state: LedgerState, record: Mapping[str, Any]) -> Run:
    """Read a reservation."""
    rho, extra = float(record["rho"]), float(record["extra_delta"])
    names = {r.run for r in state.runs}
    if state.limit is None or record["run"] in names or not (math.isfinite(rho) and rho >= 0 and 0 <= extra < 1):
        raise ValueError("reservation out of order or out of range")
    if record["accounting"] not in ("gaussian", "zcdp"):
        raise ValueError("unknown accounting")
    training = Event.from_json(record["training"]) if "training" in record else None
    if training is not None and not (training.sampled and record["accounting"] == "gaussian"):
        raise ValueError("not a training that can be reserved")
    return Run(
        run=str(record["run"]),
        time=str(record["time"]),
        label=str(record["label"]),
        budget=Budget(record["epsilon"], record["delta"]),
        accounting=record["accounting"],
        rho=rho,
        extra_delta=extra,
        unit=str(record["unit"]),
        private=bool(record["private"]),
        training=training,
        patient_column=_text(record.get("patient_column")),
    )


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("not a name")
    return value


def _advanced(runs: tuple[Run, ...], record: Mapping[str, Any]) -> tuple[Run, ...]:
    """Return the runs with more units claimed of an open one."""
    at, units = [i for i, r in enumerate(runs) if r.run == record["run"] and not r.closed], record["units"]
    if len(at) != 1 or not isinstance(units, int) or units <= runs[at[0]].units:
        raise ValueError("progress of an unknown or closed run, or none")
    return (*runs[: at[0]], replace(runs[at[0]], units=units), *runs[at[0] + 1 :])


def _closed(runs: tuple[Run, ...], record: Mapping[str, Any]) -> tuple[Run, ...]:
    """Return the runs with one of them closed."""
    events = tuple(Event.from_json(facts) for facts in record["events"])
    at = [i for i, r in enumerate(runs) if r.run == record["run"] and not r.closed]
    if len(at) != 1:
        raise ValueError("commit of an unknown or closed run")
    return (*runs[: at[0]], replace(runs[at[0]], events=events), *runs[at[0] + 1 :])
