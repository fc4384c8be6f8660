"""How a CSV file is written: separator, decimal mark, thousands, encoding, and the lines that are no patients."""

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["TOTALS", "FileFormat", "is_total", "separator_name", "standard_numbers"]

_TOTALS = (
    "total, totals, subtotal, grand total, sum, sums, summe, summen, gesamt, gesamtsumme, gesamtergebnis, insgesamt, "
    "zwischensumme, somme, totaux, total général, totale, totali, somma, suma, sumas, total general, totaal, "
    "in totaal, razem, summa, totalt, celkem, összesen, σύνολο, итого, toplam"
)
TOTALS = frozenset(_TOTALS.split(", "))
"""Words, in small letters, that stand in the first cell of a line of totals and are no patient."""
THOUSANDS = (".", ",", " ", "'", "\u2019", "\u00a0", "\u202f", "_")
_NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", ":": "colons", "^": "carets", "~": "tildes"}
_SPELLED = {"tab": "\t", "\\t": "\t", "semicolon": ";", "comma": ",", "bar": "|", "pipe": "|", "space": " "}


def _mark(value: Any) -> Any:
    """Read the name of a separator: tab is the tabulator."""
    return _SPELLED.get(value.lower(), value) if isinstance(value, str) else value


def _words(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class FileFormat(BaseModel):
    """How the files of a cohort are written: CSV, and for Excel the sheet. Parquet files and frames need none of it.

    Notes
    -----
    Privacy contract: what is declared is what is read; no cell decides how another one is read. A byte-order mark, a
    first line ``sep=;`` and gzip say themselves what they are, and are obeyed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: Annotated[str, BeforeValidator(_mark)] = Field(
        default=",", description='What parts the cells: ",", ";", "|", tab.'
    )
    decimal: Literal[".", ","] = Field(default=".", description="The mark before the decimals of a number.")
    thousands: Annotated[str, BeforeValidator(_mark)] = Field(
        default="", description="The mark between groups of three digits, such as . in 1.234,5; none where left out."
    )
    encoding: str = Field(
        default="utf-8", description="Encoding of the text, such as utf-8, latin-1, windows-1252, utf-16."
    )
    skip: int = Field(default=0, ge=0, le=10_000, description="Lines above the header, such as a title.")
    totals: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(),
        description="Words in the first cell of lines that are no patients, such as Total; they are left out.",
    )
    sheet: str = Field(default="", description="The sheet of an Excel file; the first that is shown, where left out.")

    @model_validator(mode="after")
    def _check(self) -> "FileFormat":
        if len(self.separator) != 1 or self.separator in '"\r\n' or self.separator.isalnum():
            raise ValueError('separator: expected one character, such as ",", ";", "|" or tab')
        if self.thousands and self.thousands not in THOUSANDS:
            raise ValueError("thousands: expected a point, a comma, a blank or an apostrophe")
        if self.thousands == self.decimal:
            raise ValueError("decimal and thousands are the same mark; give two different ones")
        try:
            is_text = isinstance("".encode(self.encoding), bytes)  # rot13 and base64 are refused here
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise ValueError("encoding: is not known; expected one such as utf-8, latin-1, windows-1252 or utf-16")
        if any(not word.strip() for word in self.totals):
            raise ValueError("totals: a word is empty; a line with nothing but separators is left out anyway")
        return self

    @property
    def codec(self) -> str:
        """The encoding's one name in Python."""
        return codecs.lookup(self.encoding).name

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written with a decimal point and no marks between thousands."""
        return self.decimal == "." and not self.thousands


def separator_name(mark: str) -> str:
    """Return what a separator is called."""
    return _NAMES.get(mark, f"the character {mark!r}")


def is_total(cell: str, words: frozenset[str] | tuple[str, ...] = TOTALS) -> bool:
    """Return whether the first cell of a line says that it holds totals.

    >>> is_total("Total:"), is_total("Total knee replacement")
    (True, False)
    """
    text = " ".join(cell.split()).strip(" :=*").casefold()
    return text in {" ".join(word.split()).strip(" :=*").casefold() for word in words}


def number_pattern(form: FileFormat) -> str:
    """Return the regular expression of a number in a file's own notation."""
    decimal = re.escape(form.decimal)
    whole = "[0-9]+"
    if form.thousands:
        whole = f"(?:[0-9]{{1,3}}(?:{re.escape(form.thousands)}[0-9]{{3}})+|[0-9]+)"
    return rf"[-+]?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][-+]?[0-9]+)?"


LIKE_A_NUMBER = r"[-+]?[0-9.,'\x{2019}_ \x{a0}\x{202f}]*[0-9][0-9.,'\x{2019}_ \x{a0}\x{202f}]*(?:[eE][-+]?[0-9]+)?"
"""A number in whatever notation, in the dialect of RE2."""


def standard_numbers(text: Any, form: FileFormat) -> tuple[Any, Any]:
    """Return cells with their numbers in standard notation, and where a cell is a number of some other notation.

    Parameters
    ----------
    text
        A pyarrow Array of text.
    form
        How numbers are declared to be written.

    Returns
    -------
    pyarrow.Array, pyarrow.Array
        The cells, text that is no number left as it is; and (rows,) booleans.

    Notes
    -----
    Privacy contract: each cell is read by itself.
    """
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(text)
    is_number = pc.match_substring_regex(trimmed, f"^(?:{number_pattern(form)})$")
    plain = pc.replace_substring(trimmed, form.thousands, "") if form.thousands else trimmed
    plain = pc.replace_substring(plain, form.decimal, ".")
    other = pc.and_(pc.match_substring_regex(trimmed, f"^(?:{LIKE_A_NUMBER})$"), pc.invert(is_number))
    return pc.if_else(is_number, plain, text), other
