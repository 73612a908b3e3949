"""The command line of an experiment: presets pick the defaults, every field of its config is a flag."""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The flags that every experiment has; an experiment's config adds its own fields.

    A subclass that checks its fields in ``__post_init__`` calls ``super().__post_init__()``. Give
    every field a docstring under it: that is its help.

    Raises:
      ValueError: fewer than one seed.
    """

    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Which defaults to start from; the presets are listed above."""

    seeds: int = 3
    """How many seeds to run; arms are paired seed by seed."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the results; by default runs/EXPERIMENT-PRESET."""

    resume: bool = False
    """Go on with an interrupted run in that folder; starts afresh where there is none."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds}: a run needs at least one; pass --seeds 3.")


C = TypeVar("C", bound=RunConfig)


def parse(
    config_type: type[C],
    presets: Mapping[str, C],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    about: Mapping[str, str] | None = None,
) -> C:
    """Read a command line into a config.

    ``--preset P`` picks the defaults, whatever its place; every other flag overrides one field.
    ``--help`` lists the presets with a line each, and the defaults of the preset that was chosen.

    Args:
      config_type: the experiment's frozen dataclass; nested dataclasses become dotted flags.
      presets: for each name its defaults; the first is the default preset.
      argv: the arguments without the program's name; by default those of the process.
      prog: how the command is typed, such as ``"python -m experiments.worm"``.
      description: what the experiment does, shown above the flags.
      about: for each preset one line for the help; where it is missing, the line says which fields
        differ from the first preset.

    Returns:
      The config, its ``preset`` field filled in.

    Raises:
      SystemExit: with code 2 and a sentence on stderr for an unknown preset, an unknown flag or a
        value that the config refuses; with code 0 after ``--help``.

    Example:
      >>> presets = {"digits": RunConfig(), "cifar10": RunConfig(seeds=5)}
      >>> config = parse(RunConfig, presets, ["--preset", "cifar10"], prog="demo", description="")
      >>> config.preset, config.seeds
      ('cifar10', 5)
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    name = _chosen_preset(argv) or next(iter(presets))
    if name not in presets:
        close = difflib.get_close_matches(name, presets, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        fail(prog, f"there is no preset {name!r}: {hint}choose one of {', '.join(presets)}.")
    return tyro.cli(
        config_type,
        prog=prog,
        description=f"{description}\n\n{_preset_lines(presets, about or {}, name)}",
        args=argv,
        default=dataclasses.replace(presets[name], preset=name),
        use_underscores=True,  # a flag is spelled like its field in config.json
    )


def fail(prog: str, sentence: str) -> NoReturn:
    """Print a sentence to stderr and leave with exit code 2, as a wrong flag does."""
    sys.stderr.write(f"{prog}: {sentence}\n")
    raise SystemExit(2)


def _chosen_preset(argv: Sequence[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset")
    try:
        return parser.parse_known_args(argv)[0].preset
    except argparse.ArgumentError:  # "--preset" without a name: tyro says so
        return None


def _preset_lines(presets: Mapping[str, RunConfig], about: Mapping[str, str], chosen: str) -> str:
    first = _flat(next(iter(presets.values())))
    width = max(map(len, presets))
    lines = [f"presets (the defaults below are those of {chosen!r}):"]
    for place, (name, config) in enumerate(presets.items()):
        changed = {key: value for key, value in _flat(config).items() if first.get(key) != value}
        differs = ", ".join(f"{key}={value}" for key, value in changed.items())
        line = about.get(name) or ("the default" if place == 0 else differs)
        lines.append(f"  {name:<{width}}  {line}")
    return "\n".join(lines)


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values |= _flat(value, f"{prefix}{field.name}.")
        elif prefix or field.name != "preset":
            values[f"{prefix}{field.name}"] = value
    return values
