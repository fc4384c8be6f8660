"""The seam to the private side: patients in parts, and sums of whole numbers over the parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.files.image_set import ImageSet
    from dpsynth.schema.schema import Schema

Integers = NDArray[np.int64]

__all__ = ["Part", "Parts", "summed"]


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """The rows and images of some of the patients, all of each; private.

    Parameters
    ----------
    codes
        Fine codes of each column, each (rows,), in the codec's order.
    patients
        (rows,) the number of each row's patient within the part.
    images
        The images of these rows; None where the schema declares none.
    count
        The number of patients.
    identities
        Returns (patients,) a secret number for each patient that does not depend on the division into parts; patients
        who cannot be told apart, equal rows of a table without identifiers, have the same.
    """

    codes: dict[str, NDArray[Any]]
    patients: Integers
    images: "ImageSet | None"
    count: int
    identities: Callable[[], NDArray[np.uint64]]

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.patients)


class Parts(Protocol):
    """The protocol of the private side: patients in parts; every exact answer is a sum of whole numbers over them.

    Guarantee that an implementation gives: **all rows and images of a patient are in one part**; a patient has at most
    as many rows and images as the cap says, and which of them stay depends on that patient and the run's secret only,
    so that a part that is read again has the same rows; codes are those of `dpsynth.coding.codec.Codec`, value by
    value.
    """

    schema: "Schema"
    """Of one row a patient where the declared one has visits."""
    rereads: bool
    """Whether each pass reads the patients anew, so that many questions should share one pass."""

    def use(self, codec: "Codec") -> None:
        """Encode the columns that this codec knows and no earlier one knew, in the codec's order.

        Parameters
        ----------
        codec
            It knows at least the columns of every earlier one.
        """
        ...

    def __iter__(self) -> Iterator[Part]:
        """Yield one part after another, always in the same order; at least one."""
        ...

    def total(self, function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
        """Return the sum over parts of arrays of whole numbers, which have the same shapes for every part.

        Parameters
        ----------
        function
            Returns arrays of whole numbers for a part; their shapes depend on public facts alone.

        Returns
        -------
        list of int64 arrays
            **Exact: internal to the kernel.**
        """
        ...

    def values(self, column: str) -> Mapping[Any, int]:
        """Return how many kept rows have each value of a column whose values are not declared.

        Parameters
        ----------
        column
            A column whose values are to be discovered.

        Returns
        -------
        dict
            **Exact: internal to the kernel.**
        """
        ...


def summed(parts: Iterator[Sequence[Integers]]) -> list[Integers]:
    """Return the sums, array by array, of what parts gave.

    Parameters
    ----------
    parts
        Arrays of the same shapes from each part; at least one part.

    Returns
    -------
    list of int64 arrays
        **As exact as the arrays: internal to the kernel.**

    Examples
    --------
    >>> summed(iter([[np.array([1, 2])], [np.array([3, 4])]]))[0].tolist()
    [4, 6]
    """
    total = [np.asarray(array, dtype=np.int64) for array in next(parts)]
    for arrays in parts:
        total = [whole + array for whole, array in zip(total, arrays, strict=True)]
    return total
