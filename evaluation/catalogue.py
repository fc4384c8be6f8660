"""What each metric is: its title, its place in the report, which way is better, and one sentence on what it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ARMS", "METRICS", "SHORT", "Direction", "Metric", "Section", "metric"]

Section = Literal["fidelity", "utility", "images", "inference", "survival", "fairness", "check"]
Direction = Literal["higher", "lower", "zero", "one", "none"]


@dataclass(frozen=True)
class Metric:
    """One metric of the catalogue.

    Parameters
    ----------
    key : str
        Its name in `Result.metric`.
    title : str
        Its name on the page.
    section : str
        The part of the report that it belongs to.
    direction : str
        ``higher`` or ``lower`` is better, ``zero`` or ``one`` is the ideal, or ``none`` (a description).
    about : str
        What the number says, in one sentence for a clinician.
    """

    key: str
    title: str
    section: Section
    direction: Direction
    about: str


_TVD = (
    "Half the sum of absolute differences between two tables of shares: the share of patients that would have to move."
)

_LESS = "Synthetic-trained less real-trained, on the same images of the same test patients."

_ROWS: tuple[tuple[str, str, Section, Direction, str], ...] = (
    ("tvd_1way", "TVD, one column", "fidelity", "lower", f"Mean over all columns. {_TVD}"),
    ("tvd_2way", "TVD, pairs", "fidelity", "lower", f"Mean over pairs of columns. {_TVD}"),
    ("tvd_3way", "TVD, triples", "fidelity", "lower", f"Mean over triples of columns. {_TVD}"),
    ("tvd_1way_excess", "TVD beyond chance, one column", "fidelity", "zero", "TVD less that of two real halves."),
    ("tvd_2way_excess", "TVD beyond chance, pairs", "fidelity", "zero", "TVD less that of two real halves."),
    ("tvd_3way_excess", "TVD beyond chance, triples", "fidelity", "zero", "TVD less that of two real halves."),
    ("tvd_column", "TVD of this column", "fidelity", "lower", f"{_TVD} Missing is a cell of its own."),
    ("released_tvd", "TVD to the released counts", "fidelity", "lower", "Against counts paid for with the budget."),
    (
        "association_error",
        "Association error",
        "fidelity",
        "lower",
        "Mean difference in Cramér's V, rare cells aside.",
    ),
    ("spearman_error", "Rank correlation error", "fidelity", "lower", "Mean absolute difference in Spearman's rho."),
    ("order_difference", "Difference of an order pair", "fidelity", "lower", "KS distance, such as of length of stay."),
    ("order_difference_excess", "Difference beyond chance", "fidelity", "zero", "KS less that of two real halves."),
    ("missing_rate_error", "Missing share error", "fidelity", "lower", "Mean absolute difference in share missing."),
    ("missing_pattern_tvd", "TVD of missing patterns", "fidelity", "lower", "Which columns are missing together."),
    ("wasserstein", "Wasserstein distance", "fidelity", "lower", "Mean distance moved, as share of the public range."),
    ("ks", "Kolmogorov-Smirnov distance", "fidelity", "lower", "Largest gap between two cumulative curves."),
    ("two_sample_auroc", "Real or synthetic? AUROC", "fidelity", "lower", "0.5: a classifier cannot tell them apart."),
    ("precision", "Precision", "fidelity", "higher", "Share of synthetic rows that lie where real rows lie."),
    ("recall", "Recall", "fidelity", "higher", "Share of real rows that lie where synthetic rows lie."),
    ("density", "Density", "fidelity", "higher", "How crowded with real rows the synthetic rows' places are."),
    ("coverage", "Coverage", "fidelity", "higher", "Share of real rows with a synthetic row in their neighbourhood."),
    ("visit_correlation", "Correlation over visits", "check", "none", "Of one quantity at two visits of a patient."),
    ("visit_rank_correlation", "Rank correlation over visits", "check", "none", "Spearman's, of the same values."),
    ("visit_change", "Change between visits", "check", "none", "Standard deviation of the change to the next visit."),
    (
        "constant_share",
        "Constant in the patient",
        "check",
        "one",
        "Patients in whose rows a static column is constant.",
    ),
    ("constraint_violations", "Impossible rows", "check", "lower", "Rows that break a declared constraint."),
    ("copies", "Rows that repeat a real patient", "check", "none", "More than real patients share: against every use."),
    ("duplicates", "Rows equal to a real row", "check", "none", "A count, not a measure of privacy."),
    ("rows", "Rows", "check", "none", "How many rows the cohort has."),
    ("auroc", "AUROC", "utility", "higher", "Chance that a patient with the outcome is ranked above one without."),
    ("auprc", "AUPRC", "utility", "higher", "Average precision; a coin gives the share with the outcome."),
    ("balanced_accuracy", "Balanced accuracy", "utility", "higher", "Mean share of each class that is found."),
    ("brier", "Brier score", "utility", "lower", "Mean squared error of the predicted probability."),
    ("calibration_intercept", "Calibration intercept", "utility", "zero", "Above 0: risks are predicted too low."),
    ("calibration_slope", "Calibration slope", "utility", "one", "Below 1: predicted risks are too extreme."),
    ("r2", "R²", "utility", "higher", "Share of the outcome's variance that is explained."),
    ("mae", "Mean absolute error", "utility", "lower", "In the outcome's own unit."),
    ("change", "Change against real-trained", "utility", "zero", "Synthetic-trained less real-trained, same patients."),
    ("coefficient", "Coefficient", "inference", "none", "Of the pre-specified regression."),
    ("sign_agreement", "Sign agreement", "inference", "higher", "Share of coefficients with the same sign."),
    ("interval_overlap", "Interval overlap", "inference", "higher", "Mean overlap of the intervals, 1 = identical."),
    ("standardised_difference", "Standardised difference", "inference", "lower", "Mean difference in standard errors."),
    ("rmst", "Restricted mean", "survival", "none", "Mean time without the event, up to the horizon."),
    ("rmst_difference", "Restricted mean, difference", "survival", "zero", "The arm's less that of the test patients."),
    ("curve_distance", "Largest gap of the curves", "survival", "lower", "Of the shares without the event."),
    ("logrank_p", "Log-rank test, p", "survival", "none", "Of equal curves; the cohort's rows are not patients."),
    ("c_harrell", "Harrell's C", "survival", "higher", "Chance that the earlier event had the higher risk."),
    ("c_uno", "Uno's C", "survival", "higher", "The same, whatever the censoring; up to the horizon."),
    ("c_change", "Change of Harrell's C", "survival", "zero", "Synthetic-trained less real-trained, same patients."),
    ("brier_integrated", "Integrated Brier score", "survival", "lower", "Mean squared error of the predicted curve."),
    ("survival_calibration", "Observed less predicted", "survival", "zero", "Share with the event by this time."),
    ("cox_coefficient", "Log hazard ratio", "survival", "none", "Of Cox's regression."),
    ("cox_sign_agreement", "Sign agreement", "survival", "higher", "Share of hazard ratios on the same side of 1."),
    ("cox_interval_overlap", "Interval overlap", "survival", "higher", "Mean overlap of the intervals."),
    ("group_rmst_difference", "Restricted mean in the group", "survival", "zero", "Synthetic less test patients."),
    ("group_c", "Harrell's C in the group", "survival", "higher", "Among the group's own patients."),
    ("group_c_change", "Change of C in the group", "survival", "zero", "Synthetic-trained less real-trained."),
    ("within_noise", "Cells within the noise", "fidelity", "higher", "Share of released counts whose interval holds."),
    ("share", "Share of patients", "fairness", "none", "Share of the synthetic rows that are in the group."),
    ("representation", "Representation (log ratio)", "fairness", "zero", "Log of synthetic share over real share."),
    ("representation_slope", "Representation slope", "fairness", "zero", "Below 0: small groups grow; above: shrink."),
    ("group_auroc", "AUROC in the group", "fairness", "higher", "Among the group's own patients; mean over classes."),
    ("group_auprc", "AUPRC in the group", "fairness", "higher", "Depends on the share with the outcome."),
    ("tpr", "True positive rate", "fairness", "higher", "Share found of those with the outcome."),
    ("fpr", "False positive rate", "fairness", "lower", "Share alarmed of those without the outcome."),
    ("ppv", "Positive predictive value", "fairness", "higher", "Share with the outcome of those alarmed."),
    ("calibration_error", "Observed less predicted", "fairness", "zero", "Observed share less mean predicted risk."),
    ("group_r2", "R² in the group", "fairness", "higher", "Share of the variance in the group that is explained."),
    ("group_balanced_accuracy", "Balanced accuracy in the group", "fairness", "higher", "Mean share found of a class."),
    ("group_mae", "Mean absolute error in the group", "fairness", "lower", "In the outcome's own unit."),
    ("group_accuracy", "Accuracy in the group", "fairness", "higher", "Share of the group that is classified rightly."),
    ("group_change", "Change in the group", "fairness", "zero", "Synthetic-trained less real-trained, same patients."),
    ("did", "Difference in differences", "fairness", "zero", "The group's change less that of all other patients."),
    ("worst_group", "Worst group", "fairness", "higher", "The lowest group score that can be estimated."),
    ("gap", "Gap between groups", "fairness", "lower", "Best less worst group score."),
    ("largest_did", "Largest difference in differences", "fairness", "zero", "With its permutation p value."),
    ("equalized_odds", "Equalised odds difference", "fairness", "lower", "Largest gap in true or false positive rate."),
    ("demographic_parity", "Demographic parity difference", "fairness", "lower", "Largest gap in share alarmed."),
    ("image_accuracy", "Accuracy", "images", "higher", "Share of images whose class is recognised."),
    ("image_balanced_accuracy", "Balanced accuracy", "images", "higher", "Mean share recognised of each class."),
    ("image_auroc", "AUROC", "images", "higher", "Mean over classes, each against the rest."),
    ("class_recall", "Recognised of this class", "images", "higher", "Share of the class's images."),
    ("class_auroc", "AUROC of this class", "images", "higher", "This class against the rest."),
    ("image_accuracy_change", "Change of accuracy", "images", "zero", _LESS),
    ("image_balanced_accuracy_change", "Change of balanced accuracy", "images", "zero", _LESS),
    ("image_auroc_change", "Change of AUROC", "images", "zero", _LESS),
    ("class_recall_change", "Change of this class", "images", "zero", _LESS),
    ("class_auroc_change", "Change of this class's AUROC", "images", "zero", _LESS),
    ("image_consistency", "Images show their column", "images", "higher", "Share from which its value is recognised."),
    ("fid", "Fréchet distance (FID)", "images", "lower", "Of normal clouds of features; above 0 also by chance."),
    ("kid", "Kernel distance (KID)", "images", "lower", "Squared MMD, cubic kernel; 0 on average where equal."),
    ("mmd", "MMD, Gaussian kernel", "images", "lower", "Squared; 0 on average where equal, may be below."),
    ("image_precision", "Precision of images", "images", "higher", "Share of images that lie where real images lie."),
    ("image_recall", "Recall of images", "images", "higher", "Share of real images near which images lie."),
    ("image_density", "Density of images", "images", "higher", "How crowded with real images their places are."),
    ("image_coverage", "Coverage of images", "images", "higher", "Share of real images with one in their midst."),
    ("image_samples", "Images shown", "images", "none", "Drawn at random from the synthetic cohort."),
)

METRICS: dict[str, Metric] = {row[0]: Metric(*row) for row in _ROWS}

ARMS: dict[str, str] = {
    "real": "real patients (ceiling)",
    "synthetic": "synthetic cohort",
    "real+synthetic": "real and synthetic together",
    "noiseless": "same model without noise (or ε = 100)",
    "floor": "independent columns, same ε (floor)",
    "dp_classifier": "DP classifier on real patients, same ε",
    "prevalence": "no model (prevalence)",
    "trained_real_tested_synthetic": "trained on real, tested on synthetic",
}


#: The same for figures.
SHORT: dict[str, str] = ARMS | {
    "real": "real patients",
    "real+synthetic": "real and synthetic",
    "noiseless": "model without noise",
    "floor": "independent columns",
    "dp_classifier": "DP classifier",
    "prevalence": "no model",
    "trained_real_tested_synthetic": "tested on synthetic",
}


def metric(key: str) -> Metric:
    """Return the catalogue's entry for `key`.

    Raises
    ------
    KeyError
        If there is no such metric: a result of an unknown metric is a fault of ours.
    """
    return METRICS[key]


MEASURES: Mapping[str, str] = {
    "auroc": "TSTR score (AUROC, or R²)",
    "worst_change": "Change in the group that loses most",
    "representation_slope": "Representation slope, largest in size",
    "tvd_2way": "TVD, pairs",
}
"""What is followed over epsilon, and what it is called."""
