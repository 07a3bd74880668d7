"""An image tower and a text tower of any kind in one space: the model that `contrast clip` saves for a new pair.

transformers' own pairs (CLIP, VisionTextDualEncoder) read a class or pooler token of towers that it knows; this one
takes any trunk with any pooling. It loads and saves like any transformers model once warmstart is imported, without
remote code. Taking one tower out of it is `two_tower.py`'s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPOutput

from warmstart.backbones.classifier import (
    Classifier,
    dense,
    drop_unused_pooler,
    project,
    reads_segments,
    run_trunk,
)


class TowerPairConfig(PretrainedConfig):
    """Configuration of `TowerPairModel`.

    Args:
        vision_config: configuration of the image trunk.
        text_config: configuration of the text trunk.
        vision_pooling: how the image trunk's output becomes one vector; see `classifier.POOLINGS`.
        text_pooling: the same of the text trunk.
        vision_projections: dense layers after the pooling: in_features, out_features, bias, activation.
        text_projections: the same for texts.
        interpolate_positions: whether the image trunk's position embeddings are resized to the image size in use.
        prompt: text put before every text.
        logit_scale_init_value: log of 1 / temperature.
    """

    model_type = "warmstart_tower_pair"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 - transformers' own attribute

    def __init__(
        self,
        vision_config: dict[str, Any] | PretrainedConfig | None = None,
        text_config: dict[str, Any] | PretrainedConfig | None = None,
        vision_pooling: str = "pooler",
        text_pooling: str = "mean",
        vision_projections: list[dict[str, Any]] | None = None,
        text_projections: list[dict[str, Any]] | None = None,
        interpolate_positions: bool = False,
        prompt: str = "",
        logit_scale_init_value: float = 2.6592,
        **kwargs: Any,
    ) -> None:
        self.vision_config, self.text_config = _as_config(vision_config), _as_config(text_config)
        self.vision_pooling, self.text_pooling = vision_pooling, text_pooling
        self.vision_projections = [] if vision_projections is None else vision_projections
        self.text_projections = [] if text_projections is None else text_projections
        self.interpolate_positions = interpolate_positions
        self.prompt = prompt
        self.logit_scale_init_value = logit_scale_init_value
        super().__init__(**kwargs)


def _as_config(values: dict[str, Any] | PretrainedConfig | None) -> PretrainedConfig:
    if isinstance(values, PretrainedConfig):
        return values
    given = {} if values is None else dict(values)
    if "model_type" not in given:
        return PretrainedConfig(**given)  # of a configuration made without arguments, as transformers' own code does
    return AutoConfig.for_model(given.pop("model_type"), **given)


class TowerPairModel(PreTrainedModel):
    """Two trunks with their poolings and projections, and the scale that their cosines are multiplied by.

    Args:
        config: the configuration.
        vision: an already loaded image trunk; built at random from the configuration when absent.
        text: the same for texts.
    """

    config_class = TowerPairConfig
    base_model_prefix = "tower_pair"
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self, config: TowerPairConfig, vision: PreTrainedModel | None = None, text: PreTrainedModel | None = None
    ) -> None:
        super().__init__(config)
        self.vision_model = AutoModel.from_config(config.vision_config) if vision is None else vision
        self.text_model = AutoModel.from_config(config.text_config) if text is None else text
        drop_unused_pooler(self.vision_model, config.vision_pooling)
        drop_unused_pooler(self.text_model, config.text_pooling)
        self.vision_projections = nn.ModuleList(dense(spec) for spec in config.vision_projections)
        self.text_projections = nn.ModuleList(dense(spec) for spec in config.text_projections)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self._text_segments = reads_segments(self.text_model)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the trunks and torch's own layers start as they are made."""

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Vectors of images, (batch, width), not of unit length, as CLIP's are."""
        pooled = run_trunk(
            self.vision_model,
            {"pixel_values": pixel_values},
            self.config.vision_pooling,
            reads_segments=False,
            interpolate_positions=self.config.interpolate_positions,
        )
        return project(self.vision_projections, pooled)

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Vectors of texts, (batch, width), not of unit length; all tokens count without a mask."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        pooled = run_trunk(
            self.text_model,
            inputs,
            self.config.text_pooling,
            reads_segments=self._text_segments,
            interpolate_positions=False,
        )
        return project(self.text_projections, pooled)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> CLIPOutput:
        """Scaled cosines of every image and every text, and the unit vectors that they come of."""
        images = nn.functional.normalize(self.get_image_features(pixel_values).float(), dim=-1)
        texts = nn.functional.normalize(
            self.get_text_features(input_ids, attention_mask, token_type_ids).float(), dim=-1
        )
        logits = self.logit_scale.exp() * images @ texts.T  # (images, texts)
        return CLIPOutput(logits_per_image=logits, logits_per_text=logits.T, image_embeds=images, text_embeds=texts)


def pair_towers(vision: Classifier, text: Classifier, logit_scale: float, prompt: str) -> TowerPairModel:
    """A pair from two encoders, whose trunks it shares.

    Args:
        vision: of images; its features and those of the texts are of one width.
        text: of texts.
        logit_scale: log of 1 / temperature.
        prompt: text put before every text.
    """
    config = TowerPairConfig(
        vision_config=vision.backbone.config.to_dict(),  # copies: a model sets the attention in its configuration
        text_config=text.backbone.config.to_dict(),
        vision_pooling=vision.config.pooling,
        text_pooling=text.config.pooling,
        vision_projections=vision.config.projections,
        text_projections=text.config.projections,
        interpolate_positions=vision.config.interpolate_positions,
        prompt=prompt,
        logit_scale_init_value=logit_scale,
    )
    model = TowerPairModel(config, vision.backbone, text.backbone)
    model.vision_projections.load_state_dict(vision.projections.state_dict())
    model.text_projections.load_state_dict(text.projections.state_dict())
    model.eval()
    return model


def register() -> None:
    """Let `AutoConfig` and `AutoModel` load such folders once warmstart is imported."""
    AutoConfig.register(TowerPairConfig.model_type, TowerPairConfig, exist_ok=True)
    AutoModel.register(TowerPairConfig, TowerPairModel, exist_ok=True)


register()
