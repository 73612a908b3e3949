"""Every network of the zoo has the size that the papers and the specifications say."""

import jax
import jax.numpy as jnp
import pytest

from experiments.models import ConvNetConfig, LeNetConfig, MLPConfig, abstract, named
from wormjax.evaluation import macs

# Parameters, and BatchNorm scales (O-M1 and by hand), of networks whose size is known from elsewhere.
SIZES = {
    # stem 27 C + sum 9 C C', two BatchNorm vectors, classifier
    "vgg11": (9_217_728 + 2 * 2752 + 512 * 10 + 10, 2752),
    "vgg16": (14_710_464 + 2 * 4224 + 512 * 10 + 10, 4224),
    # 16 + 6 n * 112 scales at the stem and in 2 n blocks
    "resnet20": (269_722, 688),
    # of ten classes, as the structured-ticket papers train it; of a thousand, torchvision's
    "resnet18": (11_173_962, 4800),
    "resnet18_imagenet": (11_689_512, 4800),
    "resnet50": (25_557_032, 26_560),
    "wrn32_2": (1_860_522, 2464),
    "mobilenet": (3_217_226, 10_944),
    "mobilenet_imagenet": (4_231_976, 10_944),
    # stem; a stage of width w: 17 w^2 a block, its first 5 c w + 13 w^2 with c channels before it
    "preresnet101": (
        432
        + sum(10 * 17 * w * w + 5 * c * w + 13 * w * w for c, w in ((16, 16), (64, 32), (128, 64)))
        + 2 * 7408
        + 2570,
        7408,
    ),
    # public implementations of WideResNet count as many
    "wrn28_10": (36_479_194, 16 + 8 * (160 + 320 + 640)),
    "lenet300": (784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10, 0),
    "lenet5": (431_080, 0),
    "convnet": (94_538, 0),
    "digits": (16_794, 96),
    "digits_mobilenet": (144 + 144 + 256 + 144 + 512 + 288 + 1024 + 2 * 160 + 330, 160),
    "digits_preresnet": (72 + 8 * 8 + 576 + 256 + 256 + 512 + 2304 + 1024 + 2048 + 304 + 650, 152),
}


def sizes(params):
    return [leaf.size for leaf in jax.tree.leaves(params)]


def scales(params):
    found = jax.tree_util.tree_leaves_with_path(params)
    return [leaf.size for path, leaf in found if "scale" in jax.tree_util.keystr(path)]


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_batch_norm_totals(name):
    config = named(name)
    params = abstract(config).params
    assert (sum(sizes(params)), sum(scales(params))) == SIZES[name]
    assert config.norm_channels == SIZES[name][1]


def test_numbers_of_batch_norms():
    counts = {"vgg16": 13, "resnet18": 20, "preresnet101": 100}
    for name, count in counts.items():
        assert len(scales(abstract(named(name)).params)) == count


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet20", 20),
        ("resnet110", 110),
        ("resnet18", 18),
        ("resnet50", 50),
        ("preresnet20", 20),
        ("preresnet101", 101),
        ("preresnet164", 164),
    ],
)
def test_the_depth_is_in_the_name(name, depth):
    assert named(name).depth == depth


def test_other_classes_and_stems():
    changed = {
        11_220_132: named("resnet18", classes=100),
        23_910_152: named("resnet50", classes=200, stem="3x3"),
    }
    for parameters, config in changed.items():
        assert sum(sizes(abstract(config).params)) == parameters


@pytest.mark.parametrize(
    ("config", "weights", "tensors", "parameters"),
    [
        (MLPConfig(widths=(1024, 512), inputs=3072), 3_675_136, 3, 3_676_682),
        (MLPConfig(widths=(256, 256), inputs=24, classes=1), 71_936, 3, 72_449),
        (ConvNetConfig(), 94_304, 4, 94_538),
        (LeNetConfig(), 430_500, 4, 431_080),
        (named("resnet56", shortcut="B"), 851_504, 58, 855_770),
        (named("vgg16", classes=100), 14_761_664, 14, 14_761_664 + 2 * 4224 + 100),
    ],
)
def test_weights_that_sparse_training_masks(config, weights, tensors, parameters):
    """Section 6.1 of the specification of dynamic sparse training."""
    params = abstract(config).params
    matrices = [x.size for x in jax.tree.leaves(params) if len(x.shape) > 1]
    assert (sum(matrices), len(matrices), sum(sizes(params))) == (weights, tensors, parameters)


@pytest.mark.parametrize(
    ("name", "multiplications"),
    [
        # published counts of convolutions and classifier: they fix strides, poolings and padding
        ("resnet18_imagenet", 1_814_073_344),
        ("resnet50", 4_089_184_256),
        ("mobilenet_imagenet", 568_740_352),
    ],
)
def test_multiply_accumulates_on_imagenet(name, multiplications):
    view = abstract(named(name))
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    assert macs(lambda *a: view.apply(*a)[0], view.params, view.state, x) == multiplications
