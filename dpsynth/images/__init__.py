"""Cohorts with images on disk: an ``.npz`` in MedMNIST's layout, or a folder of image files with an index."""

from dpsynth.images.archive import is_archive
from dpsynth.images.folder import dataset_of, index_of, is_image_folder
from dpsynth.images.source import read_source

__all__ = ["dataset_of", "index_of", "is_archive", "is_image_folder", "read_source"]
