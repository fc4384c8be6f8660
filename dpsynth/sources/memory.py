"""A cohort in memory as one part."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.cohort.row_keys import image_digests, row_digests
from dpsynth.cohort.visits import flatten
from dpsynth.files.image_set import ImageSet
from dpsynth.sources.cap import kept_positions, keyed_numbers
from dpsynth.sources.parts import Integers, Part, summed

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.cohort.cohort import Cohort

__all__ = ["Memory"]


class Memory:
    """The patients of a cohort in memory, as one part; implements `dpsynth.sources.Parts`.

    Parameters
    ----------
    cohort
        The private cohort.
    cap
        Rows of a patient that are kept at most.
    secret
        Chooses which, see `dpsynth.sources.cap`.
    """

    rereads = False

    def __init__(self, cohort: "Cohort", cap: int, secret: bytes) -> None:
        flat = flatten(cohort)
        self._secret = secret
        self._cohort = flat.take(self._kept_rows(flat, cap))
        self._patients = self._cohort.patients()
        self._images = self._kept_images()
        self._codes: dict[str, NDArray[Any]] = {}
        self.schema = self._cohort.schema

    def __repr__(self) -> str:
        return "Memory(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def use(self, codec: "Codec") -> None:
        """Encode the columns that are new in this codec; the codes of the others do not change."""
        new = [name for name in codec.columns if name not in self._codes]
        codes = self._codes | codec.encode(self._cohort, new)
        self._codes = {name: codes[name] for name in codec.columns}

    def __iter__(self) -> Iterator[Part]:
        count = int(self._patients.max(initial=-1)) + 1
        yield Part(self._codes, self._patients, self._images, count, self._identities)

    def total(self, function: Callable[[Part], Sequence[Integers]]) -> list[Integers]:
        """Return what the function gives of the one part."""
        return summed(function(part) for part in self)

    def values(self, column: str) -> Mapping[Any, int]:
        """Return how many kept rows have each value of a column."""
        counted = self._cohort.table.column(column).drop_null().value_counts()
        return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))

    def _names(self, cohort: "Cohort", rows: NDArray[np.intp]) -> list[str]:
        """Return the identifier of the patient of each of these rows, empty where no column identifies one."""
        if cohort.schema.patient not in cohort.columns:
            return [""] * len(rows)
        return list(cohort.table[cohort.schema.patient].take(rows).to_pylist())

    def _kept_rows(self, cohort: "Cohort", cap: int) -> NDArray[np.intp]:
        patients = cohort.patients()

        def numbers(rows: NDArray[np.intp]) -> NDArray[np.uint64]:
            contents = row_digests(cohort.take(rows), self._secret)
            return keyed_numbers(self._secret, "row", patients[rows], self._names(cohort, rows), contents)

        return kept_positions(patients, cap, numbers)

    def _kept_images(self) -> ImageSet | None:
        """Return the images of the kept rows, at most as many of a patient as the schema says."""
        images, declared = self._cohort.images, self._cohort.schema.images
        if images is None or declared is None:
            return None

        def numbers(places: NDArray[np.intp]) -> NDArray[np.uint64]:
            rows = images.row[places]
            pixels = image_digests(images.pixels[places], self._secret)
            shown = row_digests(self._cohort.take(rows), self._secret)
            contents = [row + image for row, image in zip(shown, pixels, strict=True)]
            return keyed_numbers(self._secret, "image", self._patients[rows], self._names(self._cohort, rows), contents)

        kept = kept_positions(self._patients[images.row], declared.max_per_patient, numbers)
        return images if len(kept) == len(images) else ImageSet(images.pixels[kept], images.row[kept])

    def _identities(self) -> NDArray[np.uint64]:
        """Return (patients,) the keyed hash of each patient's identifier, or of the row where there is none."""
        patients, first = np.unique(self._patients, return_index=True)
        named = self._cohort.schema.patient in self._cohort.columns
        contents = [b""] * len(first) if named else row_digests(self._cohort, self._secret)
        return keyed_numbers(self._secret, "patient", patients, self._names(self._cohort, first), contents)
