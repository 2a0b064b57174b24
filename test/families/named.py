"""Families with an adapter of their own."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .parts import Family, Parts, Shape, chat, text, vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer

LLAVA = {'image_token': '<image>', 'video_token': '<video>'}
QWEN = {'image_token': '<|image_pad|>', 'video_token': '<|video_pad|>', 'vision_bos_token': '<|vision_start|>',
        'vision_eos_token': '<|vision_end|>', '_turn': '<|im_start|>', '_end': '<|im_end|>'}
QWEN_CHAT = chat('<|vision_start|><|image_pad|><|vision_end|>', '<|vision_start|><|video_pad|><|vision_end|>',
                 '<|im_start|>user\n', '<|im_end|>\n', '<|im_start|>assistant\n')
LLAVA_CHAT = chat('<image>\n', '<video>\n', '<s>USER: ', ' ', 'ASSISTANT:')


def llama(shape: Shape) -> dict:
    """A Llama decoder's config, or Mistral's where windows are asked for."""
    return text(shape, 'mistral', model_type='llama' if shape.sliding_window is None else 'mistral')


def pixels(shape: Shape) -> dict:
    """Settings of a processor that resizes to a square."""
    return dict(size={'height': shape.image, 'width': shape.image}, do_resize=True)


def cropped(shape: Shape) -> dict:
    """Settings of a processor that resizes the short side and crops."""
    return dict(size={'shortest_edge': shape.image}, crop_size={'height': shape.image, 'width': shape.image},
                do_center_crop=True)


def ids(tokenizer: Tokenizer, **tokens: str) -> dict[str, int]:
    """Ids of tokens by the name under which a config holds them."""
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in tokens.items()}


def video_llava(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    patches = (shape.image // shape.patch) ** 2
    config = t.VideoLlavaConfig(
        vision_config=vision(shape, model_type='clip_vision_model'), text_config=llama(shape),
        image_seq_length=patches, video_seq_length=patches + 1, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    from transformers.models.video_llava.video_processing_video_llava import VideoLlavaVideoProcessor
    return Parts(config, t.VideoLlavaProcessor(t.VideoLlavaImageProcessor(**cropped(shape)),
                                               VideoLlavaVideoProcessor(**cropped(shape)), tokenizer,
                                               patch_size=shape.patch, vision_feature_select_strategy='default'))


def llava_onevision(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    patches = (shape.image // shape.patch) ** 2
    config = t.LlavaOnevisionConfig(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, 'qwen2', model_type='qwen2'), vision_feature_select_strategy='full',
        vision_feature_layer=-1, image_grid_pinpoints=[[shape.image, shape.image]], tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    image = t.LlavaOnevisionImageProcessor(**pixels(shape), image_grid_pinpoints=[[shape.image, shape.image]])
    return Parts(config, t.LlavaOnevisionProcessor(image, tokenizer, t.LlavaOnevisionVideoProcessor(**pixels(shape)),
                                                   num_image_tokens=patches, vision_feature_select_strategy='full'))


def llava_next_video(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.LlavaNextVideoConfig(
        vision_config=vision(shape, model_type='clip_vision_model'), text_config=llama(shape),
        image_grid_pinpoints=[[shape.image, shape.image]], tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    image = t.LlavaNextImageProcessor(**cropped(shape), image_grid_pinpoints=[[shape.image, shape.image]])
    return Parts(config, t.LlavaNextVideoProcessor(
        t.LlavaNextVideoVideoProcessor(**cropped(shape)), image, tokenizer, patch_size=shape.patch,
        vision_feature_select_strategy='default', num_additional_image_tokens=1))


def _qwen_processor(cls, video_cls, shape: Shape, tokenizer: Tokenizer, patch: int, **more):
    import transformers as t
    size = dict(shortest_edge=(2 * patch) ** 2, longest_edge=16 * (2 * patch) ** 2)
    settings = dict(patch_size=patch, merge_size=2, size=size, **more)
    return cls(t.Qwen2VLImageProcessor(temporal_patch_size=2, **settings), tokenizer,
               video_cls(cap_pixels_per_frame=False, temporal_patch_size=2, **settings))


def _qwen_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return ids(tokenizer, image_token_id='<|image_pad|>', video_token_id='<|video_pad|>',
               vision_start_token_id='<|vision_start|>', vision_end_token_id='<|vision_end|>')


def qwen2_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen2VLConfig(
        text_config=text(shape, 'qwen2', mrope=True),
        vision_config=dict(depth=shape.vision_layers, embed_dim=shape.vision_hidden, hidden_size=shape.hidden,
                           num_heads=2, mlp_ratio=2, patch_size=shape.patch),
        tie_word_embeddings=shape.tie, **_qwen_ids(tokenizer))
    return Parts(config, _qwen_processor(t.Qwen2VLProcessor, t.Qwen2VLVideoProcessor, shape, tokenizer, shape.patch))


def qwen2_5_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen2_5_VLConfig(
        text_config=text(shape, 'qwen2', mrope=True),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=shape.patch,
                           window_size=4 * shape.patch, fullatt_block_indexes=[shape.vision_layers - 1]),
        tie_word_embeddings=shape.tie, **_qwen_ids(tokenizer))
    return Parts(config, _qwen_processor(t.Qwen2_5_VLProcessor, t.Qwen2VLVideoProcessor, shape, tokenizer,
                                         shape.patch))


def qwen3_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen3VLConfig(
        text_config=text(shape, mrope=True),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=shape.patch,
                           num_position_embeddings=16, deepstack_visual_indexes=list(range(shape.vision_layers))),
        tie_word_embeddings=shape.tie, **_qwen_ids(tokenizer))
    return Parts(config, _qwen_processor(t.Qwen3VLProcessor, t.Qwen3VLVideoProcessor, shape, tokenizer, shape.patch))


def cosmos3_edge(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Cosmos3EdgeConfig(
        text_config=text(shape, mrope=True),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, num_attention_heads=2, patch_size=shape.patch,
                           num_patches=16),
        projector_hidden_size=32, tie_word_embeddings=shape.tie, **_qwen_ids(tokenizer))
    size = dict(shortest_edge=(2 * shape.patch) ** 2, longest_edge=16 * (2 * shape.patch) ** 2)
    settings = dict(patch_size=shape.patch, merge_size=2, size=size)
    return Parts(config, t.Cosmos3EdgeProcessor(t.Cosmos3EdgeImageProcessor(**settings), tokenizer,
                                                t.Cosmos3EdgeVideoProcessor(**settings)))


NAMED = (
    Family('video_llava', video_llava, LLAVA, LLAVA_CHAT, 1, True, '', named=True),
    Family('llava_onevision', llava_onevision, LLAVA, LLAVA_CHAT, 1, True, '', named=True),
    Family('llava_next_video', llava_next_video, LLAVA, LLAVA_CHAT, 1, True, '', named=True,
           defaults=dict(image=56)),
    Family('qwen2_vl', qwen2_vl, QWEN, QWEN_CHAT, 2, True, '', named=True, defaults=dict(vision_hidden=32)),
    Family('qwen2_5_vl', qwen2_5_vl, QWEN, QWEN_CHAT, 2, True, '', named=True, defaults=dict(vision_hidden=32)),
    Family('qwen3_vl', qwen3_vl, QWEN, QWEN_CHAT, 2, True, '', named=True, defaults=dict(vision_hidden=32)),
    Family('cosmos3_edge', cosmos3_edge, QWEN, QWEN_CHAT, 1, True, '', named=True, defaults=dict(vision_hidden=32)),
)
