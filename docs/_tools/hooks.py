"""What the site's generator calls: generated pages, and the package as a wheel lays it out."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LAYOUT = ROOT / "build" / "docs-package" / "dpsynth"
"""The package as it is installed: two of its parts lie in folders of their own in the checkout."""


def on_startup(**_: Any) -> None:
    """Link the package together where the reference is read from."""
    LAYOUT.mkdir(parents=True, exist_ok=True)
    places = {path.name: path for path in (ROOT / "dpsynth").iterdir() if path.name != "__pycache__"}
    places |= {"models": ROOT / "models", "evaluation": ROOT / "evaluation"}
    for old in LAYOUT.iterdir():
        old.unlink()
    for name, path in places.items():
        (LAYOUT / name).symlink_to(path)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the program."""
    sys.path.insert(0, str(Path(__file__).parent))
    from generate import pages

    for place, content in pages().items():
        files.append(File.generated(config, place, content=content))
    return files
