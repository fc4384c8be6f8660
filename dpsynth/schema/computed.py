"""The schema that is learned: with what lies between columns in place of one of them, and without derived columns."""

import math
from collections.abc import Mapping
from typing import TypeVar

from dpsynth.columns.conditions import resolve
from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Numeric
from dpsynth.schema.arithmetic import Formula, Interval
from dpsynth.schema.constraints import Constraint, Forbid, Order, Require, describe, expanded
from dpsynth.schema.derived import Derived, words_of
from dpsynth.schema.facts import Facts
from dpsynth.schema.gaps import gaps_of

__all__ = ["check_computed", "derived_in_order", "learned", "rule_words", "rules", "with_derived"]

AnyFacts = TypeVar("AnyFacts", bound=Facts)


def rules(schema: Facts) -> tuple[Constraint, ...]:
    """Return all that a row of a schema keeps: its constraints, and the orders of columns beside others."""
    orders = [gap.order for gap in gaps_of(schema.columns)]
    return (*schema.constraints, *(order for order in orders if order not in schema.constraints))


def rule_words(schema: Facts) -> list[str]:
    """Return all rules of a schema in words, constraints first."""
    return [*map(describe, rules(schema)), *(words_of(name, derived) for name, derived in schema.derived.items())]


def learned(schema: AnyFacts) -> AnyFacts:
    """Return the schema of what a model learns of a row; the schema itself where that is all of it.

    A column that stands beside another is the number of steps between them. A derived column is left out, or missing
    in the rows in which it is computed. Constraints of every kind are in terms of what is forbidden, required and
    ordered.

    Parameters
    ----------
    schema
        The declared schema.

    Returns
    -------
    Schema
        Of the same rows.
    """
    gaps = gaps_of(schema.columns)
    plain = all(isinstance(constraint, Forbid | Require | Order) for constraint in schema.constraints)
    if not gaps and not schema.derived and plain and schema.survival is None:
        return schema
    columns: dict[str, Column] = dict(schema.columns)
    constraints: list[Constraint] = list(expanded(schema.columns, schema.constraints))
    kept = [gap.order for gap in gaps]
    constraints = [constraint for constraint in constraints if constraint not in kept]
    for gap in gaps:
        columns[gap.name] = gap.learned
        constraints += gap.rules()
    for name, derived in schema.derived.items():
        if not derived.when:
            del columns[name]
            continue
        if not getattr(columns[name], "missing", False):
            constraints.append(Require(when={name: None}, require=dict(derived.when)))
        columns[name] = columns[name].model_copy(update={"missing": True})
        constraints.append(Require(when=derived.when, require={name: None}))
    return schema.model_copy(
        update={
            "columns": columns,
            "constraints": tuple(constraints),
            "derived": {},
            "predictors": (),
            "not_predictors": (),
            "survival": None,
            "related": _related(schema),
        }
    )


def _related(schema: Facts) -> tuple[tuple[str, str], ...]:
    """Return the pairs that go together: of an outcome in time, too, its time with the event and with all others."""
    if schema.survival is None:
        return schema.related
    time = schema.survival.time
    never = [name for name, derived in schema.derived.items() if not derived.when]
    others = [name for name in schema.modelled if name not in (time, *never)]
    named = {frozenset(pair) for pair in schema.related}
    return (*schema.related, *((time, name) for name in others if frozenset((time, name)) not in named))


def derived_in_order(derived: Mapping[str, Derived]) -> list[str]:
    """Return the derived columns, each after those that it is computed from.

    Raises
    ------
    ValueError
        If one is computed from itself.
    """
    waiting, order = dict(derived), list[str]()
    while waiting:
        ready = [name for name, item in waiting.items() if not set(item.formula.names) & set(waiting)]
        if not ready:
            raise ValueError(f"derived.{next(iter(waiting))}: is computed from itself")
        order += ready
        waiting = {name: item for name, item in waiting.items() if name not in ready}
    return order


