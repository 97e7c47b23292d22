"""A small causal language model and its tokenizer, saved to ./my-model the way any Hugging Face model is."""

import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

characters = ["<end>", *string.printable[:95], "\n"]
tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token=" "))
tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
tokenizer.decoder = decoders.Fuse()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained("my-model")

config = LlamaConfig(
    vocab_size=len(characters), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, bos_token_id=None, eos_token_id=0,
)  # fmt: skip
LlamaForCausalLM(config).save_pretrained("my-model")
