"""States beside numbers: results below or above a limit of a test, such as "<5", and words such as "not done".

Such a column is an Arrow struct of a number and a state, of which at most one is there. In codes each state has a step
of its own, beyond every number, so that a state is never mistaken for a measurement.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["FIRST_STATE", "NUMBER", "Limit", "State", "as_text", "joined", "limit_of", "named", "split", "stepped"]

FIRST_STATE = 2**53
"""The step of a column's first state; numbers are clipped to 2^52 before they become steps."""
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
"""How a number is written with a decimal point."""
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥|⩽|⩾)\s*([-+]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?)")
_SIGNS = {"≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">="}
_GROUPED = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")


@dataclass(frozen=True)
class Limit:
    """A limit of a test as it is written, such as "<5": the sign and the number behind it."""

    sign: str
    number: Decimal

    @property
    def is_below(self) -> bool:
        """Whether values lie below the number."""
        return self.sign.startswith("<")

    @property
    def is_strict(self) -> bool:
        """Whether the number itself is left out."""
        return len(self.sign) == 1


@dataclass(frozen=True)
class State:
    """A declared state of a numeric column.

    Attributes
    ----------
    text
        How it is written.
    low, high
        The steps between which the values lie that it stands for; None where it stands for none ("not done").
    is_below
        Whether it is a limit from above: values are at most `high`. None where it is no limit.
    """

    text: str
    low: int | None = None
    high: int | None = None
    is_below: bool | None = None

    @property
    def edge(self) -> int | None:
        """The step at the limit, the nearest of those that it stands for; None where it is no limit."""
        return self.high if self.is_below else self.low

    def is_within(self, start: int, end: int) -> bool:
        """Return whether every value that the state stands for lies in an interval of steps."""
        return self.low is not None and self.high is not None and start <= self.low and self.high <= end


def limit_of(text: str) -> Limit | None:
    """Return the limit that text spells, or None; "<1,000" is none, since its comma may part thousands.

    >>> limit_of("≤ 0,5")
    Limit(sign='<=', number=Decimal('0.5'))
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None or _GROUPED.fullmatch(match[2]):
        return None
    return Limit(_SIGNS.get(match[1], match[1]), Decimal(match[2].replace(",", ".")))


def spelling_key(text: str) -> Any:
    """Return what is equal for two spellings of one state: "< 5", "<5.0" and "<5"; "Not done" and "not done"."""
    limit = limit_of(text)
    return (limit.sign, limit.number.normalize()) if limit is not None else " ".join(text.split()).casefold()


class WithStates(Protocol):
    """A declaration with states beside its numbers."""

    @property
    def states(self) -> "Sequence[State]":
        """The states, in the order of their steps."""


def split(column: "WithStates", text: Any) -> tuple[Any, Any]:
    """Return a column of text as what is no state (null where it is one), and as the declared states (null elsewhere).

    Parameters
    ----------
    column
        The declaration.
    text
        A pyarrow Array of text.

    Notes
    -----
    Privacy contract: each value is compared with the declared states alone.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_word = pc.invert(pc.match_substring_regex(text, rf"^\s*(?:{NUMBER})?\s*$"))
    words = pc.if_else(is_word, text, pa.scalar(None, pa.string())).dictionary_encode()
    spellings = {spelling_key(state.text): state.text for state in column.states}
    texts = pa.array([spellings.get(spelling_key(word)) for word in words.dictionary.to_pylist()], pa.string())
    states = texts.take(words.indices)
    return pc.if_else(pc.is_null(states), text, pa.scalar(None, pa.string())), states


def joined(numbers: Any, states: Any | None = None) -> Any:
    """Return numbers and states as one struct array; missing where neither is there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if states is None:
        states = pa.nulls(len(numbers), pa.string())
    missing = pc.and_(pc.is_null(numbers), pc.is_null(states))
    return pa.StructArray.from_arrays([numbers, states], ["number", "state"], mask=missing)


def as_text(array: Any, numbers: Any) -> Any:
    """Return a struct of numbers and states as text, given the text of the numbers."""
    import pyarrow.compute as pc

    return pc.coalesce(array.flatten()[1], numbers)


def stepped(column: "WithStates", states: Any, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return (rows,) the steps of a column: those of its states where there is one, else those of its numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array([state.text for state in column.states], pa.string())
    places = pc.index_in(states, value_set=texts).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(places >= 0, FIRST_STATE + places, numbers)


def named(column: "WithStates", steps: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], Any]:
    """Return (rows,) where steps are those of states, and the states' texts (null elsewhere)."""
    import pyarrow as pa

    is_state = steps >= FIRST_STATE
    texts = pa.array([state.text for state in column.states], pa.string())
    return is_state, texts.take(pa.array(np.where(is_state, steps - FIRST_STATE, 0), mask=~is_state))


def as_texts(value: Any) -> Any:
    """Return one text as a list of one: `below: "<5"` is `below: ["<5"]`."""
    return [value] if isinstance(value, str) else value


def check_states(states: Sequence[State], missing_word: str = "") -> None:
    """Refuse states that are empty, spell a number, or cannot be told apart.

    Raises
    ------
    ValueError
        If one of them is so.
    """
    texts = [state.text for state in states]
    if any(not text.strip() for text in texts):
        raise ValueError(f"a state cannot be empty text{missing_word}; declare missing: true instead")
    if any(_spells_number(text) for text in texts):
        raise ValueError("a state that is a number is written without quotes, such as special: [999]")
    if len({spelling_key(text) for text in texts}) < len(texts):
        raise ValueError("two of the states in special and censored cannot be told apart when they are written")


def _spells_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
