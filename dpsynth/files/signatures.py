"""Kinds of files that are no tables, recognised by their first bytes, with what to do about each."""

import re

__all__ = ["unreadable"]

_EXPORT = "Export the table as CSV or Parquet"
_R = f"{_EXPORT} (in R: write.csv(x, 'table.csv', row.names = FALSE))"
_PANDAS = "Convert it once"
_ALONE = "Such a file is read unpacked and by itself (extra office); larger ones are converted to Parquet once."
_FHIR = (
    "Which part of a resource is a column must be written down: flatten it with a view definition of SQL on FHIR, and "
    "give the view's table."
)
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file (.xls)", _ALONE),
    (b"%PDF", "a PDF file", "A table cannot be read from it; ask for the data as CSV or Parquet."),
    (b"$FL2@(#)", "an SPSS file (.sav)", _ALONE),
    (b"$FL3@(#)", "an SPSS file (.zsav)", _ALONE),
    (b"SQLite format 3", "an SQLite database", f"{_EXPORT} with the sqlite3 program (.mode csv)."),
    (b"Obj\x01", "an Avro file", f"{_EXPORT}."),
    (b"ARROW1", "a Feather or Arrow file", f"{_PANDAS}: pandas.read_feather('table').to_parquet('table.parquet')."),
    (b"FEA1", "an old Feather file", f"{_PANDAS}: pandas.read_feather('table').to_parquet('table.parquet')."),
    (b"\xff\xff\xff\xff", "a stream of Arrow", f"{_PANDAS} to Parquet with pyarrow.ipc.open_stream."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", f"{_PANDAS}: pandas.read_hdf('table.h5').to_parquet('table.parquet')."),
    (b"<stata_dta>", "a Stata file (.dta)", _ALONE),
    (b"**COMPRESSED**", "a compressed SAS transport file (PROC CPORT)", f"{_EXPORT}, or as .xpt by PROC COPY."),
    (b"HEADER RECORD*******", "a SAS transport file (.xpt)", _ALONE),
    (b"RDX2\n", "an R file (.RData)", f"{_R}."),
    (b"RDX3\n", "an R file (.RData)", f"{_R}."),
    (b"RDA2\n", "an R file (.RData)", f"{_R}."),
    (b"RDA3\n", "an R file (.RData)", f"{_R}."),
    (b"X\n\x00\x00\x00", "an R file (.rds)", f"{_R}."),
    (b"BZh91AY&SY", "a bzip2 file", "Unpack it, or pack the CSV with gzip."),
    (b"\xfd7zXZ", "an xz file", "Unpack it, or pack the CSV with gzip."),
    (b"\x28\xb5\x2f\xfd", "a zstandard file", "Unpack it, or pack the CSV with gzip."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file", "Unpack it first."),
    (b"Rar!\x1a\x07", "a RAR file", "Unpack it first."),
    (b"{\\rtf", "a text document (RTF)", f"{_EXPORT}."),
    (b"\x80\x04\x95", "a Python pickle", f"It is never read, since it can run code. {_EXPORT}."),
    (b"\x80\x05\x95", "a Python pickle", f"It is never read, since it can run code. {_EXPORT}."),
    (b"\x93NUMPY", "a NumPy array (.npy)", f"{_EXPORT}, with a header."),
    (b"\x89PNG", "a binary file (a picture)", "Give an image folder, or a table."),
    (b"\xff\xd8\xff", "a binary file (a picture)", "Give an image folder, or a table."),
)
_SAS = bytes.fromhex("000000000000000000000000c2ea8160b31411cfbd92080009c7318c181f1011")


def unreadable(start: bytes, *, ending: str = "") -> tuple[str, str] | None:
    """Return what kind of file begins so, and what to do with it; None where it may be CSV or Parquet.

    Parameters
    ----------
    start
        The first bytes of the file (unpacked, where it is packed with gzip).
    ending
        The file's suffix in small letters, for files that several programs pack alike.
    """
    if start.startswith(b"PK\x03\x04"):
        return _packed(start, ending)
    for signature, kind, advice in _SIGNATURES:
        if start.startswith(signature):
            return kind, advice
    return _by_form(start) or _as_text(start)


def _by_form(start: bytes) -> tuple[str, str] | None:
    """Return what kind of file it is, by more than its first letters."""
    if start.startswith(b"ORC") and re.search(rb"[\x00-\x08\x80-\xff]", start[3:16]):  # a header may begin with ORCID
        return "an ORC file", f"{_EXPORT}: pandas.read_orc('table.orc').to_parquet('table.parquet')."
    if start[8:12] == b"DUCK":
        return "a DuckDB database", f"{_EXPORT}: copy t to 'table.parquet'."
    if start.startswith(_SAS):
        return "a SAS file (.sas7bdat)", _ALONE
    if _is_old_stata(start):
        return "a Stata file (.dta)", _ALONE
    return None


def _packed(start: bytes, ending: str) -> tuple[str, str]:
    """Return which of the kinds that are zip files inside it is."""
    if b"xl/" in start or b"[Content_Types].xml" in start or ending in (".xlsx", ".xlsm"):
        return "an Excel file", _ALONE
    if b"opendocument" in start or ending == ".ods":
        return "an OpenDocument spreadsheet", "Save the sheet as CSV in UTF-8 there."
    return (
        "a zip file (Excel files are such, too)",
        "Unpack it and give the table inside, or pack the CSV with gzip (.csv.gz).",
    )


def _is_old_stata(start: bytes) -> bool:
    """Return whether these are the version, byte order and file type of Stata before 13."""
    return len(start) > 4 and start[0] in (*range(102, 116), 0x69) and start[1] in (1, 2) and start[2:4] == b"\x01\x00"


def _as_text(start: bytes) -> tuple[str, str] | None:
    """Return what text that is no CSV is."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if re.match(rb"<\?xml|<!DOCTYPE|<html|<table|<[a-zA-Z][\w:.-]*[\s>]", text, re.IGNORECASE):
        kind = "an HTML page" if re.match(rb"<!DOCTYPE html|<html|<table", text, re.IGNORECASE) else "an XML file"
        return kind, f"{_EXPORT}; many programs name such a file .xls."
    if re.match(rb"\{", text) and re.search(rb'"resourceType"\s*:', text):
        return "FHIR (JSON or Bulk ndjson)", _FHIR
    if re.match(rb'\{\s*"', text):
        advice = "pandas.read_json('table.ndjson', lines=True).to_parquet('table.parquet')"
        if len(lines) > 1 and lines[0].endswith(b"}") and lines[1].startswith(b"{"):
            return "JSON lines (ndjson)", f"{_PANDAS}: {advice}."
        return "JSON", f"{_PANDAS}: pandas.read_json('table.json').to_parquet('table.parquet')."
    if re.match(rb"\[\s*[\[{]", text):
        return "JSON", f"{_PANDAS}: pandas.read_json('table.json').to_parquet('table.parquet')."
    return None
