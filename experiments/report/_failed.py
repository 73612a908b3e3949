"""Arms that failed, named at the top of a report."""

from collections.abc import Mapping

from experiments.report._html import Callout


def failed_arms(failures: Mapping[str, str]) -> list[Callout]:
    """Return a sentence for each arm that failed, from the reasons by arm.

    Example:
      >>> failed_arms({"snip-1": "The loss is nan."})
      [Callout(text='Arm snip-1 failed: The loss is nan.')]
    """
    return [Callout(f"Arm {arm} failed: {why}") for arm, why in failures.items()]
