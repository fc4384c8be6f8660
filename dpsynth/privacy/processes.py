"""Training in several processes (``torchrun``): one of them asks, spends and adds noise; all of them compute.

The first process alone touches the ledger, answers questions and draws noise, and gives the others what came of it.
Every process reads the cohort and takes the gradients of its own part of the patients, each of whom is in one part.
Without `torch.distributed` there is one process, and nothing here does anything.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from dpsynth.errors import DpsynthError
from dpsynth.privacy.quiet import told

T = TypeVar("T")


def join() -> None:
    """Join the processes that ``torchrun`` started, if it did and nobody has joined them yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return
    import torch

    if torch.distributed.is_available() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def count() -> int:
    """Return the number of processes."""
    group = _group()
    return 1 if group is None else int(group.get_world_size())


def number() -> int:
    """Return the number of this process, from 0."""
    group = _group()
    return 0 if group is None else int(group.get_rank())


def shared(make: Callable[[], T]) -> T:
    """Call in the first process and return its result in all; if it fails there, fail everywhere.

    What is shared is a noisy answer or a public fact, never a private value: of an error that is not ours the other
    processes learn the kind, and not the text, which may hold one.

    Raises
    ------
    DpsynthError
        When the first process failed, or another one has ended.
    """
    group = _group()
    if group is None or group.get_world_size() == 1:
        return make()
    message: list[Any] = [None, None]
    if group.get_rank() == 0:
        try:
            message = [make(), None]
        except BaseException as error:
            with contextlib.suppress(DpsynthError):  # the error that there is says more
                _broadcast(group, [None, told(error)])
            raise
    _broadcast(group, message)
    if message[1] is not None:
        raise DpsynthError(f"the first process failed: {message[1]}")
    return message[0]  # type: ignore[no-any-return]


def _broadcast(group: Any, message: list[Any]) -> None:
    """Give what the first process found to the others; a failure of the network says its kind alone."""
    try:
        group.broadcast_object_list(message)
    except Exception as error:
        kind = type(error).__name__
    else:
        return
    raise DpsynthError(f"another process of this run has ended or cannot be reached ({kind}); begin the run again.")


def own(answers: Any) -> Any:
    """Return this process's own answers."""
    return answers._answers if isinstance(answers, SharedAnswers) else answers  # noqa: SLF001  (a class of this file)


def _group() -> Any:
    """Return `torch.distributed` where it is in use; a program that never loaded torch is one process."""
    torch = sys.modules.get("torch")
    group = getattr(torch, "distributed", None)
    return group if group is not None and group.is_available() and group.is_initialized() else None


class Forwarding:
    """Answers that stand before other answers: what they do not answer themselves they pass on in their own way.

    Parameters
    ----------
    answers
        What is asked in the end.
    """

    OWN: ClassVar[frozenset[str]]
    """Names that are passed on as they are."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __reduce__(self) -> Any:
        raise TypeError("private values are not pickled")

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._answers, name)
        if name.startswith("_") or name in self.OWN or not callable(attribute):
            return attribute
        return lambda *asked, **more: self._asked(name, attribute, asked, more)

    def _asked(self, name: str, ask: Callable[..., Any], asked: Sequence[Any], more: Mapping[str, Any]) -> Any:
        """Return the answer to a question by its name and arguments."""
        raise NotImplementedError


class SharedAnswers(Forwarding):
    """Answers that the first process gives and all processes get.

    Parameters
    ----------
    answers
        This process's own; only those of the first are asked, but for gradients, to which each adds its part.
    """

    OWN = frozenset({"use", "gradients", "private", "randomness"})

    def _asked(
        self,
        name: str,  # noqa: ARG002  (every question is passed on alike)
        ask: Callable[..., Any],
        asked: Sequence[Any],
        more: Mapping[str, Any],
    ) -> Any:
        return shared(lambda: ask(*asked, **more))
