"""What a hospital keeps of a run, here: fresh bytes, questions in order, and answers as they were sent."""

import os
from pathlib import Path

from dpsynth.atomic import whole_file, write_json
from dpsynth.errors import FileError, InputError
from dpsynth.federated.masks import FRESH


class RunFolder:
    """The folder of a run at a hospital; every file is on the disk before what it says is acted on.

    Parameters
    ----------
    folder
        Made where it is not there.
    study
        The study's digest.

    Raises
    ------
    FileError, InputError
        When it cannot be made, or holds the run of another study.
    """

    def __init__(self, folder: str | Path, study: str) -> None:
        self._path = Path(folder)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{self._path.name}: cannot be made ({error.strerror}).") from None
        self.session = self._path / "session"
        note = self._path / "study"
        if note.is_file() and note.read_text(encoding="utf-8") != study:
            raise InputError(f"{self._path.name}: holds the run of another study; name a new folder.")
        _write(note, study.encode())
        self._questions = {
            int(path.stem): path.read_bytes() for path in sorted(self._path.glob("*.question")) if path.stem.isdigit()
        }
        steps = self._path / "steps"
        self.begun = int(steps.read_text(encoding="utf-8")) if steps.is_file() else 0

    @property
    def last(self) -> int:
        """The last question's number; -1 before the first."""
        return max(self._questions, default=-1)

    def fresh(self) -> bytes:
        """Return the fresh bytes of this run: drawn once, kept across a restart."""
        path = self._path / "fresh"
        if not path.is_file():
            _write(path, os.urandom(FRESH))
        return path.read_bytes()

    def question(self, number: int) -> bytes | None:
        """Return what was asked under a number."""
        return self._questions.get(number)

    def questions(self) -> list[tuple[int, bytes]]:
        """Return all whole questions in order; of a step only the digest is kept."""
        return [(number, message) for number, message in sorted(self._questions.items()) if len(message) > 64]

    def ask(self, number: int, message: bytes) -> None:
        """Write a question down, before it is asked."""
        _write(self._path / f"{number:08d}.question", message)
        self._questions[number] = message

    def drop(self, number: int) -> None:
        """Forget a question that was refused: nothing was sent, and its number is free again."""
        (self._path / f"{number:08d}.question").unlink(missing_ok=True)
        self._questions.pop(number, None)

    def answer(self, number: int, answer: bytes) -> None:
        """Write an answer down, before it is sent."""
        _write(self._path / f"{number:08d}.answer", answer)
        if number > 1 and len(self._questions.get(number - 1, bytes(65))) <= 64:  # a step that is done
            (self._path / f"{number - 1:08d}.answer").unlink(missing_ok=True)
            (self._path / f"{number - 1:08d}.question").unlink(missing_ok=True)

    def answered(self, number: int) -> bytes | None:
        """Return an answer as it was sent; None where it was lost."""
        path = self._path / f"{number:08d}.answer"
        return path.read_bytes() if path.is_file() else None

    def begin_step(self, count: int) -> None:
        """Note that so many steps were begun, before the last of them is claimed."""
        self.begun = count
        with whole_file(self._path / "steps") as partial:
            write_json(partial, count)


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)
