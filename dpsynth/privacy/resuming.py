"""Checkpoints: a run's noisy answers and the state of its training, in a folder from which it can go on.

Nothing is ever done twice. A run counts its *units*, one a question and one a block of training steps, in the ledger: a
unit is claimed there, on the disk, before it is done, and what came of it is written to the folder before anybody sees
it. Taken up again, the run replays the units that the folder has. A question that was claimed and not written down is
lost, and the run cannot go on; lost training steps are left out. So whatever is killed or copied, each unit is done at
most once, and a folder that another process went on with is refused.

What the folder holds came out of the noise and is as public as the model that is made of it. When the run is closed it
can still be replayed to the end, without data and without spending: a model that could not be saved is not lost.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.atomic import read_json, whole_file, write_json
from dpsynth.coding.query import Query
from dpsynth.errors import DpsynthError, FileError, InputError, LedgerError
from dpsynth.privacy import processes
from dpsynth.privacy.mechanisms import Integers
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.privacy.training.teachers import Panel

if TYPE_CHECKING:
    import torch

BLOCKS = 20
"""Parts of a training after each of which its state is written."""
Claim = Callable[[int, int], None]


class Checkpoint:
    """The folder of one run.

    Parameters
    ----------
    folder
        Made where it is not there.

    Raises
    ------
    FileError
        When the folder cannot be made, or holds something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self.folder.name}: cannot be made ({error.strerror}).") from None
        others = [path.name for path in self.folder.iterdir() if path.name != "run.json"]
        if others and self.run is None:
            raise FileError(f"{self.folder.name}: is not empty and holds no run; name a new folder.")

    @property
    def run(self) -> dict[str, Any] | None:
        """What was noted of the run: its id in the ledger and what it was opened with; None before it begins."""
        path = self.folder / "run.json"
        if not path.is_file():
            return None
        facts = read_json(path)
        if not isinstance(facts, dict):
            raise FileError(f"{self.folder.name}: run.json is not what dpsynth wrote; name a new folder.")
        return facts

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Note a run; `InputError` when another was noted that was opened with something else."""
        written = self.run
        if written is None:
            with whole_file(self.folder / "run.json") as partial:
                write_json(partial, dict(facts))
        elif written["opened"] != json.loads(json.dumps(facts["opened"])):
            raise InputError(
                f"checkpoint: {self.folder.name} holds a run that was opened otherwise (budget, training, schema, or "
                "with a seed or without); repeat the call that began it, or name a new folder."
            )

    def path(self, unit: int) -> Path:
        """Return where a unit's answer stands.

        Parameters
        ----------
        unit
            The number of the question or block, from 0.

        Returns
        -------
        Path
            It need not exist yet.
        """
        return self.folder / f"{unit:05d}.npz"


class Forfeited(DpsynthError):  # noqa: N818  (what it is, not a fault)
    """A question is paid for and not answered, because its answer was lost."""


class Journal(processes.Forwarding):
    """Answers that are written to a checkpoint, and replayed from it where they are there.

    Parameters
    ----------
    answers
        What answers new questions; None for a run that is closed, which answers none.
    checkpoint
        The folder.
    claim
        Claims units in the ledger: called with the number of units before and after.
    heard
        Gets every answer, also those that are replayed: what several hospitals are told before a training.
    """

    OWN = frozenset({"use", "private", "randomness", "go_on"})

    def __init__(self, answers: Any, checkpoint: Checkpoint, claim: Claim, heard: list[Any] | None = None) -> None:
        super().__init__(answers)
        self._heard = [] if heard is None else heard
        self._checkpoint = checkpoint
        self._claim = claim
        self._unit = 0
        self._forfeiting = False
        self._untaught: list[tuple[Panel, NDArray[np.float32]]] = []

    def gradients(self, *asked: Any, **more: Any) -> Any:
        """Return the gradients themselves: a training is written down by blocks, see `Kept`."""
        return self._answers.gradients(*asked, **more)

    def votes(self, panel: Panel, generated: NDArray[np.float32], asked: NDArray[np.float32], sigma: float) -> Integers:
        """Return votes; before the first that are new, teachers learn what they had learned for those that are not.

        Nobody sees what they learn, and the made rows are those of the questions that were written down: each teacher
        is again the function of its own patients and of public rows by which `dpsynth.privacy.training.teachers`
        derives the price.
        """

        def ask(*question: Any) -> Any:
            while self._untaught:
                self._answers.teach(*self._untaught.pop(0))
            return self._answers.votes(*question)

        is_written = self._checkpoint.path(self._unit).is_file()
        votes: Integers = self._asked("votes", ask, (panel, generated, asked, sigma), {})
        if is_written:
            self._untaught.append((panel, generated))
        return votes

    def claim_block(self) -> None:
        """Claim the next block of a training."""
        self._claim(self._unit, self._unit + 1)
        self._unit += 1

    @property
    def is_written(self) -> bool:
        """Whether the next question's answer is there."""
        return self._checkpoint.path(self._unit).is_file()

    def forfeit_next(self, *, claimed: int) -> None:
        """Let the next question be paid for and not answered (`Forfeited`), claimed where it is not yet.

        Parameters
        ----------
        claimed
            Units that the ledger knows.
        """
        if self._unit >= claimed:
            self._claim(self._unit, self._unit + 1)
        self._forfeiting = True

    def skip_to(self, unit: int) -> int:
        """Take blocks that were claimed before as done; return how many of them."""
        skipped = max(0, unit - self._unit)
        self._unit += skipped
        return skipped

    @property
    def unit(self) -> int:
        """Units so far."""
        return self._unit

    def _asked(self, name: str, ask: Callable[..., Any], asked: Sequence[Any], more: Mapping[str, Any]) -> Any:
        digest = question(name, asked, more)
        path = self._checkpoint.path(self._unit)
        if path.is_file():
            answer = _read(path, digest)
        elif self._forfeiting:
            self._forfeiting = False
            self._unit += 1
            raise Forfeited("the answer to this question was lost.")
        else:
            self._claim(self._unit, self._unit + 1)
            answer = ask(*asked, **more)
            _write(path, digest, answer)
        self._unit += 1
        self._heard.append(answer)
        return answer


