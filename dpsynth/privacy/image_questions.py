"""What may be asked about the images of patients: noisy sums, products and counts."""

import math

from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.privacy import checks
from dpsynth.privacy.asked import Asking
from dpsynth.privacy.images.features import Division, Features, Ones
from dpsynth.privacy.images.sums import check_division, check_features
from dpsynth.privacy.mechanisms import Floats, Integers
from dpsynth.privacy.spending.events import Event


class ImageQuestions(Asking):
    """The questions about images; `Session` answers them."""

    def image_sums(self, groups: Query, features: Features, rho: float, division: Division | None = None) -> Floats:
        """Sum the features of images by group, or by the parts into which each group's images are divided.

        Each image's features are clipped to norm 1 and a patient's images are averaged, so that a patient moves all
        groups together by at most 1 (derived in `dpsynth.privacy.images.sums`), in each hospital where they may be.

        Parameters
        ----------
        groups
            A marginal whose cells are the groups, such as label by subgroup; without columns all images are one group.
        features
            The public map.
        rho
            The price of the call.
        division
            A public division of each group's images; the price is the same, for each image adds to one part.

        Returns
        -------
        float64 array, shape (groups.size, dimension), or (groups.size * parts, dimension) where there is a division
            Sums in patients, with Gaussian noise of standard deviation ``1 / sqrt(2 rho)`` in each number.

        Raises
        ------
        InputError
            When the schema declares no images, or the groups or features do not fit.
        BudgetExceeded
            When it costs more than is left; nothing was looked at.
        """
        return self._asked_images("sums", groups, features, rho, division)

    def image_products(self, groups: Query, features: Features, rho: float, division: Division | None = None) -> Floats:
        """Sum the products ``z z'`` of the features of images by group; arguments and errors as for `image_sums`.

        Parameters
        ----------
        groups
            A marginal whose cells are the groups.
        features
            The public map.
        rho
            The price of the call.
        division
            A public division of each group's images.

        Returns
        -------
        float64 array, shape (groups.size, dimension, dimension), or (groups.size * parts, ...) with a division
            Symmetric; noise of standard deviation ``1 / sqrt(2 rho)`` on the diagonal and ``1 / sqrt(4 rho)`` off it.

        Raises
        ------
        InputError, BudgetExceeded
            As for `image_sums`.
        """
        return self._asked_images("products", groups, features, rho, division)

    def image_counts(self, groups: Query, rho: float, division: Division | None = None) -> Floats:
        """Count the patients who have images, by group; a patient with images in several groups counts in parts.

        Arguments and errors as for `image_sums`.

        Parameters
        ----------
        groups
            A marginal whose cells are the groups.
        rho
            The price of the call.
        division
            A public division of each group's images.

        Returns
        -------
        float64 array, shape (groups.size,), or (groups.size * parts,) where there is a division
            With Gaussian noise of standard deviation ``1 / sqrt(2 rho)``.

        Raises
        ------
        InputError, BudgetExceeded
            As for `image_sums`.
        """
        return self.image_sums(groups, Ones(self._inputs), rho, division)[:, 0]

    def images_per_row(self, rho: float) -> Integers:
        """Count the rows by the number of their images.

        A patient has at most ``max_rows_per_patient`` rows, each in one cell, so the counts move by at most that many
        in the L2 norm.

        Parameters
        ----------
        rho
            The price of the call.

        Returns
        -------
        int64 array, shape (max_per_patient + 1,)
            Rows with 0, 1, ... images; noise of standard deviation ``max_rows_per_patient / sqrt(2 rho)``.

        Raises
        ------
        InputError, BudgetExceeded
            As for `image_sums`.
        """
        if self.schema.images is None:
            raise InputError("images: the schema declares none; add images with size, channels and range.")
        sigma = checks.noise_scale(self.sensitivity, rho)
        self._account.debit([Event("gaussian", "rows by number of images", self.sensitivity, sigma)])
        return self._asked.images_per_row(sigma)

    @property
    def _inputs(self) -> int:
        if self.schema.images is None:
            raise InputError("images: the schema declares none; add images with size, channels and range.")
        return math.prod(self.schema.images.shape)

    def _asked_images(
        self, what: str, groups: Query, features: Features, rho: float, division: Division | None
    ) -> Floats:
        """Check, debit and ask for sums or products; both have sensitivity 1 (`dpsynth.privacy.images.sums`)."""
        check_features(features, self._inputs)
        if groups.columns:
            checks.queries_fit([groups], self.codec)
        words = checks.describe(f"image {what} by ", groups)
        if division is not None:
            check_division(division, groups.size, self._inputs)
            words += f", in {division.parts} parts"
        sigma = checks.noise_scale(self.per_patient, rho)
        self._account.debit([Event("gaussian", words, float(self.per_patient), sigma)])
        ask = self._asked.image_sums if what == "sums" else self._asked.image_products
        return ask(groups, features, sigma) if division is None else ask(groups, features, sigma, division)
