"""Image classifiers in Flax NNX, sized by frozen dataclasses and used through views."""

from experiments.models._build import ModelConfig, abstract, build
from experiments.models._convnet import ConvNet, ConvNetConfig
from experiments.models._fewer_blocks import Fewer, fewer_blocks
from experiments.models._lenet import LeNet, LeNetConfig
from experiments.models._mlp import MLP, MLPConfig
from experiments.models._mobilenet import MobileNet, MobileNetConfig
from experiments.models._named import NAMED, named
from experiments.models._narrowed import narrowed
from experiments.models._preresnet import PreResNet, PreResNetConfig
from experiments.models._resnet import ResNet, ResNetConfig
from experiments.models._sized import sized
from experiments.models._vgg import VGG, VGGConfig

__all__ = [
    "MLP",
    "NAMED",
    "VGG",
    "ConvNet",
    "ConvNetConfig",
    "Fewer",
    "LeNet",
    "LeNetConfig",
    "MLPConfig",
    "MobileNet",
    "MobileNetConfig",
    "ModelConfig",
    "PreResNet",
    "PreResNetConfig",
    "ResNet",
    "ResNetConfig",
    "VGGConfig",
    "abstract",
    "build",
    "fewer_blocks",
    "named",
    "narrowed",
    "sized",
]
