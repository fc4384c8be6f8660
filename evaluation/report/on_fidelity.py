"""The part of the page on tables, columns and rows."""

from dpsynth.evaluation.catalogue import ARMS, METRICS
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.on_released import released, released_cells
from dpsynth.evaluation.report.parts import PAID, Figure, Section, by_arm, kept, nothing
from dpsynth.evaluation.report.text import TextTable, number, percent, shown
from dpsynth.evaluation.results import Results

__all__ = ["fidelity"]

#: Columns that are drawn as the worst.
WORST = 8


def fidelity(results: Results, *, withheld: bool = True) -> Section:
    """Return the part on tables, columns and rows."""
    mine = results.select(section="fidelity")
    checks = results.select(("rows", "constraint_violations", "copies", "duplicates"))
    words = []
    tvd = list(mine.select("tvd_1way"))
    if tvd:
        about = tvd[0].detail
        words.append(
            f"Every arm is compared with the same {number(about['reference_rows'])} rows of real patients, who did not "
            f"train the model; each arm has {number(about['rows'])} rows. The column of other real patients shows what "
            f"chance alone makes of each distance. Cells: {about['bins']}; missing is a cell of its own."
        )
    else:
        paid = len(mine.select("released_tvd"))
        words.append(PAID if paid else nothing("no column was compared", withheld=withheld))
    drawn = kept([_overlays(mine), _heat(mine)])
    more = kept([_pairs(mine), released_cells(mine)])
    tables = kept([_distances(mine), _orders(mine), _checks(checks), released(mine)])
    return Section("fidelity", "How close is it to the patients?", words, drawn, tables, more)


#: Metrics that have a table of their own.
_ELSEWHERE = ("tvd_column", "released_tvd", "within_noise", "order_difference", "order_difference_excess")
_NAMES = ARMS | {"real": "other real patients (chance alone)"}
_REAL = {"synthetic": ARMS["synthetic"], "real": "real patients"}


def _distances(results: Results) -> TextTable | None:
    metrics = [key for key in METRICS if METRICS[key].section == "fidelity" and key not in _ELSEWHERE]
    caption = "Distances from the reference patients"
    return by_arm(results, metrics, caption, _NAMES, absent="the yardstick", first=("synthetic",))


def _orders(results: Results) -> TextTable | None:
    """Return how the differences of ordered columns are distributed, such as lengths of stay."""
    rows = []
    for result in results.select("order_difference", arm="synthetic"):
        chance = next(iter(results.select("order_difference", arm="real", subject=result.subject)), None)
        excess = next(iter(results.select("order_difference_excess", arm="synthetic", subject=result.subject)), None)
        cells = (shown(each) if each is not None else "n/a" for each in (result, chance, excess))
        rows.append((result.subject, *cells, *(_quartiles(result.detail.get(key)) for key in ("real", "drawn"))))
    head = ("Pair", "Distance, synthetic", "Other real patients", "Beyond chance", "Real patients", "Synthetic cohort")
    caption = (
        "Differences of columns that the schema puts in order (of dates in days): Kolmogorov-Smirnov distance; median "
        "and quartiles"
    )
    return TextTable(caption, head, rows) if rows else None


def _quartiles(ends: list[float] | None) -> str:
    if ends is None:
        return "n/a"
    low, middle, high = (number(end, 1) for end in ends)
    return f"{middle} ({low} to {high})"


def _checks(results: Results) -> TextTable | None:
    of_arms: dict[str, dict[str, str]] = {}
    arms = [arm for arm in _REAL if len(results.select(arm=arm))]
    for result in results:
        what, of = METRICS[result.metric].title, f" of {number(result.n)}"
        if result.metric == "constraint_violations" and result.detail.get("constraints"):
            for words, count in result.detail["constraints"].items():
                of_arms.setdefault(f"{what}: {words}", {})[result.arm] = f"{number(count)}{of}"
            continue
        if result.metric == "copies" and result.ok:
            of_arms.setdefault(f"{what} ({result.reason})", {})[result.arm] = (
                f"{percent(result.number)}{of} different rows"
            )
            continue
        remark = f" ({result.reason})" if result.reason and result.ok else ""
        of = "" if result.metric == "rows" or not result.ok else of
        of_arms.setdefault(what, {})[result.arm] = f"{shown(result)}{of}{remark}"
    rows = [(what, *(cells.get(arm, "n/a") for arm in arms)) for what, cells in of_arms.items()]
    head = ("Check", *(_REAL[arm] for arm in arms))
    caption = "Plain facts about the rows. Rows equal to a real row are a count, not a measure of privacy."
    return TextTable(caption, head, rows) if rows else None


def _overlays(results: Results) -> Figure | None:
    columns = list(results.select("tvd_column"))
    worst = sorted((result for result in columns if result.ok), key=lambda result: -result.number)
    if not worst:
        return None
    drawings = [
        (result.subject, figures.overlay(result, f"column{place}")) for place, result in enumerate(worst[:WORST])
    ]
    rows = [(result.subject, shown(result), number(result.detail["real_halves"])) for result in worst]
    rows += [(result.subject, shown(result), "n/a") for result in columns if not result.ok]
    table = TextTable(
        "TVD of every column, worst first", ("Column", "TVD, synthetic", "TVD, other real patients"), rows
    )
    caption = (
        f"The {len(drawings)} columns that differ most. Solid: real patients. Hatched: the synthetic cohort. Bars are "
        "shares of rows."
    )
    return Figure("columns", "Worst columns", caption, drawings, table, small=True)


def _pairs(results: Results) -> TextTable | None:
    rows = []
    for metric in ("tvd_2way", "tvd_3way"):
        for result in results.select(metric, arm="synthetic"):
            rows += [
                (" and ".join(item["columns"]), number(item["tvd"]), number(item["real"]))
                for item in result.detail.get("worst", [])
            ]
    head = ("Columns", "TVD, synthetic", "TVD, other real patients")
    return TextTable("Pairs and triples of columns that differ most beyond chance", head, rows) if rows else None


def _heat(results: Results) -> Figure | None:
    errors = [result for result in results.select("association_error", arm="synthetic") if result.ok]
    if not errors or len(errors[0].detail.get("columns", [])) < 2:
        return None
    error = errors[0]
    names = error.detail["columns"]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    both = [
        (pair, real, synthetic)
        for pair, real, synthetic in zip(pairs, error.detail["real"], error.detail["synthetic"], strict=True)
        if real is not None and real == real  # noqa: PLR0124  (NaN: the pair has no association)
    ]
    both.sort(key=lambda item: -abs(item[2] - item[1]))
    rows = [(" and ".join(pair), number(real), number(synthetic)) for pair, real, synthetic in both[:60]]
    table = TextTable("Cramér's V of the 60 pairs that differ most", ("Columns", "real", "synthetic"), rows)
    caption = "Brown: two columns go together more strongly in the cohort than in real patients. Purple: less."
    drawing = figures.heat_map(error, "association")
    return Figure("association", "Associations between columns", caption, [("", drawing)], table)
