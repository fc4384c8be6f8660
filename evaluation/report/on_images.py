"""The part of the page on images."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from dpsynth.evaluation.catalogue import ARMS, METRICS, SHORT
from dpsynth.evaluation.learners.from_outside import ARM as DIRECT
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import Figure, Section, arms_of, direct, kept
from dpsynth.evaluation.report.svg import INK
from dpsynth.evaluation.report.text import TextTable, number, short, shown, with_interval
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["images", "sample_grid"]

TITLE = "Do the images hold up?"
_ONLY_SAMPLES = (
    "How images of the cohort compare with those of patients may not be shown here: it would touch private data "
    "without noise. What may be are images of the cohort, drawn at random. No image is that of a patient, and none is "
    "shown beside the real image that is nearest to it."
)
_SCORES = ("image_balanced_accuracy", "image_accuracy", "image_auroc")
_CHANGE = "image_balanced_accuracy_change"
_SIDES = {"real": "Real images of other patients", "trained_real_tested_synthetic": "Synthetic images"}
LONGEST, LETTER, HIGH, GAP = 24, 8, 44, 6
"""Of a grid of samples: letters of a name and width of each, height of a row and space between rows, in pixels."""


def images(results: Results, target: str | None, about: Mapping[str, Any]) -> Section:
    """Return the part on images: how they look, what one learns from them, how far they are from real ones.

    `about` says what classifiers were given.
    """
    mine = results.select(section="images")
    samples = [_samples(result, place) for place, result in enumerate(mine.select("image_samples"))]
    if len(mine) == len(mine.select("image_samples")):
        return Section("images", TITLE, [_ONLY_SAMPLES], kept(samples))
    learners = list(dict.fromkeys(result.subject for result in mine.select(_SCORES) if result.subject))
    drawn = kept([*samples, _arms(mine, learners), _classes(mine, learners), _groups(mine, learners)])
    words = [_words(mine, target), *filter(None, [direct(mine, about)]), *_disagreement(mine)]
    tables = kept([_changes(mine), _distances(mine), _consistency(mine)])
    more = kept([grid for learner in learners for grid in (_by_class(mine, learner), _by_group(mine, learner))])
    return Section("images", TITLE, words, drawn, tables, more)


def _words(results: Results, target: str | None) -> str:
    scores = [result for result in results.select(_SCORES) if result.arm != DIRECT]
    trained = [result.detail["trained_images"] for result in scores if "trained_images" in result.detail]
    if not trained:
        return "No network was trained: see what is missing below. Distances need none, but for one extractor."
    tested = [result.detail["images"] for result in results.select(_SCORES, group="all") if result.ok]
    return (
        f"Networks that recognise {target} learn from {number(max(trained))} images of each arm and are tested on the "
        f"same {number(max(tested, default=0))} images of real patients; trained on real images is the ceiling. "
        "Nothing is chosen by how it does on the test images. Intervals draw patients, with all their images. Of "
        "larger cohorts a random subset of patients is used: 30,000 images for training, 10,000 for testing, 5,000 for "
        "distances, 2,500 for neighbours; large images are made smaller."
    )


def _disagreement(results: Results) -> list[str]:
    """Return a warning where two learners' losses have intervals that do not meet."""
    changes = [
        result for result in results.select(_CHANGE, arm="synthetic", group="all") if result.interval is not None
    ]
    ends = [result.interval for result in changes if result.interval is not None]
    if len(ends) < 2 or max(interval.low for interval in ends) <= min(interval.high for interval in ends):
        return []
    said = "; ".join(f"{result.subject} {with_interval(result.value, result.interval)}" for result in changes)
    return [f"The learners disagree about what training on the cohort costs: {said}. Take the worse one."]


def _samples(result: Result, place: int) -> Figure:
    rows, across = result.detail["rows"], result.detail["columns"]
    order = f", in the order of the values of {across}" if across else ""
    less = f" {result.detail['left_out']} groups are not shown." if result.detail["left_out"] else ""
    slices = " Of each volume its middle slice." if len(result.detail["size"]) == 3 else ""
    caption = f"Drawn at random, up to ten of each group{order}. Every image is synthetic.{slices}{less}"
    name = result.subject if result.subject != "all" else "the cohort"
    table = TextTable(
        f"Synthetic images by {name}", ("Group", "Images"), [(row["label"], number(row["n"])) for row in rows]
    )
    drawing = sample_grid(rows, f"samples{place}", f"Synthetic images by {name}")
    return Figure(f"samples{place}-figure", f"Synthetic images by {name}", caption, [("", drawing)], table)


