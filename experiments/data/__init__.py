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
from experiments.data._load_streamed import STREAMED as STREAMED
from experiments.data._load_streamed import load_streamed as load_streamed
from experiments.data._normalise import channel_moments as channel_moments
from experiments.data._normalise import normalise as normalise
from experiments.data._placed import Placed as Placed
from experiments.data._placed import place as place
from experiments.data._placed import whole_steps as whole_steps
from experiments.data._prefetch import prefetch as prefetch
from experiments.data._records import ArrayRecords as ArrayRecords
from experiments.data._records import PreparedRecords as PreparedRecords
from experiments.data._records import Record as Record
from experiments.data._records import Records as Records
from experiments.data._splits import partition as partition
from experiments.data._splits import stratified_order as stratified_order
from experiments.data._stream import Batch as Batch
from experiments.data._stream import PaddedBatch as PaddedBatch
from experiments.data._stream import Position as Position
from experiments.data._stream import Stream as Stream
from experiments.data._streamed import StreamedDataset as StreamedDataset
from experiments.data._streamed import StreamedSplit as StreamedSplit
from experiments.data._tfds import tfds_images as tfds_images
from experiments.data._transforms import CentreCrop as CentreCrop
from experiments.data._transforms import Decode as Decode
from experiments.data._transforms import Draws as Draws
from experiments.data._transforms import RandomResizedCrop as RandomResizedCrop
from experiments.data._transforms import Transform as Transform

__all__ = [
    "NAMES",
    "STREAMED",
    "ArrayRecords",
    "Batch",
    "CentreCrop",
    "Crops",
    "Dataset",
    "Decode",
    "Draws",
    "EvaluationBatches",
    "Overlap",
    "PaddedBatch",
    "Placed",
    "Position",
    "PreparedRecords",
    "RandomResizedCrop",
    "Record",
    "Records",
    "Split",
    "Stream",
    "StreamedDataset",
    "StreamedSplit",
    "Transform",
    "channel_moments",
    "check_disjoint",
    "content_overlaps",
    "crop_flip",
    "digits",
    "draw_crops",
    "epoch_order",
    "evaluation_batches",
    "load",
    "load_streamed",
    "normalise",
    "pad_crop_flip",
    "partition",
    "place",
    "prefetch",
    "stratified_order",
    "tfds_images",
    "whole_steps",
]
