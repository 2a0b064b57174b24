"""Families that no adapter names: the generic one must learn their layout by watching."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .named import QWEN, QWEN_CHAT, alternate, cropped, ids, llama, pixels, qwen_processor
from .parts import Family, Parts, Shape, chat, text, vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer

GLM = {'image_token': '<|image|>', 'video_token': '<|video|>', '_image_start': '<|begin_of_image|>',
       '_image_end': '<|end_of_image|>', '_video_start': '<|begin_of_video|>', '_video_end': '<|end_of_video|>',
       '_user': '<|user|>', '_answer': '<|assistant|>'}
IMAGE = {'image_token': '<image>'}
AYA = {'_image': '<image>', '_start': '<|START_OF_IMG|>', '_stop': '<|END_OF_IMG|>', '_patch': '<|IMG_PATCH|>',
       '_line': '<|IMG_LINE_BREAK|>', '_tile': 'TILE', '_whole': 'TILE_GLOBAL'}
COHERE = {'image_token': '<|IMG_PATCH|>', 'boi_token': '<|START_OF_IMG|>', 'eoi_token': '<|END_OF_IMG|>',
          'img_line_break_token': '<|IMG_LINE_BREAK|>'}
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
    size = dict(size=dict(shortest_edge=28 * 28 * 24, longest_edge=28 * 28 * 256))
    return Parts(config, t.Glm4vProcessor(t.Glm4vImageProcessor(**size), tokenizer, t.Glm4vVideoProcessor(**size)))


def video_llama_3(shape: Shape, tokenizer: Tokenizer, compress: bool = True) -> Parts:
    import transformers as t
    config = t.VideoLlama3Config(
        text_config=text(shape, 'qwen2', model_type='qwen2'),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, num_attention_heads=2, patch_size=14),
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<|image_pad|>',
                                             video_token_id='<|video_pad|>'))
    size = dict(size=dict(shortest_edge=28 * 28 * 4, longest_edge=28 * 28 * 64))
    video = t.VideoLlama3VideoProcessor(**size, use_token_compression=compress)
    return Parts(config, t.VideoLlama3Processor(t.VideoLlama3ImageProcessor(**size), tokenizer, video))


def video_llama_3_whole(shape: Shape, tokenizer: Tokenizer) -> Parts:
    """With every token of every frame kept, however alike frames are."""
    return video_llama_3(shape, tokenizer, compress=False)


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


def exaone4_5(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Exaone4_5_Config(
        text_config=text(shape, 'mistral', model_type='exaone4', sliding_window_pattern=2),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, num_key_value_heads=1, intermediate_size=2 * shape.vision_hidden,
                           patch_size=shape.patch, window_size=4 * shape.patch,
                           fullatt_block_indexes=[shape.vision_layers - 1]),
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<|image_pad|>',
                                             video_token_id='<|video_pad|>'))
    return Parts(config, qwen_processor(t.Exaone4_5_Processor, t.Qwen2VLVideoProcessor, shape, tokenizer))


def cohere2_vision(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Cohere2VisionConfig(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, 'mistral', model_type='cohere2', layer_types=alternate(shape)),
        alignment_intermediate_size=2 * shape.hidden, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_id='<|IMG_PATCH|>'))
    image = t.Cohere2VisionImageProcessor(**pixels(shape), crop_to_patches=False,
                                          patch_size=shape.image // shape.patch // 2)
    return Parts(config, t.Cohere2VisionProcessor(image, tokenizer))


UNNAMED = (
    Family('glm4v', glm4v, GLM,
           chat('<|begin_of_image|><|image|><|end_of_image|>', '<|begin_of_video|><|video|><|end_of_video|>',
                '<s><|user|>\n', '', '<|assistant|>'), 2, True,
           'As Qwen3-VL without deepstack: a pair of frames, then its time in whole seconds as text; positions '
           '(4, 1, L), text first; the size after resizing depends on the number of frames.',
           defaults=dict(vision_hidden=32)),
    Family('video_llama_3', video_llama_3_whole, QWEN, QWEN_CHAT, 1, True,
           '"Time 0.1s:" before each frame as text, a comma after it; 1-D positions; `use_token_compression` '
           'is off here.', defaults=dict(vision_hidden=32)),
    Family('idefics3', idefics3, IDEFICS, PLAIN_CHAT, 1, False,
           'Frames are images between <fake_token_around_image> marks; 1-D positions; frames that are all zero '
           "once processed are dropped, as SmolVLM's.",
           defaults=dict(image=56)),
    Family('aya_vision', aya_vision, AYA, PLAIN_CHAT, 1, False,
           'Each image is cut into tiles (how many depends on its shape), with text "TILE_1" between the tiles '
           'of one frame; sliding layers and one full layer without rope (Cohere 2); 1-D positions.',
           defaults=dict(image=56, layers=3, sliding_window=24, tie=True)),
    Family('cohere2_vision', cohere2_vision, COHERE, chat('<|IMG_PATCH|>', '', '<s>User: ', '\n', 'Assistant:'), 1,
           False,
           "A line break token after a frame's rows; sliding layers with rope, full ones without; 1-D "
           'positions.',
           defaults=dict(image=56, layers=3, sliding_window=24, tie=True)),
    Family('mistral3', mistral3, PIXTRAL, chat('[IMG]', '', '<s>[INST]', '', '[/INST]'), 1, False,
           "A frame's rows are broken by [IMG_BREAK] text after each line of patches; the number of rows "
           'depends on the shape of the frame; 1-D positions.', defaults=dict(image=56)),
    Family('ovis2', ovis2, OVIS, PLAIN_CHAT, 1, False,
           'Rows of marks around a frame (<IMG_START>, <IMG_GRID>, <IMG_END>) come from a table of the vision '
           "tower, not from the words' table; 1-D positions.", defaults=dict(image=56)),
    Family('llava_next', llava_next, IMAGE, PLAIN_CHAT, 1, False,
           "A learned newline row after each line of patches, inside a frame's run and after it, has the image "
           "placeholder's id but depends on no frame; the number of rows depends on the shape; 1-D positions."),
    Family('exaone4_5', exaone4_5, QWEN, QWEN_CHAT, 2, True,
           'Pairs of frames side by side with nothing between, but 1-D positions; sliding layers with rope and '
           'full ones without (Exaone 4).', defaults=dict(vision_hidden=32, layers=4, sliding_window=24)),
)
