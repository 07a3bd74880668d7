"""The one model class that every strategy trains and every result folder holds: trunk → pooled features → linear head.

Also the pooling rules. Loading pretrained weights is `load.py`; groups are `groups.py`; training is elsewhere.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from warmstart.backbones import efficientnet_lite
from warmstart.core.errors import ModelError

efficientnet_lite.register()

ACTIVATIONS: dict[str, type[nn.Module]] = {"identity": nn.Identity, "tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU}
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "pooler", "cls+mean")


class ClassifierConfig(PretrainedConfig):
    """Configuration of `Classifier`.

    Args:
        backbone: configuration of the trunk, as its own `to_dict` gives it.
        modality: "text", "pair" or "image".
        pooling: how the trunk's output becomes one vector; one of `POOLINGS`.
        projections: dense layers between pooling and head: in_features, out_features, bias, activation.
        normalize: whether features are scaled to unit length.
        feature_scale: factor on normalised features before the head (1 leaves them as they are).
        calibration_temperature: what logits are divided by for calibrated probabilities (Guo et al. 2017).
        interpolate_positions: whether position embeddings are resized to the image size in use.
    """

    model_type = "warmstart_classifier"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        modality: str = "text",
        pooling: str = "mean",
        projections: list[dict[str, Any]] | None = None,
        normalize: bool = False,
        feature_scale: float = 1.0,
        calibration_temperature: float = 1.0,
        interpolate_positions: bool = False,
        **kwargs: Any,
    ) -> None:
        self.backbone = {} if backbone is None else backbone
        self.modality = modality
        self.pooling = pooling
        self.projections = [] if projections is None else projections
        self.normalize = normalize
        self.feature_scale = feature_scale
        self.calibration_temperature = calibration_temperature
        self.interpolate_positions = interpolate_positions
        super().__init__(**kwargs)

    def backbone_config(self) -> PretrainedConfig:
        """The trunk's configuration as an object."""
        values = dict(self.backbone)
        return AutoConfig.for_model(values.pop("model_type"), **values)


class Classifier(PreTrainedModel):
    """Trunk, pooling, projections, linear head. Loads and saves like any transformers model.

    Args:
        config: the configuration.
        trunk: an already loaded trunk; built at random from the configuration when absent.
    """

    config_class = ClassifierConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: ClassifierConfig, trunk: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone_config()) if trunk is None else trunk
        drop_unused_pooler(self.backbone, config.pooling)
        self.projections = nn.ModuleList(dense(spec) for spec in config.projections)
        self.head = nn.Linear(self.feature_size, config.num_labels)
        self._reads_segments = reads_segments(self.backbone)
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Length of a feature vector."""
        if self.config.projections:
            return int(self.config.projections[-1]["out_features"])
        return trunk_width(self.backbone.config) * len(self.config.pooling.split("+"))

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.head:
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def pooled(self, **inputs: Tensor) -> Tensor:
        """What the trunk and its pooling give, (batch, width), before the projections."""
        interpolate, segments = self.config.interpolate_positions, self._reads_segments
        return run_trunk(
            self.backbone, inputs, self.config.pooling, reads_segments=segments, interpolate_positions=interpolate
        )

    def features(self, pooled: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Pooled features, (batch, features), before the head; of inputs, or of what `pooled` gave for them before."""
        found = self.pooled(**inputs) if pooled is None else pooled  # (batch, width)
        found = project(self.projections, found)
        return nn.functional.normalize(found, dim=-1) if self.config.normalize else found  # (batch, features)

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> SequenceClassifierOutput:
        """Logits, (batch, labels); with `labels`, (batch,), also their mean cross-entropy."""
        features = self.features(**inputs) * self.config.feature_scale
        logits = self.head(features.to(self.head.weight.dtype))  # (batch, labels)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def run_trunk(
    trunk: PreTrainedModel,
    inputs: dict[str, Tensor],
    pooling: str,
    *,
    reads_segments: bool,
    interpolate_positions: bool,
) -> Tensor:
    """A trunk's output as one vector per input, (batch, width).

    Args:
        trunk: the model without its head.
        inputs: its arguments.
        pooling: one of `POOLINGS`.
        reads_segments: whether it is given token_type_ids.
        interpolate_positions: whether its position embeddings are resized to the images.
    """
    given = {name: value for name, value in inputs.items() if reads_segments or name != "token_type_ids"}
    if interpolate_positions:
        output = trunk(**given, interpolate_pos_encoding=True, return_dict=True)
    else:
        output = trunk(**given, return_dict=True)
    return pool(output, given.get("attention_mask"), pooling)  # (batch, width)


