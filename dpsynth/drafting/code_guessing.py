"""Numbers that are codes: what a column's spelling and name say about it, for a draft."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["named_as_codes", "numbers_of"]

_NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]\d+)?", re.ASCII)
"""A number as programs write it: no zero or plus in front, and a sign in the exponent, unlike 1E50 of ICD-11."""
_CODE_NAME = re.compile(
    r"(?:^|[^a-z])(?:icd(?:[-_ ]?(?:9|10|11)(?:cm|gm|pcs)?)?|dx\d*|diag\w*|codes?|kode|codigo|cpt|hcpcs|loinc|atc"
    r"|snomed|drg|g?ops|proc\w*|prozedur\w*|rxnorm|ndc|zip|plz|postcode|postal\w*)(?:$|[^a-z])|(?:code|zip|plz)\d*$",
    re.IGNORECASE,
)
_FEW = 50
"""Measurements that people typed have more different values than this; a list of codes may have fewer."""


def named_as_codes(name: str) -> bool:
    """Return whether a column's name says that it holds codes.

    >>> named_as_codes("icd9_code"), named_as_codes("DX1"), named_as_codes("glucose")
    (True, True, False)
    """
    return _CODE_NAME.search(name) is not None


def numbers_of(name: str, texts: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Return a column's texts as finite numbers, or None where they are no numbers, or are spelled like codes.

    Parameters
    ----------
    name
        The column's name.
    texts
        Its different values.
    """
    if not all(_NUMBER.fullmatch(text) for text in texts):
        return None
    if _spelled_as_codes(texts) or (named_as_codes(name) and any("." in text for text in texts)):
        return None
    numbers = np.array(texts, dtype=np.float64)
    return numbers if np.isfinite(numbers).all() else None


def _spelled_as_codes(texts: Sequence[str]) -> bool:
    """Return whether zeros end some of the texts and no program wrote them all to the same digit: 250.00 and 428.0.

    Programs write numbers with as many digits as they need (and .0, where they have a point at all), or all alike.
    """
    digits = [text.partition(".")[2] if "." in text else None for text in texts if "e" not in text.casefold()]
    written = {len(part) if part is not None else 0 for part in digits}
    if len(written) == 1:
        return False
    zeros = [part for part in digits if part and part.endswith("0")]
    plain = all(part == "0" for part in zeros) and None not in digits
    several = {0, 1, 2} <= written and any(len(part) > 1 for part in zeros)
    return bool(zeros) and not plain and (len(texts) <= _FEW or several)
