"""Families that no adapter names: the generic one must learn their layout by watching."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .named import QWEN, QWEN_CHAT, cropped, ids, llama, pixels
from .parts import Family, Parts, Shape, chat, text, vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer

GLM = {'image_token': '<|image|>', 'video_token': '<|video|>', '_image_start': '<|begin_of_image|>',
       '_image_end': '<|end_of_image|>', '_video_start': '<|begin_of_video|>', '_video_end': '<|end_of_video|>',
       '_user': '<|user|>', '_answer': '<|assistant|>'}
IMAGE = {'image_token': '<image>'}
AYA = {'_image': '<image>', '_start': '<|START_OF_IMG|>', '_stop': '<|END_OF_IMG|>', '_patch': '<|IMG_PATCH|>',
       '_line': '<|IMG_LINE_BREAK|>', '_tile': 'TILE', '_whole': 'TILE_GLOBAL'}
OVIS = {'_image': '<image>', '_atom': '<IMG_ATOM>', '_start': '<IMG_START>', '_grid': '<IMG_GRID>',
        '_col': '<IMG_COL>', '_row': '<IMG_ROW>', '_stop': '<IMG_END>'}
IDEFICS = {'_image': '<image>', '_fake': '<fake_token_around_image>', '_whole': '<global-img>',
           '_end': '<end_of_utterance>'}
PIXTRAL = {'_image': '[IMG]', '_break': '[IMG_BREAK]', '_stop': '[IMG_END]'}
PLAIN_CHAT = chat('<image>', '<video>', '<s>User: ', '\n', 'Assistant:')


def glm4v(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Glm4vConfig(
        text_config=text(shape, mrope=True),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=14, image_size=56),
        tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_id='<|image|>', video_token_id='<|video|>',
              image_start_token_id='<|begin_of_image|>', image_end_token_id='<|end_of_image|>',
              video_start_token_id='<|begin_of_video|>', video_end_token_id='<|end_of_video|>'))
    size = dict(size=dict(shortest_edge=28 * 28, longest_edge=28 * 28 * 64))
    return Parts(config, t.Glm4vProcessor(t.Glm4vImageProcessor(**size), tokenizer, t.Glm4vVideoProcessor(**size)))


def video_llama_3(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.VideoLlama3Config(
        text_config=text(shape, 'qwen2', model_type='qwen2'),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, num_attention_heads=2, patch_size=14),
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<|image_pad|>',
                                             video_token_id='<|video_pad|>'))
    size = dict(size=dict(shortest_edge=28 * 28, longest_edge=28 * 28 * 64))
    return Parts(config, t.VideoLlama3Processor(t.VideoLlama3ImageProcessor(**size), tokenizer,
                                                t.VideoLlama3VideoProcessor(**size)))


def idefics3(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Idefics3Config(vision_config=vision(shape), text_config=llama(shape), scale_factor=2, pad_token_id=3,
                              tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<image>'))
    edge = dict(size={'longest_edge': shape.image}, max_image_size={'longest_edge': shape.image})
    return Parts(config, t.Idefics3Processor(t.Idefics3ImageProcessor(**edge, do_image_splitting=False), tokenizer,
                                             image_seq_len=(shape.image // shape.patch // 2) ** 2))


def aya_vision(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.AyaVisionConfig(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, 'mistral', model_type='cohere2',
                         layer_types=['sliding_attention'] * (shape.layers - 1) + ['full_attention']),
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_index='<|IMG_PATCH|>'))
    image = t.GotOcr2ImageProcessor(**pixels(shape), crop_to_patches=False)
    return Parts(config, t.AyaVisionProcessor(image, tokenizer, patch_size=2 * shape.patch, img_size=shape.image))


def mistral3(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Mistral3Config(
        vision_config=vision(shape, model_type='pixtral', head_dim=shape.vision_hidden // 2),
        text_config=text(shape, 'mistral', model_type='mistral', **(
            {} if shape.sliding_window else dict(sliding_window=None))),
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_index='[IMG]'))
    image = t.PixtralImageProcessor(size={'longest_edge': shape.image}, patch_size=shape.patch)
    return Parts(config, t.PixtralProcessor(image, tokenizer, patch_size=shape.patch, spatial_merge_size=2))


def ovis2(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    marks = [tokenizer.convert_tokens_to_ids(token) for token in list(OVIS.values())[2:]]
    config = t.Ovis2Config(
        vision_config=dict(**vision(shape), vocab_size=32, hidden_stride=2),
        text_config=text(shape, 'qwen2', model_type='qwen2'), visual_indicator_token_ids=marks,
        vocab_size=shape.vocab_size, hidden_size=shape.hidden, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_id='<IMG_ATOM>'))
    return Parts(config, t.Ovis2Processor(t.Ovis2ImageProcessor(**pixels(shape)), tokenizer,
                                          image_seq_length=(shape.image // shape.patch // 2) ** 2))


def llava_next(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    grid = [[shape.image, shape.image]]
    config = t.LlavaNextConfig(
        vision_config=vision(shape, model_type='clip_vision_model'), text_config=llama(shape),
        image_grid_pinpoints=grid, tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_index='<image>'))
    return Parts(config, t.LlavaNextProcessor(
        t.LlavaNextImageProcessor(**cropped(shape), image_grid_pinpoints=grid), tokenizer, patch_size=shape.patch,
        vision_feature_select_strategy='default', num_additional_image_tokens=1))


UNNAMED = (
    Family('glm4v', glm4v, GLM, chat('<|begin_of_image|><|image|><|end_of_image|>',
                                     '<|begin_of_video|><|video|><|end_of_video|>', '<s><|user|>\n', '',
                                     '<|assistant|>'), 2, True, '', defaults=dict(vision_hidden=32)),
    Family('video_llama_3', video_llama_3, QWEN, QWEN_CHAT, 0, True, '', defaults=dict(vision_hidden=32)),
    Family('idefics3', idefics3, IDEFICS, PLAIN_CHAT, 1, False, '', defaults=dict(image=56)),
    Family('aya_vision', aya_vision, AYA, PLAIN_CHAT, 1, False, '',
           defaults=dict(image=56, layers=3, sliding_window=24, tie=True)),
    Family('mistral3', mistral3, PIXTRAL, chat('[IMG]', '', '<s>[INST]', '', '[/INST]'), 1, False, '',
           defaults=dict(image=56)),
    Family('ovis2', ovis2, OVIS, PLAIN_CHAT, 1, False, '', defaults=dict(image=56)),
    Family('llava_next', llava_next, IMAGE, PLAIN_CHAT, 1, False, '', defaults=dict(image=28)),
)
