"""Schemas and cohorts for property tests: any kinds of column, any names, any states."""

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from dpsynth.coding.codec import Codec
from dpsynth.schema import Schema

settings.register_profile("dpsynth", deadline=None)  # two shared cores: times say nothing
settings.load_profile("dpsynth")

NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn")),
    min_size=1,
    max_size=8,
)
CATEGORY_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=6).filter(str.strip)


@st.composite
def numeric(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a numeric column: any decimals, scale, special values and cuts."""
    decimals = draw(st.integers(0, 3))
    step = 10**-decimals
    scale = draw(st.sampled_from(["linear", "log"]))
    first = draw(st.integers(1, 500) if scale == "log" else st.integers(-500, 500))
    width = draw(st.sampled_from([0, 1, 5, 63, 64, 65, 1000, 10**6]))
    low, high = round(first * step, decimals), round((first + width) * step, decimals)
    spots = st.integers(first - 3, first + width + 3).map(lambda place: round(place * step, decimals))
    special = draw(st.lists(spots, max_size=3, unique=True)) if width > 5 else []
    cuts = draw(st.lists(st.integers(first + 1, first + width), max_size=3)) if width else []
    return {
        "type": "numeric",
        "min": low,
        "max": high,
        "decimals": decimals,
        "scale": scale,
        "special": special,
        "cuts": [round(place * step, decimals) for place in cuts],
        "missing": draw(st.booleans()),
    }


@st.composite
def categorical(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a categorical column: text, or integers."""
    texts = st.lists(CATEGORY_TEXT, min_size=1, max_size=6, unique_by=str.strip)
    values = draw(texts | st.lists(st.integers(-20, 20), min_size=1, max_size=6, unique=True))
    return {
        "type": "categorical",
        "values": values,
        "ordered": draw(st.booleans()),
        "missing": draw(st.booleans()),
    }


@st.composite
def boolean(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a boolean column."""
    labels = draw(st.sampled_from([[False, True], [0, 1], [1, 2], ["no", "yes"], ["f", "t"], ["a", "b"]]))
    return {"type": "boolean", "labels": labels, "missing": draw(st.booleans())}


@st.composite
def datetime(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the fields of a datetime column, with or without a clock time."""
    first, last = sorted(draw(st.tuples(st.dates(), st.dates())))
    clock = draw(st.booleans())
    return {
        "type": "datetime",
        "min": first.isoformat() + ("T06:30:00" if clock else ""),
        "max": last.isoformat() + ("T23:00:00" if clock else ""),
        "missing": draw(st.booleans()),
    }


COLUMNS = st.dictionaries(NAMES, numeric() | categorical() | boolean() | datetime(), min_size=1, max_size=4)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Draw a schema of one to four columns."""
    return Schema.parse({"name": "drawn", "confirmed": draw(st.booleans()), "columns": draw(COLUMNS)})


def any_codes(codec: Codec, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Return codes drawn uniformly."""
    return {name: rng.integers(code.size, size=rows) for name, code in codec.columns.items()}
