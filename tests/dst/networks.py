"""The networks of the specification as shapes, in flatten order."""

from fractions import Fraction

import jax
import jax.numpy as jnp


def ordered(shapes):
    """A tree whose flatten order is the order of the network."""
    return {f"{i:02d}": shape for i, shape in enumerate(shapes)}


MLP = [(3072, 1024), (1024, 512), (512, 10)]
CNN = [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (128, 10)]
LENET = [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]
HIGGS = [(24, 256), (256, 256), (256, 1)]


def resnet56(classes):
    """Stem, then for each stage its 3x3 convolutions and, where it widens, the 1x1 shortcut."""
    shapes = [(3, 3, 3, 16)]
    entering = 16
    for width in (16, 32, 64):
        for block in range(9):
            shapes += [(3, 3, entering if block == 0 else width, width), (3, 3, width, width)]
            if block == 0 and entering != width:
                shapes.append((1, 1, entering, width))
        entering = width
    return [*shapes, (64, classes)]


VGG16_WIDTHS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG16 = [(3, 3, i, o) for i, o in zip([3, *VGG16_WIDTHS[:-1]], VGG16_WIDTHS, strict=True)] + [
    (512, 100)
]


def tree_of(shapes, dtype=jnp.float32):
    return {name: jax.ShapeDtypeStruct(s, dtype) for name, s in ordered(shapes).items()}


def all_of(tree):
    return jax.tree.map(lambda _: True, tree)


def counts_of(rule, shapes, density):
    tree = tree_of(shapes)
    return rule(tree, all_of(tree), Fraction(str(density)))
