"""Families that an engine which cuts caches back and shares frames between windows must refuse, wholly or in part."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .named import QWEN, QWEN_CHAT, ids, pixels, qwen_ids, qwen_processor
from .parts import Family, Parts, Shape, chat, text, vision
from .unnamed import video_llama_3

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer

KIMI = {'image_token': '<|media_pad|>', 'video_token': '<|kimi_k25_video_placeholder|>', '_start': '<|media_begin|>',
        '_content': '<|media_content|>', '_stop': '<|media_end|>'}
KIMI_CHAT = chat('<|media_begin|>image<|media_content|><|media_pad|><|media_end|>', '<|kimi_k25_video_placeholder|>',
                 '<s>user\n', '\n', 'assistant\n')
MOLMO = {'image_token': '<|image|>', 'video_token': '<|video|>', '_patch': '<im_patch>', '_col': '<im_col>',
         '_start': '<im_start>', '_low_start': '<low_res_im_start>', '_frame': '<frame_start>', '_stop': '<im_end>',
         '_frame_stop': '<frame_end>', '_low': '<im_low>'}
LFM = {'image_token': '<image>', 'image_start_token': '<|image_start|>', 'image_end_token': '<|image_end|>',
       'image_thumbnail_token': '<|img_thumbnail|>'}


def qwen3_5(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    half = shape.head_dim // 4
    rope = {'rope_type': 'default', 'rope_theta': 10000.0, 'partial_rotary_factor': 0.5,
            'mrope_section': [half - 2 * (half // 3), half // 3, half // 3], **(shape.rope_scaling or {})}
    config = t.Qwen3_5Config(
        text_config=text(shape, rope_parameters=rope, linear_key_head_dim=8, linear_value_head_dim=8,
                         linear_num_key_heads=2, linear_num_value_heads=4,
                         layer_types=['full_attention' if i % 2 else 'linear_attention'
                                      for i in range(shape.layers)]),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=shape.patch,
                           num_position_embeddings=16),
        tie_word_embeddings=shape.tie, **qwen_ids(tokenizer))
    return Parts(config, qwen_processor(t.Qwen3VLProcessor, t.Qwen3VLVideoProcessor, shape, tokenizer, 24))


def kimi_k25(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Kimi_K25Config(
        text_config=text(shape, model_type='deepseek_v3', num_key_value_heads=shape.heads, moe_intermediate_size=16,
                         n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2, first_k_dense_replace=1,
                         kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
                         num_mtp_layers=0),
        vision_config=dict(patch_size=shape.patch, pos_emb_height=8, pos_emb_width=8, num_attention_heads=2,
                           num_hidden_layers=shape.vision_layers, hidden_size=shape.vision_hidden,
                           intermediate_size=2 * shape.vision_hidden),
        projection_hidden_size=shape.vision_hidden, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_id='<|media_pad|>', video_token_id='<|kimi_k25_video_placeholder|>',
              vision_start_token_id='<|media_begin|>', vision_end_token_id='<|media_end|>'))
    return Parts(config, t.Kimi_K25Processor(t.Kimi_K25ImageProcessor(patch_size=shape.patch), tokenizer,
                                             t.Kimi_K25VideoProcessor(patch_size=shape.patch)))


def molmo2(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    heads = dict(num_attention_heads=2, num_key_value_heads=2, head_dim=shape.vision_hidden // 2)
    config = t.Molmo2Config(
        text_config=text(shape, additional_vocab_size=8),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, image_size=[shape.image, shape.image],
                           patch_size=shape.patch, **heads),
        adapter_config=dict(vision_feature_layer=[-1, -2], hidden_size=shape.vision_hidden,
                            intermediate_size=2 * shape.hidden, text_hidden_size=shape.hidden, **heads),
        tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_start_token_id='<im_start>', low_res_image_start_token_id='<low_res_im_start>',
              image_end_token_id='<im_end>', image_patch_id='<im_patch>', frame_start_token_id='<frame_start>',
              frame_end_token_id='<frame_end>'))
    size = dict(size={'height': shape.image, 'width': shape.image}, patch_size=shape.patch, pooling_size=[2, 2])
    return Parts(config, t.Molmo2Processor(t.Molmo2ImageProcessor(**size), t.Molmo2VideoProcessor(**size), tokenizer))


def lfm2_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    tower = vision(shape, model_type='siglip2_vision_model', vision_use_head=False, num_patches=16)
    del tower['image_size']
    config = t.Lfm2VlConfig(
        vision_config=tower,
        text_config=text(shape, model_type='lfm2', layer_types=['full_attention' if i % 2 else 'conv'
                                                                for i in range(shape.layers)]),
        projector_hidden_size=shape.hidden, tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<image>'))
    image = t.Lfm2VlImageProcessor(encoder_patch_size=shape.patch, do_image_splitting=False, min_image_tokens=2,
                                   max_image_tokens=8, tile_size=4 * shape.patch)
    return Parts(config, t.Lfm2VlProcessor(image, tokenizer))


def paligemma(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.PaliGemmaConfig(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, model_type='gemma'), projection_dim=shape.hidden, hidden_size=shape.hidden,
        vocab_size=shape.vocab_size, tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_index='<image>'))
    image = t.SiglipImageProcessor(**pixels(shape))
    image.image_seq_length = (shape.image // shape.patch) ** 2
    return Parts(config, t.PaliGemmaProcessor(image, tokenizer))


REFUSED = (
    Family('qwen3_5', qwen3_5, QWEN, QWEN_CHAT, 2, True,
           'As Qwen3-VL without deepstack (the size after resizing depends on the number of frames too), but every '
           'other layer is recurrent: `DynamicCache.is_croppable` is False.',
           refused=True, defaults=dict(vision_hidden=32, hidden=64, layers=4)),
    Family('kimi_k25', kimi_k25, KIMI, KIMI_CHAT, 4, True,
           'Four frames attend to each other in the tower and are pooled into one run of rows, after their '
           'time; fewer frames at the end make a shorter chunk; latent attention (DeepSeek V3), whose cache '
           'can be cut back.',
           refused=True, defaults=dict(vision_hidden=32)),
    Family('molmo2', molmo2, MOLMO, chat('<|image|>', '<|video|>', '<s>User: ', ' ', 'Assistant:'), 1, True,
           "Rows depend on their frame alone, but the mask lets all frames' rows, marks included, attend to "
           'each other both ways: prefill as frames come cannot be exact.', refused=True,
           defaults=dict(image=56, layers=3, spread=3.0)),
    Family('lfm2_vl', lfm2_vl, LFM, chat('<image>', '', '<s>user\n', '\n', 'assistant\n'), 1, False,
           'Every other layer is a short convolution with a state: `DynamicCache.is_croppable` is False.', refused=True,
           defaults=dict(tie=True, layers=4, spread=1.0)),
    Family('paligemma', paligemma, {'image_token': '<image>'}, chat('<image>', '', '', '', ''), 1, False,
           'The whole prompt, question included, attends both ways: no row can be prefilled before the last.',
           refused=True, defaults=dict(tie=True, vocab_size=1600)),
    Family('video_llama_3_compressed', video_llama_3, QWEN, QWEN_CHAT, 1, True,
           'Tokens that differ little from the frame before are dropped: the number of rows depends on what is '
           'in the frames, a still scene gives fewer.', refused=True, defaults=dict(vision_hidden=32)),
)
