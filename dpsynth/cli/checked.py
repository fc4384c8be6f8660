"""How the check of data against a schema is shown: a table of columns, a table of faults, and one line at the end."""

from typing import TYPE_CHECKING

from dpsynth.cli.common import note, table

if TYPE_CHECKING:
    from dpsynth.checking.check import DataCheck
    from dpsynth.checking.faults import Fault

__all__ = ["show_check"]

_SHARES = ("missing", "below", "above", "rounded", "other", "unreadable")


def show_check(checked: "DataCheck") -> None:
    """Print what was found of data beside a schema, for a person to work through."""
    internal = "INTERNAL: exact counts of private data, not to be published"
    if checked.columns:
        rows = [(column.name, *(_percent(getattr(column, name)) for name in _SHARES)) for column in checked.columns]
        headings = ("column", "missing", "below min", "above max", "rounded", "to other", "unreadable")
        table(f"{checked.file}: {checked.rows} rows", headings, rows, caption=internal)
    if checked.faults:
        columns = ("a fit", "where", "what", "rows", f"which {checked.unit}s")
        faults = [_row(checked, fault) for fault in checked.faults]
        table("What does not keep the schema", columns, faults, caption=internal, lines=True)
    note(f"{checked.file}: {_verdict(checked)}")


def _row(checked: "DataCheck", fault: "Fault") -> tuple[str, ...]:
    from dpsynth.checking.faults import shortened

    kind = "refuses" if fault.is_refused else "goes on"
    count = "-" if fault.count is None else str(fault.count)
    if fault.rows is not None:
        count += f" ({_percent((fault.count or 0) / checked.rows)})"
    return kind, fault.place, fault.words, count, shortened(checked.places(fault), 6)


def _percent(share: float | None) -> str:
    """Return a share in percent; what is above 0 is never shown as 0."""
    if share is None:
        return "-"
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def _verdict(checked: "DataCheck") -> str:
    refused = sum(fault.is_refused for fault in checked.faults)
    warnings = len(checked.faults) - refused
    said = "1 warning" if warnings == 1 else f"{warnings} warnings"
    if refused:
        return f"a fit would refuse it: {refused} {'fault' if refused == 1 else 'faults'}, {said}."
    if warnings:
        return f"can be read, with {said}: what a fit would change or leave out stands above."
    return "keeps the schema."
