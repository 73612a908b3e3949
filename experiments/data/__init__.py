"""Image sets as arrays: loading, disjoint splits, batches, and what the device does to them."""

from experiments.data._augment import Crops as Crops
from experiments.data._augment import crop_flip as crop_flip
from experiments.data._augment import draw_crops as draw_crops
from experiments.data._augment import pad_crop_flip as pad_crop_flip
from experiments.data._batches import EvaluationBatches as EvaluationBatches
from experiments.data._batches import epoch_order as epoch_order
from experiments.data._batches import evaluation_batches as evaluation_batches
from experiments.data._dataset import Dataset as Dataset
from experiments.data._dataset import Overlap as Overlap
from experiments.data._dataset import Split as Split
from experiments.data._dataset import check_disjoint as check_disjoint
from experiments.data._dataset import content_overlaps as content_overlaps
from experiments.data._digits import digits as digits
from experiments.data._load import NAMES as NAMES
from experiments.data._load import load as load
from experiments.data._normalise import channel_moments as channel_moments
from experiments.data._normalise import normalise as normalise
from experiments.data._splits import partition as partition
from experiments.data._splits import stratified_order as stratified_order
from experiments.data._tfds import tfds_images as tfds_images

__all__ = [
    "NAMES",
    "Crops",
    "Dataset",
    "EvaluationBatches",
    "Overlap",
    "Split",
    "channel_moments",
    "check_disjoint",
    "content_overlaps",
    "crop_flip",
    "digits",
    "draw_crops",
    "epoch_order",
    "evaluation_batches",
    "load",
    "normalise",
    "pad_crop_flip",
    "partition",
    "stratified_order",
    "tfds_images",
]
