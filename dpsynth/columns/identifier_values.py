"""Whether the values of a column look like those of an identifier: by how they are written and how often they repeat.

Reads values as they are. What `written_like` says of values that were released is public; all else is for a draft,
which is as confidential as the data.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["are_moments", "is_row_number", "looks_enumerated", "looks_like_numbers_of_persons", "written_like"]

_SAMPLE = 2000
"""Values that are looked at; the share of them that is written in one way is then within 3 % of the whole."""
_MOSTLY = 0.8
_ENOUGH = 50


def _pattern(text: str) -> Callable[[str], bool]:
    compiled = re.compile(text)
    return lambda value: compiled.fullmatch(value) is not None


def _is_iban(text: str) -> bool:
    """Return whether text is an international bank account number, by its form and check digits (ISO 13616)."""
    plain = text.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", plain):
        return False
    return int("".join(str(int(mark, 36)) for mark in plain[4:] + plain[:4])) % 97 == 1


def _is_hash(text: str) -> bool:
    """Return whether text is a hexadecimal digest, or a random token of letters and digits."""
    if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{16,128}", text):
        return re.search(r"[a-fA-F]", text) is not None and re.search(r"\d", text) is not None
    if not re.fullmatch(r"[A-Za-z0-9_+/-]{20,}={0,2}", text):
        return False
    kinds = (r"[a-z]", r"[A-Z]", r"\d")
    changes = sum(mark.isdigit() != following.isdigit() for mark, following in pairwise(text))
    return sum(re.search(kind, text) is not None for kind in kinds) > 1 and changes >= 4


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if re.fullmatch(r"\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}", text):
        return True
    if re.fullmatch(r"\d{4,5}-\d{3,4}-\d{1,2}", text):  # national drug code (US)
        return False
    is_marked = text.startswith(("+", "00", "(", "0")) and re.search(r"[ ()/.-]|^\+", text) is not None
    return 7 <= len(digits) <= 15 and is_marked and re.fullmatch(r"\+?[\d ()/.-]+", text) is not None


_KINDS: dict[str, Callable[[str], bool]] = {
    "UUIDs": _pattern(r"\{?[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?"),
    "e-mail addresses": _pattern(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}"),
    "bank accounts (IBAN)": _is_iban,
    "hashes or random tokens": _is_hash,
    "links": _pattern(r"(?:https?|ftp)://\S+"),
    "addresses of devices": _pattern(r"(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"),
    "national or insurance numbers": _pattern(
        r"\d{3}-\d{2}-\d{4}"  # social security (US)
        r"|\d{6}[-+A]\d{3}[0-9A-Z]"  # Denmark, Finland
        r"|(?:\d{2})?\d{6}[-+]\d{4}"  # Sweden
        r"|\d{3} \d{3} \d{4}"  # health service (UK)
        r"|\d{6}/\d{3,4}"  # Czechia, Slovakia
        r"|[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]"  # Italy
        r"|[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3}(?: ?\d{2})"  # France
        r"|[XYZ]?\d{7,8}-?[A-HJ-NP-TV-Z]"  # Spain
        r"|[A-Z]\d{9}"  # insured persons (Germany)
        r"|756\.\d{4}\.\d{4}\.\d{2}"  # Switzerland
        r"|\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"  # Belgium
    ),
    "phone numbers": _is_phone,
}


def written_like(texts: Sequence[str], share: float = _MOSTLY) -> str:
    """Return what values are by the way they are written, where most of them are identifiers; else nothing.

    Parameters
    ----------
    texts
        Different values of a column.
    share
        The least share of them that is written in one way.

    Returns
    -------
    str
        ``"UUIDs"``, ``"e-mail addresses"``, ``"phone numbers"`` and so on, or the empty string.

    Examples
    --------
    >>> written_like(["anna@example.org", "ben@example.org"]), written_like(["I50.1", "E11.9"])
    ('e-mail addresses', '')
    """
    sample = [text.strip() for text in _sampled(texts)]
    for kind, is_one in _KINDS.items():
        if sample and sum(map(is_one, sample)) >= share * len(sample):
            return kind
    return ""


def _sampled(texts: Sequence[str]) -> Sequence[str]:
    """Return evenly chosen values, at most `_SAMPLE`."""
    return texts[:: max(1, len(texts) // _SAMPLE)]


def looks_enumerated(texts: Sequence[str], rows: int) -> str:
    """Return what text is that tells persons or records apart without a form of its own; else nothing.

    Parameters
    ----------
    texts
        Different values of a column.
    rows
        Rows of the table that have one.

    Returns
    -------
    str
        ``"numbered keys"`` (``MRN00123``, or digits), ``"names of persons"``, ``"mostly unique keys"``, or text that
        is no key: ``"free text"``, and ``"mostly unique text"``, which measurements may be.
    """
    sample = [text.strip() for text in _sampled(texts)]
    if _are_names(sample):
        return "names of persons"
    if len(texts) > _ENOUGH and _are_numbered(sample):
        return "numbered keys"
    if sum(map(len, texts)) > 60 * len(texts):
        return "free text"
    if len(texts) > _ENOUGH and len(texts) > rows / 2:
        return _unique_kind(sample)
    return ""


_MEASURED = re.compile(
    r"[<>≤≥~]?\s*[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?(?:\s*[/:x-]\s*\d+(?:[.,]\d+)?)?\s*[^\d\s]{0,8}"
)


def _unique_kind(sample: Sequence[str]) -> str:
    """Return what values are that hardly repeat: keys, prose, or measurements with marks such as 120/80 and <5."""
    if sum(" " in text for text in sample) > len(sample) / 2:
        return "free text"
    measured = sum(_MEASURED.fullmatch(text) is not None for text in sample) > len(sample) / 2
    padded = all(text.isdigit() for text in sample) and len(set(map(len, sample))) == 1
    return "mostly unique text" if measured and not padded else "mostly unique keys"


def _are_numbered(sample: Sequence[str]) -> bool:
    """Return whether values are one prefix and digits of one length, such as P00012, or at least nine digits."""
    forms = {re.sub(r"\d+", lambda digits: "0" * len(digits[0]), text) for text in sample}
    if len(forms) != 1:
        return False
    form = next(iter(forms))
    return re.fullmatch(r"[A-Za-z][A-Za-z _/.-]*0{3,}|[A-Za-z _/.-]*0{9,}", form) is not None


def _are_names(sample: Sequence[str]) -> bool:
    """Return whether values read ``Surname, Forename``, or are two or three capitalised words each, many and varied."""
    word = r"[^\W\d_a-z][^\W\d_]*(?:['\u2019-][^\W\d_]+)*"
    listed = re.compile(rf"(?:(?:von|van|de|la|del|di|da) )*{word},\s*{word}(?: {word}\.?)*")
    spaced = re.compile(rf"(?:(?:Dr|Prof|Mr|Mrs|Ms|Herr|Frau)\.? )?{word} (?:{word}\.? )?{word}")
    if len(sample) >= 5 and sum(listed.fullmatch(text) is not None for text in sample) >= _MOSTLY * len(sample):
        return True
    return len(sample) > _ENOUGH and sum(spaced.fullmatch(text) is not None for text in sample) >= 0.95 * len(sample)


def is_row_number(numbers: npt.NDArray[np.float64], rows: int) -> bool:
    """Return whether different whole numbers are 0, 1, 2, ... or 1, 2, 3, ..., one a row."""
    first = numbers.min()
    return len(numbers) == rows and first in (0, 1) and numbers.max() == first + rows - 1


def looks_like_numbers_of_persons(numbers: npt.NDArray[np.float64], rows: int) -> bool:
    """Return whether whole numbers are long, of one length, hardly repeat, and are no moments in time.

    Parameters
    ----------
    numbers
        Different whole numbers of a column: no measurement has seven or more digits that all count.
    rows
        Rows of the table that have one.
    """
    digits = {len(str(int(number))) for number in _sampled_numbers(numbers)}
    if len(digits) != 1 or len(numbers) <= 20 or numbers.min() <= 0 or are_moments(numbers):
        return False
    length = digits.pop()
    return (length >= 7 and len(numbers) > 0.9 * rows) or (length >= 9 and len(numbers) > _ENOUGH)


def _sampled_numbers(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return numbers[:: max(1, len(numbers) // _SAMPLE)]


def are_moments(numbers: npt.NDArray[np.float64]) -> bool:
    """Return whether whole numbers can be dates such as 20080131, or seconds, milli- or nanoseconds since 1970."""
    low, high = float(numbers.min()), float(numbers.max())
    for unit in (1, 1e3, 1e6, 1e9):
        if 3e8 * unit <= low and high <= 2.2e9 * unit:  # 1979 to 2039
            return True
    forms = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    texts = [str(int(number)) for number in _sampled_numbers(numbers)]
    return all(len(text) in forms and _is_moment(text, forms[len(text)]) for text in texts)


def _is_moment(text: str, form: str) -> bool:
    try:
        return 1850 <= datetime.strptime(text, form).year <= 2150
    except ValueError:
        return False