def check_computed(schema: Facts) -> None:
    """Refuse columns beside others and derived columns that do not fit the schema.

    Raises
    ------
    ValueError
        With the place and the reason.
    """
    gaps = gaps_of(schema.columns)
    _check_derived(schema)
    never = [name for name, derived in schema.derived.items() if not derived.when]
    computed = {gap.name: f"{gap.name!r} stands beside {gap.base_name!r}" for gap in gaps}
    computed |= {name: f"{name!r} is derived" for name in schema.derived}
    for field, names in _roles(schema).items():
        for name in names:
            if name in never:
                raise ValueError(
                    f"{field}: {name!r} is derived and never learned; name the columns it is computed from"
                )
    for gap in gaps:
        own = schema.derived.get(gap.name)
        if gap.base_name in schema.derived or (own is not None and own.formula.names != (gap.base_name,)):
            raise ValueError(
                f"columns.{gap.name}: a column beside another is derived from that one alone, and the other not at all"
            )
    kept = [gap.order for gap in gaps]
    for index, constraint in enumerate(schema.constraints):
        if constraint in kept:
            continue
        for part in expanded(schema.columns, [constraint]):
            _check_constraint(f"constraints.{index}", part, computed)
    _check_visited(schema, {gap.name: gap.base_name for gap in gaps})


def _check_constraint(place: str, constraint: Forbid | Require | Order, computed: Mapping[str, str]) -> None:
    """Refuse a constraint on the values of a computed column; whether one is missing may be spoken of."""
    sides = [] if isinstance(constraint, Order) else constraint.parts()
    for name in constraint.columns:
        conditions = [side[name] for side in sides if name in side]
        if name in computed and (isinstance(constraint, Order) or any(item is not None for item in conditions)):
            raise ValueError(
                f"{place}: {computed[name]}, so {describe(constraint)!r} cannot be kept too; "
                "put the rule on the columns that it is computed from"
            )


def _check_visited(schema: Facts, bases: Mapping[str, str]) -> None:
    """Refuse visits of which a rule within a row speaks across rows."""
    visits = schema.visits
    if visits is None:
        return
    for name in visits.rising:
        if name in bases or name in schema.derived:
            raise ValueError(f"visits: {name!r} is computed within a row; it cannot be rising as well")
    static = set(visits.static)
    for name, base in bases.items():
        if name in static and base not in static:
            raise ValueError(f"visits: {name!r} is static and stands beside {base!r}, which is not; make both static")


def _roles(schema: Facts) -> dict[str, tuple[str, ...]]:
    fairness = schema.fairness.columns if schema.fairness is not None else ()
    return {
        "target": (schema.target,) if schema.target else (),
        "subgroups": schema.subgroups,
        "intersections": tuple(name for names in schema.intersections for name in names),
        "fairness": tuple(fairness),
        "related": tuple(name for pair in schema.related for name in pair),
        "visits": (schema.visits.column,) if schema.visits is not None else (),
        "images": schema.images.labels if schema.images is not None else (),
    }


def _check_derived(schema: Facts) -> None:
    from dpsynth.errors import nearest

    for name, derived in schema.derived.items():
        place = f"derived.{name}"
        for other in (*derived.formula.names, *derived.when):
            if other not in schema.columns:
                raise ValueError(f"{place}: there is no column {other!r}{nearest(other, schema.columns)}")
        if name not in schema.columns:
            raise ValueError(f"{place}: its bounds do not follow from the formula; declare {name!r} under columns")
        computed = {gap.name for gap in gaps_of(schema.columns)} | set(schema.derived)
        for other, condition in derived.when.items():
            if other in computed:
                raise ValueError(f"{place}: {other!r} is computed too; name a column that is learned under when")
            try:
                resolve(other, schema.columns[other], condition)
            except ValueError as fault:
                raise ValueError(f"{place}: {fault}") from None
        _check_result(place, name, derived, schema.columns)
    derived_in_order(schema.derived)
    left = [name for name in schema.modelled if name not in schema.derived or schema.derived[name].when]
    if not left:
        raise ValueError("derived: every column is derived; leave one to be learned")


