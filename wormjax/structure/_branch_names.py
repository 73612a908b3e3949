"""Names for residual branches: the path that the parameters of each have in common."""

import dataclasses
from collections.abc import Sequence

from wormjax.structure._branch import Branch
from wormjax.structure._program import Program


def named(branches: Sequence[Branch], program: Program) -> list[Branch]:
    """Give every branch the common path of its parameters; where two have one, that of its largest part."""
    short = [_common([program.names[p] for p in b.owned or b.reads]) for b in branches]
    names = []
    for b, name in zip(branches, short, strict=True):
        twice = [o for o, other in zip(branches, short, strict=True) if other == name]
        same_scan = all(o.step is not None and o.sum == b.sum for o in twice)
        if len(twice) > 1 and not same_scan:
            name = _largest(b, name, program)
        names.append(f"{name}[{b.step}]" if b.step is not None else name)
    count: dict[str, int] = {}
    for k, name in enumerate(names):
        count[name] = count.get(name, 0) + 1
        if names.count(name) > 1 or count[name] > 1:
            names[k] = f"{name}.{count[name]}"
    return [dataclasses.replace(b, name=name) for b, name in zip(branches, names, strict=True)]


def _common(paths: Sequence[str]) -> str:
    """The path that several have in common; that of the first, where there is none."""
    if len(paths) == 1:
        return paths[0].rpartition("/")[0] or paths[0]
    split = [p.split("/") for p in paths]
    same = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        same.append(parts[0])
    return "/".join(same) or paths[0].rpartition("/")[0] or paths[0]


def _largest(branch: Branch, prefix: str, program: Program) -> str:
    depth = len(prefix.split("/")) + 1
    sizes: dict[str, int] = {}
    for p in branch.owned or branch.reads:
        part = "/".join(program.names[p].split("/")[:depth])
        sizes[part] = sizes.get(part, 0) + program.params[p].size
    return max(sizes, key=lambda part: sizes[part])
