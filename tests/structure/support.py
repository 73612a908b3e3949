"""The support table of the README, from the networks that the tests shrink: ``python tests/structure/support.py``."""

import inspect

from zoo import CASES

WRITTEN_IN = {
    "_linen": "Flax Linen",
    "_nnx": "Flax NNX",
    "_equinox": "Equinox",
    "_plain": "plain JAX",
}


def framework(name: str) -> str:
    """Return what a case is written in, by the file that it stands in."""
    file = inspect.getmodule(CASES[name]).__name__.split(".")[-1]
    [found] = [told for start, told in WRITTEN_IN.items() if file.startswith(start)]
    return found


def table() -> str:
    """Return the rows as Markdown."""
    rows = ["| network | written in | groups found | what is tied |", "|---|---|---|---|"]
    for name in sorted(CASES):
        make = CASES[name]
        what = " ".join((make.__doc__ or "").split())
        rows.append(f"| {name} | {framework(name)} | {make().groups} | {what} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
