"""On which side of a split each patient is: an independent secret coin of each, kept so that it can be repeated.

The coin of a patient is HMAC-SHA-256 of their identifier under a secret of the run. A row without a patient column has
no name but its values, so its coin is that of its values *and its number among equal rows*: equal rows have independent
coins, and one row more moves nobody else, even where it equals others.
"""

import hashlib
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.atomic import read_json, whole_file, write_json
from dpsynth.cohort.row_keys import keyed, row_digests
from dpsynth.errors import FileError, InputError
from dpsynth.evaluation.arrays.table import Floats

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.sources.scanned import ScannedCohort
    from dpsynth.sources.sides import Side

__all__ = ["Coins"]

FORMAT, VERSION = "dpsynth-split", 1
SECRET = 32
WARNING = "Secret: it tells which patients trained the model. Keep it with the internal report; never publish it."
ROW = "row"


@dataclass(frozen=True)
class Coins:
    """Secret random numbers that say on which side of a split each patient is.

    Each is in [0, 1) and depends on the secret and this patient only.

    Make some with `Coins.draw`, or take those of an earlier run with `Coins.read`.

    Parameters
    ----------
    secret : bytes
        32 bytes from the operating system.
    share : float or None
        Expected share of test patients, in (0, 1); None where it was not decided.
    unit : str or None
        Column of the patient that they were drawn for, or ``row`` where there is none; None where they are new.
    check : str
        Where rows have no patient: a keyed sum of them, by which other rows, or another reading of them, are refused.

    Notes
    -----
    Privacy contract: whoever knows the secret knows on which side each patient is. It goes into no release.

    Examples
    --------
    >>> Coins.draw() == Coins.draw(), Coins.draw()
    (False, Coins(share=None, unit=None))
    """

    secret: bytes = field(repr=False)
    share: float | None = None
    unit: str | None = None
    check: str = field(default="", repr=False)

    @classmethod
    def draw(cls) -> "Coins":
        """Return new coins, whose secret is 32 bytes from the operating system."""
        return cls(secrets.token_bytes(SECRET))

    @classmethod
    def of_text(cls, text: str) -> "Coins":
        """Return coins that everybody can repeat who knows the text: no secret, for public data.

        Examples
        --------
        >>> Coins.of_text("week 1") == Coins.of_text("week 1")
        True
        """
        return cls(hashlib.sha256(b"dpsynth public split\0" + text.encode()).digest())

    def toss(self, cohort: "Cohort") -> Floats:
        """Return the coin of each row's patient, or of each row where there is no patient column.

        Parameters
        ----------
        cohort : Cohort

        Returns
        -------
        ndarray of float, shape (rows,)
            In [0, 1), in steps of 2**-56; rows of one patient have the same.
        """
        patient = cohort.schema.patient
        if patient in cohort.columns:
            names = cohort.table[patient].to_pylist()
            coins = {name: self._coin(b"patient", str(name).encode()) for name in dict.fromkeys(names)}
            return np.array([coins[name] for name in names])
        return self._of_rows(row_digests(cohort, self.secret))

    def sides(self, share: float) -> "tuple[Side, Side]":
        """Return the sides of who trains and of who is held out, for a source that is read piece by piece.

        Parameters
        ----------
        share : float
            Expected share of test patients, in (0, 1).
        """
        from dpsynth.sources.sides import Side

        return Side(self.toss, share, is_held_out=False), Side(self.toss, share, is_held_out=True)

    def _of_rows(self, digests: list[bytes]) -> Floats:
        """Return a coin per row, from its digest and its number among equal rows."""
        earlier: Counter[bytes] = Counter()
        coins = np.empty(len(digests))
        for place, digest in enumerate(digests):
            coins[place] = self._coin(b"equal row", digest + earlier[digest].to_bytes(8, "little"))
            earlier[digest] += 1
        return coins

    def _coin(self, purpose: bytes, message: bytes) -> float:
        return int.from_bytes(keyed(self.secret, purpose, message)[:7], "little") / 2.0**56

    def bound(self, cohort: "Cohort | ScannedCohort", share: float) -> "Coins":
        """Return the coins with what is to be kept of the run: the share, and whose coins they are.

        Parameters
        ----------
        cohort : Cohort or ScannedCohort
            The cohort that is divided. Rows of a source are read for it where no column tells patients apart.
        share : float
            Expected share of test patients, in (0, 1).

        Returns
        -------
        Coins

        Raises
        ------
        InputError
            If they were kept with another share, for another unit, or for other rows.
        """
        patient = cohort.schema.patient
        unit = patient if patient is not None and patient in cohort.columns else ROW
        if self.share is not None and self.share != share:
            raise InputError(
                f"split: was kept with a share of {self.share:g} test patients, found {share:g}; leave the share out."
            )
        if self.unit is not None and self.unit != unit:
            raise InputError(
                f"split: was kept for the unit {self.unit!r}, found {unit!r}; give the schema of that run."
            )
        check = self._sum(cohort) if unit == ROW else ""
        if self.unit is not None and self.check != check:
            raise InputError(
                "split: was kept for other rows, or for these under another schema. Without a patient column sides are "
                "known only for the same rows read in the same way: give the file and the schema of that run."
            )
        return replace(self, share=share, unit=unit, check=check)

    def _sum(self, cohort: "Cohort | ScannedCohort") -> str:
        """Return a keyed sum of all rows, whatever their order."""
        pieces = cohort.pieces() if hasattr(cohort, "pieces") else [cohort]
        total = sum(int.from_bytes(digest, "little") for piece in pieces for digest in row_digests(piece, self.secret))
        return keyed(self.secret, b"rows", (total % 2**256).to_bytes(32, "little")).hex()

    def write(self, path: str | Path) -> None:
        """Keep the coins in a file that only its owner can read.

        Parameters
        ----------
        path : path

        Raises
        ------
        InputError
            If the file would lie in a release.
        FileError
            If it cannot be written.
        """
        from dpsynth.atomic import check_unpublished

        check_unpublished(Path(path))
        facts = {"format": FORMAT, "version": VERSION, "warning": WARNING, "share": self.share, "unit": self.unit}
        with whole_file(path) as partial:
            partial.touch(mode=0o600)
            write_json(partial, facts | {"check": self.check, "secret": self.secret.hex()})

    @classmethod
    def read(cls, path: str | Path) -> "Coins":
        """Return coins that were kept.

        Parameters
        ----------
        path : path
            A file that `write` wrote, such as ``internal/split.json`` of a run.

        Returns
        -------
        Coins

        Raises
        ------
        FileError
            If the file is not there, or is none that `write` wrote.
        """
        path = Path(path)
        if not path.is_file():
            raise FileError(f"{path.name}: is not there; name the split.json that a run kept (internal/split.json).")
        return _parsed(path, read_json(path, limit=1 << 16))


def _parsed(path: Path, facts: Any) -> Coins:
    fault = FileError(f"{path.name}: is no file of a split that dpsynth wrote (internal/split.json of a run).")
    if not isinstance(facts, dict) or (facts.get("format"), facts.get("version")) != (FORMAT, VERSION):
        raise fault
    share, unit, check = facts.get("share"), facts.get("unit"), facts.get("check")
    is_share = isinstance(share, float) and 0 < share < 1
    try:
        secret = bytes.fromhex(str(facts["secret"]))
    except (KeyError, ValueError):
        raise fault from None
    if not is_share or len(secret) != SECRET or not (isinstance(unit, str) and isinstance(check, str)):
        raise fault
    return Coins(secret, share, unit, check)