def question(name: str, asked: Sequence[Any], more: Mapping[str, Any]) -> str:
    """Return a digest of a question, all of which is public: the same question has the same digest in every process."""
    digest = hashlib.sha256()
    for part in _facts([name, list(asked), sorted(more.items())]):
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()


def _facts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Query):
        value = [value.columns, value.maps]
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        yield from _facts(list(value.items()))
    elif isinstance(value, list | tuple):
        yield f"[{len(value)}".encode()
        for item in value:
            yield from _facts(item)
    elif value is None or isinstance(value, str | int | float | np.generic):
        yield repr(value.item() if isinstance(value, np.generic) else value).encode()
    else:  # a feature map or another object of public numbers
        yield type(value).__qualname__.encode()
        yield from _facts([(key, item) for key, item in sorted(vars(value).items()) if not callable(item)])


def _write(path: Path, digest: str, answer: Any) -> None:
    """Write an answer: arrays as they are, everything else as JSON."""
    arrays = [answer] if isinstance(answer, np.ndarray) else answer
    plain = not (isinstance(arrays, list) and arrays and all(isinstance(item, np.ndarray) for item in arrays))
    note = {"question": digest, "single": isinstance(answer, np.ndarray), "value": answer if plain else None}
    held = {} if plain else {f"array{i}": array for i, array in enumerate(arrays)}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, note=np.array(json.dumps(note)), **held)


def _read(path: Path, digest: str) -> Any:
    try:
        with np.load(path, allow_pickle=False) as held:
            note = json.loads(str(held["note"]))
            arrays = [held[f"array{i}"] for i in range(len(held.files) - 1)]
    except (OSError, ValueError, KeyError):
        raise FileError(f"{path.name}: is not an answer that dpsynth wrote; begin a new run.") from None
    if note["question"] != digest:
        raise DpsynthError(
            "checkpoint: the run asks something else than when it was begun, so it cannot be taken up; was the model, "
            "an option or dpsynth changed? Begin a new run, which needs a budget of its own."
        )
    if arrays:
        return arrays[0] if note["single"] else arrays
    return [tuple(item) if isinstance(item, list) else item for item in note["value"]]


