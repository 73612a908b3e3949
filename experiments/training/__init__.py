"""Training: one pure step, two drivers, recipes, evaluation, checkpoints and records."""

from experiments.training._ahead import Program as Program
from experiments.training._checkpoints import Checkpoints as Checkpoints
from experiments.training._digest import digest as digest
from experiments.training._drivers import EpochRunner as EpochRunner
from experiments.training._drivers import epoch_runner as epoch_runner
from experiments.training._drivers import order_key as order_key
from experiments.training._evaluate import Evaluator as Evaluator
from experiments.training._evaluate import accuracy as accuracy
from experiments.training._evaluate import evaluator as evaluator
from experiments.training._evaluate import mean_loss as mean_loss
from experiments.training._inputs import Mode as Mode
from experiments.training._inputs import pick_mode as pick_mode
from experiments.training._manifest import CheckpointError as CheckpointError
from experiments.training._mask_text import mask_distances as mask_distances
from experiments.training._mask_text import mask_from_text as mask_from_text
from experiments.training._mask_text import mask_text as mask_text
from experiments.training._metrics import MetricsLog as MetricsLog
from experiments.training._network import Network as Network
from experiments.training._per_seed import PerSeed as PerSeed
from experiments.training._recipes import Recipe as Recipe
from experiments.training._recipes import start_at as start_at
from experiments.training._schedule_rest import Standing as Standing
from experiments.training._schedule_rest import train_rest as train_rest
from experiments.training._seeds import stack_seeds as stack_seeds
from experiments.training._seeds import take_seed as take_seed
from experiments.training._state import TrainState as TrainState
from experiments.training._state import init_state as init_state
from experiments.training._step import Metrics as Metrics
from experiments.training._step import Step as Step
from experiments.training._step import classify as classify
from experiments.training._step import make_step as make_step
from experiments.training._streamed import StreamRunner as StreamRunner
from experiments.training._streamed import stream_runner as stream_runner
from experiments.training._streamed_evaluate import StreamEvaluator as StreamEvaluator
from experiments.training._streamed_evaluate import stream_evaluator as stream_evaluator

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "EpochRunner",
    "Evaluator",
    "Metrics",
    "MetricsLog",
    "Mode",
    "Network",
    "PerSeed",
    "Program",
    "Recipe",
    "Standing",
    "Step",
    "StreamEvaluator",
    "StreamRunner",
    "TrainState",
    "accuracy",
    "classify",
    "digest",
    "epoch_runner",
    "evaluator",
    "init_state",
    "make_step",
    "mask_distances",
    "mask_from_text",
    "mask_text",
    "mean_loss",
    "order_key",
    "pick_mode",
    "stack_seeds",
    "start_at",
    "stream_evaluator",
    "stream_runner",
    "take_seed",
    "train_rest",
]
