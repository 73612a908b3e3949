"""What all experiments have at their end: pictures beside the report, its frame, tables in the terminal."""

import sys
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from experiments._folder import RunFolder
from experiments._training_config import TrainingConfig
from experiments.report import Block, Picture, Section, Table, html_report, made_by, save_figure


class Pictures:
    """Figures of a report, which are also saved beside it.

    Args:
      folder: the run's folder; each figure becomes ``figures/NAME.png``.
      figures: by name.
      captions: by name, at least one for each figure.
    """

    def __init__(
        self, folder: RunFolder, figures: Mapping[str, Figure], captions: Mapping[str, str]
    ):
        self._figures, self._captions = figures, captions
        if folder.writes:
            for name, figure in figures.items():
                save_figure(figure, folder.figures / f"{name}.png")

    def shown(self, *names: str) -> list[Picture]:
        """Return those of the named figures that were made, with their captions."""
        return [
            Picture(self._figures[name], self._captions[name])
            for name in names
            if name in self._figures
        ]


def write_report_page(
    folder: RunFolder,
    title: str,
    sections: Sequence[Section],
    config: TrainingConfig,
    origin: str,
    *more: Block,
) -> None:
    """Write ``report.html``; its last section says how it was made.

    Args:
      folder: the run's folder.
      title: of the report.
      sections: all others.
      config: the run's config; data, model and number of seeds stand under the title.
      origin: where the data came from.
      more: blocks for the last section.
    """
    folder.write_report(
        html_report(
            title,
            [*sections, made_by(folder.provenance(), *more)],
            subtitle=f"{config.data} ({origin}), {config.model}, {config.seeds} seeds",
        )
    )


def print_result(folder: RunFolder, failures: Mapping[str, str], tables: Sequence[Table]) -> int:
    """Print the tables and where the report is; return 0 where every arm finished, else 1."""
    for table in tables:
        sys.stdout.write(f"\n{table.text()}\n")
    sys.stdout.write(f"\nReport: {folder.report}\n")
    return 1 if failures else 0