def _check_result(place: str, name: str, derived: Derived, columns: Mapping[str, Column]) -> None:
    """Refuse a formula whose value does not fit the column, or that may have none."""
    column, formula = columns[name], derived.formula
    if formula.column is not None:
        _check_copy(place, (name, column), (formula.column, columns[formula.column]))
        return
    if not isinstance(column, Numeric):
        raise ValueError(f"{place}: a formula gives a number; declare {name!r} with type: numeric")  # noqa: TRY004
    other = next((o for o in formula.names if not isinstance(columns[o], Numeric | Boolean | Datetime)), None)
    if other is not None:
        raise ValueError(f"{place}: {other!r} is neither a number, a date nor a boolean; a formula is of these")
    incomplete = [other for other in formula.names if _may_lack(columns[other])]
    if (incomplete or not _interval(formula, columns).defined) and not column.missing:
        why = (
            f"{incomplete[0]!r} may have no number" if incomplete else "it has no value for some values of its columns"
        )
        raise ValueError(f"{place}: {why}, and then {name!r} has none; declare missing: true for {name!r}")


def _check_copy(place: str, mine: tuple[str, Column], theirs: tuple[str, Column]) -> None:
    """Refuse a column that cannot have all values of the one that it equals."""
    (name, column), (other_name, other) = mine, theirs
    fault = ""
    if isinstance(column, Numeric) and isinstance(other, Numeric):
        if set(other.states) - set(column.states):
            fault = f"{other_name!r} has states that {name!r} does not declare"
    elif isinstance(column, Datetime) and isinstance(other, Datetime):
        if other.clock != column.clock:
            fault = f"one of {other_name!r} and {name!r} has a clock time; declare both with or without"
    elif isinstance(column, Categorical | Boolean) and isinstance(other, Categorical | Boolean):
        if set(other.categories) - set(column.categories):
            fault = f"{other_name!r} has values that {name!r} does not declare"
    else:
        fault = f"{other_name!r} is of another type; both are of one type"
    if not fault and getattr(other, "missing", False) and not getattr(column, "missing", False):
        fault = f"{other_name!r} may be missing; declare missing: true for {name!r}"
    if fault:
        raise ValueError(f"{place}: {fault}")


def _may_lack(column: Column) -> bool:
    names = isinstance(column, Numeric) and any(not column.first <= atom <= column.last for atom in column.atoms)
    return names or bool(getattr(column, "missing", False))


def _bounds(column: Column) -> tuple[float, float]:
    if isinstance(column, Numeric):
        return column.min, column.max
    if isinstance(column, Datetime):
        day = 86_400 if column.clock else 1
        return column.first / day, column.last / day
    return 0.0, 1.0


def _interval(formula: Formula, columns: Mapping[str, Column]) -> Interval:
    return formula.interval({name: _bounds(columns[name]) for name in formula.names})


def with_derived(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return the fields of a schema file with a declaration for each derived column that has none.

    Its bounds are those that the formula can reach; it has the digits of its columns where it only adds them, else two.
    """
    from pydantic import TypeAdapter, ValidationError

    derived, columns = values.get("derived"), values.get("columns")
    if not isinstance(derived, Mapping) or not isinstance(columns, Mapping):
        return values
    filled = dict(columns)
    for _ in derived:
        for name, item in derived.items():
            if name in filled or not isinstance(item, str):
                continue
            try:
                formula = Formula(item)
                known = {other: TypeAdapter(Column).validate_python(filled[other]) for other in formula.names}
            except (ValueError, KeyError, ValidationError):
                continue
            fields = _declared(formula, known)
            if fields is not None:
                filled[name] = fields
    return {**values, "columns": filled}


def _declared(formula: Formula, known: Mapping[str, Column]) -> dict[str, object] | None:
    if not all(isinstance(column, Numeric | Boolean | Datetime) for column in known.values()):
        return None
    reach = _interval(formula, known)
    if not math.isfinite(reach.low) or not math.isfinite(reach.high):
        return None
    digits = [column.decimals for column in known.values() if isinstance(column, Numeric)]
    decimals = max([0, *digits]) if formula.is_sum else 2
    unit = 10**decimals
    low, high = math.floor(reach.low * unit + 1e-6) / unit, math.ceil(reach.high * unit - 1e-6) / unit
    missing = not reach.defined or any(map(_may_lack, known.values()))
    fields: dict[str, object] = {"type": "numeric", "min": low, "max": high, "decimals": decimals}
    return {**fields, "missing": True} if missing else fields