def sample_grid(rows: Sequence[dict[str, Any]], key: str, title: str) -> str:
    """Return a row of images per group, with its name, as an SVG element that holds the images themselves."""
    scales = [HIGH / row["height"] for row in rows]
    label_width = 12 + LETTER * max(min(len(row["label"]), LONGEST) for row in rows)
    width = label_width + max(row["width"] * scale for row, scale in zip(rows, scales, strict=True))
    high = len(rows) * (HIGH + GAP)
    size = f'width="{width:.0f}" height="{high}" viewBox="0 0 {width:.0f} {high}"'
    parts = [
        f'<svg role="img" aria-labelledby="{key}-title {key}-desc" {size} style="image-rendering:pixelated">',
        f'<title id="{key}-title">{html.escape(title)}</title>',
        f'<desc id="{key}-desc">A row of synthetic images for each of {len(rows)} groups.</desc>',
    ]
    for place, (row, scale) in enumerate(zip(rows, scales, strict=True)):
        top = place * (HIGH + GAP)
        label = html.escape(short(row["label"], LONGEST))
        parts.append(f'<text x="0" y="{top + HIGH / 2 + 4:.0f}" font-size="13" fill="{INK}">{label}</text>')
        place_and_size = f'x="{label_width}" y="{top}" width="{row["width"] * scale:.1f}" height="{HIGH}"'
        parts.append(f'<image {place_and_size} preserveAspectRatio="none" href="data:image/png;base64,{row["png"]}"/>')
    return "".join([*parts, "</svg>"])


def _ordered(results: Results) -> list[Result]:
    return sorted(results, key=lambda result: list(ARMS).index(result.arm))


def _arms(results: Results, learners: Sequence[str]) -> Figure | None:
    metric = _SCORES[0]
    drawings, rows = [], []
    for place, learner in enumerate(learners):
        scores = _ordered(results.select(metric, subject=learner, group="all"))
        lines = [result for result in scores if result.arm == "real"]
        title = f"{METRICS[metric].title} of {learner}, by what it was trained on"
        drawing = figures.forest(scores, f"image-arms{place}", title=title, label=METRICS[metric].title, lines=lines)
        drawings.append((learner, drawing))
        for result in scores:
            others = [results.select(name, subject=learner, group="all", arm=result.arm) for name in _SCORES[1:]]
            cells = [shown(next(iter(other))) if len(other) else "n/a" for other in others]
            rows.append((f"{learner}: {ARMS[result.arm]}", shown(result), *cells, number(result.n)))
    drawings = [item for item in drawings if item[1]]
    if not drawings:
        return None
    table = TextTable(
        "Scores by arm", ("Learner and arm", *(METRICS[name].title for name in _SCORES), "n patients"), rows
    )
    return Figure("image-arms", "Real and synthetic images to learn from", "Dashed: the ceiling.", drawings, table)


def _changes(results: Results) -> TextTable | None:
    names = [f"{metric}_change" for metric in _SCORES]
    rows = []
    changes = results.select(_CHANGE, group="all")
    for change in changes:
        mine = [results.select(name, subject=change.subject, arm=change.arm, group="all") for name in names]
        cells = (shown(next(iter(each))) if len(each) else "n/a" for each in mine)
        rows.append((f"{change.subject}: {ARMS[change.arm]}", *cells, number(change.n)))
    caption = "Change against the network trained on real images, paired on the same test patients"
    head = ("Learner and arm", *(METRICS[name].title for name in names), "n patients")
    return TextTable(caption, head, rows) if rows else None


def _classes(results: Results, learners: Sequence[str]) -> Figure | None:
    caption = "Left: a class is found less often by what learned from synthetic images."
    title = "What it costs each class"
    return _changed(results, learners, "class_recall_change", key="image-classes", title=title, caption=caption)


def _groups(results: Results, learners: Sequence[str]) -> Figure | None:
    several = Results(result for result in results.select((_CHANGE, "image_accuracy_change")) if result.group != "all")
    metric = _CHANGE if any(result.ok for result in several.select(_CHANGE)) else "image_accuracy_change"
    caption = f"{METRICS[metric].title} in each group; left: worse when learned from synthetic images."
    title = "What it costs each group of patients"
    return _changed(several, learners, metric, key="image-groups", title=title, caption=caption)


