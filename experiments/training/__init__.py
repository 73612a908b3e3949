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
from experiments.training._metrics import MetricsLog as MetricsLog
from experiments.training._metrics import read_records as read_records
from experiments.training._per_seed import PerSeed as PerSeed
from experiments.training._recipes import Recipe as Recipe
from experiments.training._recipes import start_at as start_at
from experiments.training._seeds import stack_seeds as stack_seeds
from experiments.training._seeds import take_seed as take_seed
from experiments.training._state import TrainState as TrainState
from experiments.training._state import init_state as init_state
from experiments.training._step import Metrics as Metrics
from experiments.training._step import Step as Step
from experiments.training._step import classify as classify
from experiments.training._step import make_step as make_step
from experiments.training._units import Unit as Unit
from experiments.training._units import run_units as run_units

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "EpochRunner",
    "Evaluator",
    "Metrics",
    "MetricsLog",
    "Mode",
    "PerSeed",
    "Program",
    "Recipe",
    "Step",
    "TrainState",
    "Unit",
    "accuracy",
    "classify",
    "digest",
    "epoch_runner",
    "evaluator",
    "init_state",
    "make_step",
    "mean_loss",
    "order_key",
    "pick_mode",
    "read_records",
    "run_units",
    "stack_seeds",
    "start_at",
    "take_seed",
]
