"""Fit and draw with dpmm, run by the Python of its own environment for `task_models.py`: ``task_peer.py FOLDER``."""

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Read codes and the job of a folder, and write the drawn codes there."""
    import pandas as pd
    from dpmm.pipelines import AIMPipeline, MSTPipeline

    job = json.loads((folder / "job.json").read_text())
    codes = pd.read_csv(folder / "codes.csv").astype(int)
    kind = {"mst": MSTPipeline, "aim": AIMPipeline}[job["model"]]
    pipeline = kind(epsilon=job["epsilon"], delta=job["delta"], disable_processing=True, proc_epsilon=None)
    pipeline.fit(codes, domain=dict(job["sizes"]), random_state=job["seed"])
    pipeline.generate(n_records=job["rows"], random_state=job["seed"]).to_csv(folder / "drawn.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
