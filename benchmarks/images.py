"""Image models on FashionMNIST, a stand-in for scans: what a classifier learns from their images, on real test images.

Each image stands for a patient. A model is fitted on the 60,000 training images, 30,000 are drawn from it, a small
convolutional network and scikit-learn's MLP are trained on those and tested on the 10,000 real test images. FID and KID
are distances to the test images in the last hidden layer of such a network that was trained on the real training
images, in units of the test images' mean standard deviation there: they compare rows of this table alone. Beside the
models stand the same two trained on 60,000 real images (``real``) and classifiers that were trained by DP-SGD on them
(``classifier-linear``, ``classifier-cnn``), which draw nothing.

Each fit adds a row to ``<results>/images_fashion_mnist.csv``; the Markdown table is written from all of them after each
fit, and a grid of ten images of each class beside it. A run can be interrupted and taken up again, and several may run
at once: fits that are in the file are not made once more. The data are those of the Debian package
dataset-fashion-mnist.

Examples
--------
::

    python benchmarks/images.py --models moments mean-embedding classifier-linear --epsilon 1 10 --fits 3
    python benchmarks/images.py --models gan --epsilon 1 --fits 1 --option steps=300
"""

import argparse
import gzip
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.evaluation.images.features import Cloud, cubic, jackknifed_fid, jackknifed_mmd
from dpsynth.evaluation.learners.image import Network, fit_cnn
from dpsynth.evaluation.learners.lesson import Lesson
from dpsynth.files.image_set import ImageSet

HERE = Path(__file__).parent
DATA = Path("/usr/share/datasets/fashion-mnist")
DELTA = 1e-5
DRAWN = 30_000
EPOCHS = 4
DIRECT: dict[str, Literal["linear", "cnn"]] = {"classifier-linear": "linear", "classifier-cnn": "cnn"}
REAL = "real"
COLUMNS = [
    *("model", "epsilon", "fit", "code", "options", "cnn", "mlp", "direct", "fid", "kid"),
    *("fit_wall", "fit_cpu", "draw_cpu", "judge_cpu"),
]  # fmt: skip
KEYS = ["model", "epsilon", "fit", "options"]
SCHEMA = """
name: fashion
confirmed: true
target: label
rows: 60000
images: {size: [28, 28]}
columns: {label: {type: categorical, values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}
"""


