"""Base class of questions: the public facts, the account and the answers of a session."""

import abc

from dpsynth.coding.codec import Codec
from dpsynth.privacy.answer_source import Answers
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting
from dpsynth.privacy.spending.privacy_filter import Account
from dpsynth.schema.schema import Schema


class Asking(abc.ABC):
    """The public facts of a session, its account and its answers."""

    schema: Schema
    budget: Budget
    accounting: Accounting
    rows: int | None
    codec: Codec
    _account: Account
    _columns_to_discover: int
    _checkpoint: Checkpoint | None
    _units: int

    @property
    @abc.abstractmethod
    def sensitivity(self) -> int:
        """The most that one patient can add to a marginal, in any norm."""

    @property
    @abc.abstractmethod
    def per_patient(self) -> int:
        """In how many hospitals a patient may be."""

    @property
    @abc.abstractmethod
    def to_discover(self) -> list[str]:
        """Columns whose values must still be discovered."""

    @property
    @abc.abstractmethod
    def _asked(self) -> Answers:
        """What answers."""
