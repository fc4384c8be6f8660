"""What `release` and `demo` say at the end: what was spent, where it is, how good it is."""

from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.atomic import check_unpublished
from dpsynth.cli.common import check_file, emit, note, remarks, spent, table
from dpsynth.errors import InputError

__all__ = ["announce", "check_page", "judged"]

if TYPE_CHECKING:
    from dpsynth.evaluation.evaluation import Evaluation
    from dpsynth.evaluation.result import Result
    from dpsynth.evaluation.results import Results
    from dpsynth.jobs.publish import Published

_ARMS = {"synthetic": "trained on synthetic", "real": "trained on real"}


def announce(published: "Published", *, json: bool) -> None:
    """Print the outcome: JSON on the output stream, or short tables."""
    if json:
        emit(
            {
                "release": str(published.release),
                "internal": str(published.internal) if published.internal else None,
                "rows": published.rows,
                **spent(published.model.statement),
                "warnings": published.model.warnings,
                "results": [result.to_dict() for result in published.evaluation or ()],
            }
        )
        return
    _spent(published)
    remarks(published.model.statement)
    if published.evaluation is not None:
        judged(published.evaluation)
    for warning in published.model.warnings:
        note(f"warning: {warning}")
    private = published.model.statement.get("private") is True
    safe = "safe to publish" if private else "NOT PRIVATE, made with a fixed seed; do not publish it"
    note(f"{published.release}: {safe} ({published.rows:,} synthetic rows).")
    if published.internal is not None:
        note(f"{published.internal}: numbers that touched real patients, report.html first; not to be published.")


def check_page(page: Path, *beside: str, force: bool, public: bool) -> None:
    """Refuse a page that cannot be written with files of these endings beside it, before any work is done for it.

    Raises
    ------
    InputError, FileError
        If `page` has one of the endings, its folder does not exist, or a file is there and `force` is false; or if it
        is not public and would lie in a release.
    """
    if page.suffix in beside:
        kinds = " and ".join(suffix.removeprefix(".").upper() for suffix in beside)
        raise InputError(f"--out {page.name!r}: is the page; beside it comes {kinds}, so name the page .html.")
    for path in (page, *map(page.with_suffix, beside)):
        check_file(path, force=force)
    if not page.absolute().parent.is_dir():
        raise InputError(f"--out {page.name!r}: its folder does not exist; create it first.")
    if not public:
        check_unpublished(page)


def judged(evaluation: "Evaluation") -> None:
    """Print how close a synthetic cohort is and how useful, and for which uses that is good enough."""
    from dpsynth.evaluation.report.answers import repeated

    words = repeated(evaluation.results)
    _close(evaluation.results)
    _useful(evaluation.results)
    _recognised(evaluation.results)
    _uses(evaluation)
    if words:
        note(f"WARNING: do not release it. {words} Every use is answered with no.")


def _uses(evaluation: "Evaluation") -> None:
    from dpsynth.evaluation.report.verdicts import verdicts

    answers = verdicts(evaluation.results, evaluation.terms.margins, evaluation.about.get("target"), withheld=False)
    table("good enough for", ("use", "answer"), [(verdict.use, str(verdict.answer)) for verdict in answers])


def _spent(published: "Published") -> None:
    from dpsynth.privacy.spending.statement import unit_in_words

    facts = published.model.statement
    rows = [
        ("epsilon", f"{facts['epsilon']:g}"),
        ("delta", f"{facts['delta']:g}"),
        ("protected", unit_in_words(facts)),
        ("model", facts["model"]["name"]),
    ]
    table("what was spent", ("", "value"), rows)


def _close(results: "Results") -> None:
    rows = []
    for order, words in ((1, "one column"), (2, "pairs"), (3, "triples")):
        distances = {arm: results.select(f"tvd_{order}way", arm=arm) for arm in _ARMS}
        if any(distances.values()):
            rows.append((words, *(_shown(next(iter(items), None)) for items in distances.values())))
    table(
        "how close: mean total variation distance to the real test patients (0 is equal)",
        ("tables of", "synthetic", "other real patients"),
        rows,
    )


def _useful(results: "Results") -> None:
    if len(results.select("r2")):  # of a number there is no AUROC
        _learned(results.select("r2"), "how useful: R² on real held-out patients", "learner")
        return
    title = "how useful: AUROC on real held-out patients"
    _learned(results.select("auroc"), title, "classifier")


def _recognised(results: "Results") -> None:
    title = "images: balanced accuracy on images of real held-out patients"
    _learned(results.select("image_balanced_accuracy", group="all"), title, "learner")


def _learned(scores: "Results", title: str, first: str) -> None:
    """Print a score of each learner, by what it was trained on."""
    from dpsynth.evaluation.learners.from_outside import ARM

    learners = list(dict.fromkeys(score.subject for score in scores.select(arm="synthetic") if score.subject))
    if not learners:
        return
    arms = _ARMS | ({ARM: "DP classifier"} if len(scores.select(arm=ARM)) else {})
    rows = [
        (learner, *(_shown(next(iter(scores.select(arm=arm, subject=learner)), None)) for arm in arms))
        for learner in learners
    ]
    table(title, (first, *arms.values()), rows, caption="95 % intervals; internal numbers, not part of the release")


def _shown(result: "Result | None") -> str:
    if result is None:
        return "-"
    if result.value is None:
        return str(result.status).replace("_", " ")
    ends = result.interval
    return f"{result.value:.3f} ({ends.low:.3f} to {ends.high:.3f})" if ends else f"{result.value:.3f}"
