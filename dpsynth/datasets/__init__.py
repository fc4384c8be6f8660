"""Small real cohorts that ship with dpsynth, each with its schema and a note on where it comes from."""

from importlib.resources import as_file, files

from dpsynth.cohort.cohort import Cohort
from dpsynth.schema.schema import Schema

__all__ = ["load_support2"]


def load_support2() -> Cohort:
    """Return SUPPORT2: 9,105 seriously ill adults, whether they died in hospital, and what was measured before.

    Returns
    -------
    Cohort
        A public cohort of 30 features, the target `hospdead`, and the patient's number `sno`; 25.9 % died. The columns
        of the file that leak the target are not read.

    References
    ----------
    Knaus et al., The SUPPORT prognostic model, Annals of Internal Medicine 1995;122:191-203. Licence and provenance
    are in `support2.md` beside the data.

    Examples
    --------
    >>> cohort = load_support2()
    >>> len(cohort), cohort.schema.target
    (9105, 'hospdead')
    """
    folder = files("dpsynth.datasets")
    schema = Schema.parse(folder.joinpath("support2.schema.yaml").read_text(encoding="utf-8"))
    with as_file(folder.joinpath("support2.csv")) as path:
        return Cohort.read(path, schema, public=True)
