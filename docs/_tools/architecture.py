"""Draws the rooms of the house and the way of the data through them, from the imports of the code.

``python docs/_tools/architecture.py`` writes ``docs/architecture.svg``; a test holds that it is that of this code.
"""

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = (
    ("cli",),
    ("jobs",),
    ("publishing",),
    ("federated",),
    ("models", "evaluation"),
    ("privacy",),
    ("sources",),
    ("coding",),
    ("checking",),
    ("cohort", "drafting"),
    ("files",),
    ("schema",),
    ("columns",),
)
"""The rooms from the roof to the ground."""
WAY = (
    ("files", "cohort", "rows"),
    ("cohort", "coding", "checked values"),
    ("coding", "sources", "codes"),
    ("sources", "privacy", "sums of whole numbers"),
    ("privacy", "models", "noisy answers"),
    ("models", "publishing", "a model, synthetic rows"),
    ("models", "evaluation", "synthetic rows"),
)
"""What passes from room to room; private up to `privacy`, public from there."""
PRIVATE = {"files", "cohort", "drafting", "checking", "coding", "sources", "privacy"}
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" font-family="sans-serif">
<title>The rooms of dpsynth, and the way of the data through them</title>
<style>
.room {{ fill: #fff; stroke: #455a64 }} .private {{ fill: #fbe9e7; stroke: #bf360c }} text {{ font-size: 15px }}
.import {{ stroke: #b0bec5; fill: none }} .way {{ stroke: #1565c0; stroke-width: 2.5; fill: none }}
.word {{ fill: #1565c0; font-size: 13px }}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#1565c0"/></marker></defs>"""
WIDTH, HEIGHT, GAP, LEFT, TOP = 190, 44, 26, 240, 40


def rooms() -> dict[str, Path]:
    """Return the folder of each room."""
    folders = {name: ROOT / "dpsynth" / name for floor in FLOORS for name in floor}
    return folders | {"models": ROOT / "models", "evaluation": ROOT / "evaluation"}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imports() -> set[tuple[str, str]]:
    """Return the pairs of rooms of which the first imports the second."""
    found = set()
    for room, folder in rooms().items():
        for path in folder.rglob("*.py"):
            parts = (name.split(".") for name in _imported(path) if name.startswith("dpsynth."))
            found |= {(room, part[1]) for part in parts if part[1] in rooms() and part[1] != room}
    return found


def _places() -> dict[str, tuple[float, float]]:
    """Return the middle of each room."""
    places = {}
    for row, floor in enumerate(FLOORS):
        for column, name in enumerate(floor):
            x = LEFT + (column - (len(floor) - 1) / 2) * (WIDTH + 2 * GAP)
            places[name] = (x, TOP + row * (HEIGHT + GAP))
    return places


def picture() -> str:
    """Return the picture as SVG."""
    places = _places()
    height = TOP + len(FLOORS) * (HEIGHT + GAP)
    parts = [SVG.format(height=height)]
    for above, below in sorted(imports()):
        (x, y), (u, v) = places[above], places[below]
        bend = LEFT - WIDTH / 2 - 14 - 0.22 * abs(v - y)
        parts.append(
            f'<path class="import" d="M{x - WIDTH / 2} {y}C{bend:.0f} {y} {bend:.0f} {v} {u - WIDTH / 2} {v}"/>'
        )
    for room, (x, y) in places.items():
        kind = "room private" if room in PRIVATE else "room"
        parts.append(
            f'<rect class="{kind}" x="{x - WIDTH / 2}" y="{y - HEIGHT / 2}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle">{room}</text>'
        )
    for place, (start, end, what) in enumerate(WAY):
        (x, y), (u, v) = places[start], places[end]
        side = x + WIDTH / 2
        bend = max(side, u + WIDTH / 2) + 40
        parts.append(
            f'<path class="way" marker-end="url(#head)" '
            f'd="M{side} {y - 6}C{bend} {y - 6} {bend} {v + 6} {u + WIDTH / 2} {v + 6}"/>'
            f'<text class="word" x="{bend + 2}" y="{(y + v) / 2 + 4}">{place + 1}. {escape(what)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.svg").write_text(picture(), encoding="utf-8")
