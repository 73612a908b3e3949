"""Names for the leaves of a pytree."""

from collections import Counter

import jax
from jax.tree_util import GetAttrKey, KeyPath, keystr
from jaxtyping import PyTree


def path_name(path: KeyPath) -> str:
    """Return ``"block/conv/kernel"`` for a key path.

    A Flax NNX variable puts a trailing ``.value`` on the path of its array; it says nothing about the
    model and is left out, so that the same rule fits a dict and an ``nnx.State``.

    Example:
      >>> import jax
      >>> [(path, _)] = jax.tree_util.tree_leaves_with_path({"a": [1.0]})
      >>> path_name(path)
      'a/0'
    """
    if len(path) > 1 and isinstance(path[-1], GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return keystr(path, simple=True, separator="/")


def leaf_names(tree: PyTree) -> list[str]:
    """Return the path name of every leaf of ``tree``, in flatten order.

    Example:
      >>> from collections import namedtuple
      >>> leaf_names({"attention": namedtuple("QV", "query value")(1.0, 2.0)})
      ['attention/query', 'attention/value']
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    below = Counter(path[:depth] for path in paths for depth in range(len(path)))
    names = [path_name(path) for path in paths]
    for i, path in enumerate(paths):
        # a field called value beside others belongs to the model: only a variable has nothing else
        if path and below[path[:-1]] > 1:
            names[i] = keystr(path, simple=True, separator="/")
    return names