@dataclass(frozen=True)
class Labelled:
    """Images and their classes.

    Attributes
    ----------
    pixels
        (images, 28, 28) uint8.
    labels
        (images,) 0 to 9.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes
    ----------
    model, epsilon, fit
        Of what, at which budget, and the number of the repetition.
    options
        Of the model.
    """

    model: str
    epsilon: float
    fit: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Stopwatch:
    """Wall and processor seconds since it was made."""

    wall: float
    cpu: float

    @classmethod
    def start(cls) -> "Stopwatch":
        """Start now."""
        return cls(time.perf_counter(), time.process_time())

    def read(self) -> tuple[float, float]:
        """Return wall and processor seconds."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def read(folder: Path, part: str) -> Labelled:
    """Return a part of FashionMNIST, ``train`` or ``t10k``, from its published files."""
    pixels = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return Labelled(pixels.reshape(-1, 28, 28), labels.astype(np.int64))


def cohort(found: Labelled) -> Cohort:
    """Return the images as a cohort of as many patients."""
    table = Cohort.from_pandas(pd.DataFrame({"label": found.labels}), Schema.parse(SCHEMA), public=True)
    images = ImageSet(found.pixels[:, None].copy(), np.arange(len(found.labels), dtype=np.int64))
    return Cohort(table.schema, table.table, public=True, images=images)


def labelled(drawn: Cohort) -> Labelled:
    """Return the images of a cohort with their classes."""
    if drawn.images is None:
        raise SystemExit("the model draws no images")
    labels = np.asarray(drawn.to_pandas()["label"]).astype(np.int64)
    return Labelled(drawn.images.pixels[:, 0], labels[drawn.images.row])


def accuracy_cnn(train: Labelled, test: Labelled, seed: int) -> float:
    """Train a small convolutional network and return the share of test images that it classifies right."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    x, y = torch.from_numpy(train.pixels.copy()), torch.from_numpy(train.labels)
    steps = max(1, EPOCHS * len(x) // 128)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.2)
    for _ in range(steps):
        chosen = torch.randint(len(x), (128,))
        loss = nn.functional.cross_entropy(network(x[chosen, None].float() / 255), y[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        parts = torch.from_numpy(test.pixels.copy())[:, None].split(1000)
        found = torch.cat([network(part.float() / 255).argmax(1) for part in parts])
    return float((found.numpy() == test.labels).mean())


def accuracy_mlp(train: Labelled, test: Labelled, seed: int) -> float:
    """Train scikit-learn's MLP and return the share of test images that it classifies right."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    made = MLPClassifier((128,), early_stopping=True, n_iter_no_change=3, max_iter=15, random_state=seed)
    x, real = (part.pixels.reshape(len(part.pixels), -1) / np.float32(255) for part in (train, test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made.fit(x, train.labels)
    return float((made.predict(real) == test.labels).mean())


@cache
def encoder(folder: Path) -> Network:
    """Return the network, trained on the real training images, in whose features images are compared."""
    train = read(folder, "train")
    return fit_cnn(Lesson(train.pixels[:, None], (0, 255), train.labels[:, None], (10,)), 0)


def distances(drawn: Labelled, test: Labelled, folder: Path) -> dict[str, float]:
    """Return the Frechet and kernel distances of 10,000 images to the test images."""
    rng = np.random.default_rng(0)
    some = rng.choice(len(drawn.pixels), len(test.pixels), replace=False)
    real, made = (encoder(folder).features(pixels[:, None]) for pixels in (test.pixels, drawn.pixels[some]))
    middle, spread = real.mean(0), np.sqrt(real.var(0).mean())
    clouds = [Cloud((points - middle) / spread, np.arange(len(points))) for points in (real, made)]
    return {"fid": jackknifed_fid(*clouds, 0)[0], "kid": jackknifed_mmd(*clouds, cubic, 0)[0]}


def grid(drawn: Labelled, path: Path) -> None:
    """Write ten images of each class, a class a row."""
    from PIL import Image

    rows = []
    for label in range(10):
        found = drawn.pixels[drawn.labels == label][:10]
        rows.append(np.hstack([*found, *[np.zeros((28, 28), np.uint8)] * (10 - len(found))]))
    whole = np.kron(np.vstack(rows), np.ones((2, 2), np.uint8))
    Image.fromarray(whole).save(path, optimize=True)


def measured(job: Job, train: Labelled, test: Labelled, picture: Path, folder: Path) -> dict[str, float]:
    """Fit, draw, judge; return a row's numbers."""
    if job.model in DIRECT:
        return directly(job, train, test)
    drawn, row = train, {"fit_wall": 0.0, "fit_cpu": 0.0, "draw_cpu": 0.0}
    if job.model != REAL:
        watch = Stopwatch.start()
        made = dpsynth.fit(cohort(train), job.model, epsilon=job.epsilon, delta=DELTA, **job.options)
        row["fit_wall"], row["fit_cpu"] = watch.read()
        watch = Stopwatch.start()
        drawn = labelled(made.sample(DRAWN, seed=job.fit))
        row["draw_cpu"] = watch.read()[1]
        grid(drawn, picture)
    watch = Stopwatch.start()
    row |= {"cnn": accuracy_cnn(drawn, test, job.fit), "mlp": accuracy_mlp(drawn, test, job.fit)}
    row |= distances(drawn, test, folder)
    return {**row, "judge_cpu": watch.read()[1]}


def directly(job: Job, train: Labelled, test: Labelled) -> dict[str, float]:
    """Train a classifier privately on the real images; return a row's numbers."""
    from dpsynth.models.image.classifier import fit_image_classifier

    watch = Stopwatch.start()
    made = fit_image_classifier(cohort(train), epsilon=job.epsilon, delta=DELTA, kind=DIRECT[job.model], **job.options)
    wall, cpu = watch.read()
    found = made.predict_proba(test.pixels[:, None]).argmax(1)
    return {"direct": float((found == test.labels).mean()), "fit_wall": wall, "fit_cpu": cpu}


def commit() -> str:
    """Return the short commit of what fits."""
    paths = [str(HERE.parent / name) for name in ("models", "dpsynth")]
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", *paths]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def there(path: Path) -> pd.DataFrame:
    """Return the fits that are in a file."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, dtype={"code": str, "options": str}, keep_default_na=False, na_values={"": COLUMNS[5:]})


def add(path: Path, row: dict[str, Any]) -> None:
    """Add a fit to the file, which other runs may write to as well, and write the table anew."""
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        frame, new = there(path), pd.DataFrame([row], columns=COLUMNS)
        frame = pd.concat([frame, new]) if len(frame) else new
        numbers = {name: pd.to_numeric(frame[name]) for name in COLUMNS[5:]}
        frame = frame.assign(**numbers).sort_values(KEYS, kind="stable")
        frame.to_csv(path, index=False, float_format="%.4f")
        path.with_suffix(".md").write_text(page(frame), encoding="utf-8")


def span(values: pd.Series, digits: int = 3) -> str:
    """Return mean and range over fits."""
    values = values.dropna()
    texts = [f"{one:.{digits}f}" for one in (values.mean(), values.min(), values.max())]
    return "" if not len(values) else texts[0] if len(values) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    codes = ", ".join(sorted(set(frame["code"])))
    lines = [
        "# Image models: FashionMNIST",
        "",
        f"By `benchmarks/images.py`, commit {codes}. FashionMNIST is a stand-in: clothes, not scans; each image is",
        f"taken for a patient. Fitted on 60,000, the whole budget counted, δ = {DELTA:g}, noise of the operating",
        f"system, one thread. CNN and MLP are trained on {DRAWN:,} drawn images (real: on 60,000) and tested on the",
        "10,000 real test images; *direct* is a classifier that was trained privately on the real images. Accuracies",
        "are mean (least to greatest) over fits; chance of the 10,000 alone is ± .008 at .80 (95 %). The machine was",
        "shared: wall seconds are far above those of a quiet one. FID and KID: to the test images, features of a small",
        "network trained on the real training images, standardised; not to be compared with Inception's. Rows whose",
        "options say *as of* are of that earlier commit: moments were one Gaussian a label then;",
        "judged-moments and diffusion began there. Nothing was run on a graphics processor.",
        "",
    ]
    head = ["model", "ε", "options", "fits", "CNN", "MLP", "direct", "FID", "KID", "fit, CPU s", "fit, wall s"]
    body = []
    for (model, epsilon, options), part in frame.groupby(["model", "epsilon", "options"], sort=True):
        scores = [span(part[name]) for name in ("cnn", "mlp", "direct")] + [span(part["fid"], 1), span(part["kid"])]
        shown = "" if model == REAL else f"{epsilon:g}"
        seconds = [span(part[name], 0) for name in ("fit_cpu", "fit_wall")]
        body.append([str(model), shown, str(options), str(len(part)), *scores, *seconds])
    lines += [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]
    return "\n".join(lines) + "\n"


def parsed(options: list[str]) -> dict[str, Any]:
    """Return options given as ``name=value``."""
    found: dict[str, Any] = {}
    for option in options:
        name, value = option.split("=", 1)
        try:
            found[name] = int(value)
        except ValueError:
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = value
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with FashionMNIST's four .gz files")
    parser.add_argument("--models", nargs="+", required=True, help="installed image models, classifier-*, real")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0])
    parser.add_argument("--fits", type=int, default=3, help="fits of each cell, those in the file included")
    parser.add_argument("--option", nargs="*", default=[], help="options of the model, name=value")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--code", default=commit(), help="state of the code, for the table; default: the commit")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Make the fits that are not there, one repetition of everything before the next."""
    import torch

    asked = arguments()
    torch.set_num_threads(asked.threads)
    path, words = asked.results / "images_fashion_mnist.csv", " ".join(asked.option)
    parts = read(asked.data, "train"), read(asked.data, "t10k")
    for fit, model, epsilon in [(f, m, e) for f in range(asked.fits) for m in asked.models for e in asked.epsilon]:
        cell = {"model": model, "epsilon": epsilon if model != REAL else 0.0, "fit": fit, "options": words}
        frame = there(path)
        if (frame[KEYS] == pd.Series(cell)[KEYS]).all(axis=1).any():
            continue
        picture = path.with_name(f"images_fashion_mnist_{model}_{epsilon:g}.png")
        numbers = measured(Job(model, epsilon, fit, parsed(asked.option)), *parts, picture, asked.data)
        add(path, {**cell, "code": asked.code, **numbers})
        print(cell, {name: round(value, 4) for name, value in numbers.items()}, flush=True)


if __name__ == "__main__":
    main()