class Kept:
    """The state of a training in a checkpoint, written after each block of steps.

    Parameters
    ----------
    checkpoint, journal
        The folder, and what counts units.
    plan
        The training.
    parts
        What goes on, by name: networks, optimisers and whatever else has a state_dict, and torch's generators.
    claimed
        Units that the ledger knows.
    """

    def __init__(
        self, checkpoint: Checkpoint, journal: Journal, plan: TrainingPlan, parts: Mapping[str, Any], claimed: int
    ) -> None:
        self._folder = checkpoint.folder
        self._journal = journal
        self._parts = parts
        self._claimed = claimed
        self._steps = plan.steps
        self.every = max(1, -(-plan.steps // BLOCKS))

    def resume(self) -> int:
        """Load the last state that was written, and return the step to go on with: lost steps are left out.

        Of the units that were claimed, only those of the training are skipped; after them come questions, whose answers
        are read or, where they are lost, refused.
        """
        step = 0
        if (self._folder / "training.json").is_file():
            step = self._load()
        end = self._journal.unit - (step - self._steps) // self.every
        return min(self._steps, step + self.every * self._journal.skip_to(min(self._claimed, end)))

    def before(self, step: int) -> None:
        """Claim a block where one begins."""
        if step % self.every == 0:
            self._journal.claim_block()

    def after(self, step: int) -> None:
        """Write the state where a block ends."""
        if processes.number() == 0 and ((step + 1) % self.every == 0 or step + 1 == self._steps):
            self._save(step + 1)

    def _save(self, step: int) -> None:
        from safetensors.torch import save

        tensors: dict[str, torch.Tensor] = {}
        facts = {name: _split(_state(part), f"{name}/", tensors) for name, part in self._parts.items()}
        note = {"step": step, "unit": self._journal.unit, "parts": facts, "file": f"training{step}.safetensors"}
        with whole_file(self._folder / str(note["file"])) as partial:
            partial.write_bytes(save(tensors))
        with whole_file(self._folder / "training.json") as partial:
            write_json(partial, note)
        for old in self._folder.glob("training*.safetensors"):
            if old.name != note["file"]:
                old.unlink(missing_ok=True)

    def _load(self) -> int:
        from safetensors.torch import load_file

        note = read_json(self._folder / "training.json")
        try:
            tensors = load_file(self._folder / str(note["file"]))
            for name, part in self._parts.items():
                _restore(part, _joined(note["parts"][name], tensors))
            self._journal.skip_to(int(note["unit"]))
            return int(note["step"])
        except (OSError, KeyError, TypeError, ValueError, RuntimeError):
            raise FileError("checkpoint: the state of the training does not fit; begin a new run.") from None


def _state(part: Any) -> Any:
    import torch

    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: Any, state: Any) -> None:
    import torch

    if isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)


def _split(value: Any, place: str, tensors: "dict[str, torch.Tensor]") -> Any:
    """Return a state as JSON, with tensors set aside under the names that stand for them."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[place] = value.detach().cpu().contiguous().clone()
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"map": [[key, _split(item, f"{place}{key}/", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_split(item, f"{place}{i}/", tensors) for i, item in enumerate(value)]}
    return {"value": value}


def _joined(facts: Any, tensors: "Mapping[str, torch.Tensor]") -> Any:
    """Undo `_split`."""
    if "tensor" in facts:
        return tensors[facts["tensor"]]
    if "map" in facts:
        return {key: _joined(item, tensors) for key, item in facts["map"]}
    if "list" in facts:
        return [_joined(item, tensors) for item in facts["list"]]
    return facts["value"]


def closed_run() -> LedgerError:
    """Return what is said where a closed run would have to ask something new."""
    return LedgerError("checkpoint: the run is closed, and it asks what it had not asked; begin a new run.")
