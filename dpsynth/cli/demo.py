"""``dpsynth demo``: the main job on real patients that ship with dpsynth."""

from pathlib import Path
from typing import Annotated

import typer

from dpsynth.cli.common import ForceOption, JsonOption, ModelOption, OptionsOption, chosen, guarded, progress
from dpsynth.cli.outcome import announce


@guarded
def run(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets release/ and internal/.")] = Path(),
    model: ModelOption = None,
    option: OptionsOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Make and judge a private synthetic copy of SUPPORT2: 9,105 seriously ill adults, epsilon 1, delta 1e-6.

    A share of the patients is kept aside: a classifier trained on the synthetic patients is tested on them, beside one
    trained on real patients. Writes release/ and internal/.

    For example:

        dpsynth demo

        dpsynth demo --model aim --out /tmp/aim
    """
    from dpsynth.datasets import load_support2
    from dpsynth.jobs.publish import demo

    maker = chosen(model, option, load_support2().schema)
    with progress(quiet=json) as report:
        published = demo(out, maker, force=force, progress=report)
    announce(published, json=json)
