"""Cohorts with images on disk: an ``.npz`` in MedMNIST's layout, or a folder of image files with an index."""

from dpsynth.images.folder import dataset_of
from dpsynth.images.source import read_source

__all__ = ["dataset_of", "read_source"]