def project(projections: nn.ModuleList, pooled: Tensor) -> Tensor:
    """Pooled vectors through dense layers, (batch, out); the layers stay in float32 beside a bfloat16 trunk."""
    found = pooled.to(next(projections.parameters()).dtype) if len(projections) > 0 else pooled
    for projection in projections:
        found = projection(found)
    return found


def dense(spec: dict[str, Any]) -> nn.Sequential:
    """One dense layer from its in_features, out_features, bias and activation."""
    linear = nn.Linear(spec["in_features"], spec["out_features"], bias=spec["bias"])
    return nn.Sequential(linear, ACTIVATIONS[spec["activation"]]())


def drop_unused_pooler(trunk: PreTrainedModel, pooling: str) -> None:
    """Remove a pooler that the features do not pass through, so that no parameter is carried without use.

    A pooler without parameters stays: convolutional trunks call theirs whether or not anybody reads it.
    """
    pooler = getattr(trunk, "pooler", None)
    if pooling != "pooler" and isinstance(pooler, nn.Module) and next(pooler.parameters(), None) is not None:
        trunk.pooler = None


def reads_segments(trunk: PreTrainedModel) -> bool:
    """Whether the trunk tells the first text of a pair from the second by token_type_ids.

    Tokenizers may give them to trunks that take none (DistilBERT, ModernBERT) or know one kind only (RoBERTa).
    """
    kinds = getattr(trunk.config, "type_vocab_size", None)
    return "token_type_ids" in inspect.signature(trunk.forward).parameters and (kinds is None or kinds > 1)


def trunk_width(config: PretrainedConfig) -> int:
    """Length of the trunk's pooled output.

    Raises:
        ModelError: when the configuration does not tell.
    """
    for name in ("hidden_size", "d_model", "dim", "n_embd", "feature_size"):
        width = getattr(config, name, None)
        if isinstance(width, int):
            return width
    sizes = getattr(config, "hidden_sizes", None)
    if isinstance(sizes, (list, tuple)) and sizes:
        return int(sizes[-1])
    raise ModelError(f"Cannot tell the feature size of {type(config).__name__}: it has no hidden_size.")


def pool(output: Any, mask: Tensor | None, pooling: str) -> Tensor:
    """One vector per input.

    Args:
        output: the trunk's output, with `last_hidden_state` (batch, tokens, width) or (batch, width, height, width of
            the map), or `pooler_output`.
        mask: 1 for real tokens, (batch, tokens); all tokens count when absent (images).
        pooling: one of `POOLINGS`, with sentence-transformers' meaning.

    Returns:
        (batch, width), in float32 for the averages; of two poolings joined by "+", one beside the other.
    """
    if pooling == "pooler":
        pooled: Tensor = output.pooler_output
        return pooled.flatten(1)  # (batch, width)
    if "+" in pooling:
        return torch.cat([pool(output, mask, part).float() for part in pooling.split("+")], dim=1)
    hidden: Tensor = output.last_hidden_state
    if hidden.dim() == 4:  # a map of convolutional features
        hidden = hidden.flatten(2).transpose(1, 2)  # (batch, tokens, width)
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    if pooling == "cls":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.argmax(1)]
    if pooling == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)  # (batch,)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    if pooling == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)
    weights = mask.to(torch.float32)  # (batch, tokens)
    if pooling == "weightedmean":
        weights = weights * mask.cumsum(1)  # places are counted from the first real token
    total = (hidden.float() * weights.unsqueeze(-1)).sum(1)  # (batch, width)
    count = weights.sum(1, keepdim=True).clamp(min=1e-9)
    return total / (count.sqrt() if pooling == "mean_sqrt_len_tokens" else count)


def register() -> None:
    """Let `AutoConfig` and `AutoModel` load result folders once warmstart is imported."""
    AutoConfig.register(ClassifierConfig.model_type, ClassifierConfig, exist_ok=True)
    AutoModel.register(ClassifierConfig, Classifier, exist_ok=True)


register()
