"""The last part of every report: what to type to get it again, and on what it was made."""

from collections.abc import Mapping
from typing import Any

from experiments.report._html import Block, Code, Facts, Section


def made_by(provenance: Mapping[str, Any], *more: Block) -> Section:
    """Return the section that says how a report was made.

    Args:
      provenance: with the keys command, config, versions and hardware, as ``config.json`` of a run holds them.
      more: blocks that stand behind the command.

    Example:
      >>> made_by({"command": "python -m x", "config": {}, "versions": {}, "hardware": {}}).title
      'How it was made'
    """
    return Section(
        "How it was made",
        [
            Code(provenance["command"]),
            *more,
            Facts("Settings", provenance["config"]),
            Facts("Versions", provenance["versions"]),
            Facts("Hardware", provenance["hardware"]),
        ],
    )