def _changed(
    results: Results, learners: Sequence[str], metric: str, *, key: str, title: str, caption: str
) -> Figure | None:
    drawings, rows = [], []
    for place, learner in enumerate(learners):
        changes = list(results.select(metric, subject=learner, arm="synthetic"))
        label = "synthetic-trained less real-trained"
        drawing = figures.paired_forest(changes, f"{key}{place}", title=f"{title}: {learner}", label=label)
        drawings.append((learner, drawing))
        rows += [(f"{learner}: {result.group}", number(result.n), shown(result)) for result in changes]
    drawings = [item for item in drawings if item[1]]
    table = TextTable(METRICS[metric].title, ("Learner and group", "n patients", "Change"), rows)
    return Figure(key, title, caption, drawings, table) if drawings else None


def _distances(results: Results) -> TextTable | None:
    metrics = [key for key in METRICS if key in ("fid", "kid", "mmd") or key in _AMONG]
    distances = results.select(metrics)
    arms = sorted(arms_of(distances), key=lambda arm: arm != "synthetic")
    names = ARMS | {"real": "other real patients (chance alone)"}
    rows = []
    for metric in metrics:
        for extractor in dict.fromkeys(result.subject for result in distances.select(metric)):
            mine = {result.arm: result for result in distances.select(metric, subject=extractor)}
            cells = (shown(mine[arm], 4) if arm in mine else "not computed" for arm in arms)
            rows.append((f"{METRICS[metric].title}: {extractor}", *cells, number(next(iter(mine.values())).n)))
    caption = (
        "Distances from images of the test patients, by what looked at the images. Features are in units of the "
        "synthetic images' spread; such numbers cannot be compared with those of another cohort or paper."
    )
    return TextTable(caption, ("Distance and extractor", *(names[arm] for arm in arms), "n"), rows) if rows else None


_AMONG = ("image_precision", "image_recall", "image_density", "image_coverage")


def _consistency(results: Results) -> TextTable | None:
    agreement = results.select("image_consistency")
    rows = []
    for subject, group in dict.fromkeys((result.subject, result.group) for result in agreement):
        mine = {result.arm: result for result in agreement.select(subject=subject, group=group)}
        guessing = [result.detail["guessing"] for result in mine.values() if "guessing" in result.detail]
        words = {result.reason for result in mine.values() if result.ok and result.reason}
        cells = [shown(mine[arm]) if arm in mine else "not computed" for arm in _SIDES]
        counts = [number(mine[arm].n) if arm in mine else "n/a" for arm in _SIDES]
        name = f"{subject}, mean of its values" if group == "all" else f"{subject} where {group}"
        name = group if group.startswith((f"{subject}=", f"{subject} ")) else name
        rows.append((name, *cells, number(guessing[0]) if guessing else "", *counts, *(words or {""})))
    caption = "Do images show what their row says? Share recognised by a classifier trained on real images"
    head = ("Column", *_SIDES.values(), "Guessing", "n real", "n synthetic", "Remark")
    return TextTable(caption, head, rows) if rows else None


def _by_class(results: Results, learner: str) -> TextTable | None:
    caption = f"{learner}: scores by class"
    return _table(results, learner, ("class_recall", "class_auroc"), ("class_recall", "class_auroc"), caption)


def _by_group(results: Results, learner: str) -> TextTable | None:
    several = Results(result for result in results if result.group != "all")
    return _table(several, learner, _SCORES, (_SCORES[1],), f"{learner}: scores by group of patients")


def _table(
    results: Results, learner: str, metrics: Sequence[str], changes: Sequence[str], caption: str
) -> TextTable | None:
    """Return a row per group: the scores of the arms, and their changes."""
    scores = results.select([*metrics, *(f"{name}_change" for name in changes)], subject=learner)
    arms = ["synthetic", *([DIRECT] if len(scores.select(arm=DIRECT)) else [])]
    columns = [(metric, arm) for metric in metrics for arm in ("real", *arms)]
    columns += [(f"{metric}_change", arm) for metric in changes for arm in arms]
    rows = []
    for group in dict.fromkeys(result.group for result in scores):
        mine = {(result.metric, result.arm): result for result in scores.select(group=group)}
        first = next(iter(mine.values()))
        positives = first.detail.get("positives", first.n)
        cells = (shown(mine[column]) if column in mine else "n/a" for column in columns)
        rows.append((group, number(positives), number(first.detail.get("images")), *cells))
    head = ("Group", "n patients", "images", *(_column(metric, arm) for metric, arm in columns))
    return TextTable(caption, head, rows) if rows else None


def _column(metric: str, arm: str) -> str:
    """Return the head of a column: whose score, or whose change where that is not the cohort's."""
    if arm == DIRECT:
        return f"{METRICS[metric].title}, {SHORT[arm]}"
    return METRICS[metric].title if metric.endswith("_change") else f"{METRICS[metric].title}, {arm}"
