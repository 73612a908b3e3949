"""Named settings of the main job: a line each, and the paper's protocols.

The protocols of the WORM paper's Tables 1 to 3 keep its batch, rate, window and pruning, and depart from it where its
code does not do what the paper says or needs what is not here: weights start at random and not from ImageNet, images
are normalised by their own mean and deviation, the VGG-11 is the one for small images, and targets are measured on
validation data, which the paper's code measures on the training set.
"""

import dataclasses

from experiments.worm._config import WormConfig

_PAPER = WormConfig(
    data="cifar10",
    arms=("dense", "standard", "gradclip", "greedy", "worm", "worm_random"),
    seeds=7,
    epochs=40,
    search_cap=20,
    batch_size=32,
    learning_rate=0.01,
    scale_init=1.0,
    prune_after="magnitude_per_tensor",
    recover="dense",
)

_REDUCED = dataclasses.replace(
    _PAPER,
    data="fashion_mnist",
    arms=("dense", "standard", "gradclip", "worm", "worm_random"),
    limit=1000,
    seeds=3,
    epochs=12,
    search_cap=10,
    target=0.7,
    speed_rounds=0,
)

PRESETS: dict[str, WormConfig] = {
    "digits": WormConfig(),
    "fashion_mnist": WormConfig(
        data="fashion_mnist",
        model="fashion",
        epochs=30,
        batch_size=128,
        learning_rate=0.05,
    ),
    "fashion_mnist_worm_vgg": dataclasses.replace(_REDUCED, model="digits"),
    "fashion_mnist_worm_resnet": dataclasses.replace(_REDUCED, model="digits_resnet"),
    "cifar10": WormConfig(
        data="cifar10",
        model="resnet20",
        augment=True,
        epochs=160,
        search_cap=60,
        batch_size=128,
        learning_rate=0.1,
        weight_decay=1e-4,
        milestones=(80, 120),
        l1=1e-4,
    ),
    "cifar10_worm_resnet18": dataclasses.replace(_PAPER, model="resnet18_imagenet"),
    "cifar10_worm_vgg11": dataclasses.replace(_PAPER, model="vgg11"),
    "cifar10_worm_table1": dataclasses.replace(
        _PAPER, model="vgg11", arms=("standard",), chis=(0.5, 0.1, 0.05, 0.01), seeds=5
    ),
}

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a four-layer VGG; two to five minutes on two cores (the default)",
    "fashion_mnist": "28x28 grey images, a five-layer VGG; needs TFDS_DATA_DIR",
    "fashion_mnist_worm_vgg": "the paper's protocol reduced: 1,000 images, a four-layer VGG; needs TFDS_DATA_DIR",
    "fashion_mnist_worm_resnet": "the same with a residual network of depth 10",
    "cifar10": "ResNet-20 by the Early-Bird recipe, 160 epochs; needs TFDS_DATA_DIR and an accelerator",
    "cifar10_worm_resnet18": "the WORM paper's Tables 2 and 3, ResNet-18, 7 seeds; needs the same",
    "cifar10_worm_vgg11": "the same tables, VGG-11",
    "cifar10_worm_table1": "its Table 1: constant factors, VGG-11, 5 seeds",
}
