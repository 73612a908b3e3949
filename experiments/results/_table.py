"""From the record of a result to its page."""

from collections.abc import Mapping
from typing import Any

from experiments.report import comparison_of


def page(record: Mapping[str, Any], source: str) -> str:
    """Return the Markdown page of a result: its tables and where it comes from.

    Args:
      record: as `read` returns it.
      source: name of the JSON file.
    """
    hardware, versions = record["hardware"], record["versions"]
    made = [
        f"Made by `{record['command']}`, seeds {', '.join(map(str, record['seeds']))}, on "
        f"{hardware['devices']} x {hardware['device_kind']} ({hardware['backend']}; host {hardware['cpu']}, "
        f"{hardware['cpu_cores']} cores), with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        f"Generated from `{source}` by `python -m experiments.results`; do not edit.",
    ]
    return "\n\n".join([*(comparison_of(t).markdown() for t in record["tables"]), *made]) + "\n"
