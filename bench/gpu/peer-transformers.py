"""Speed of Hugging Face transformers with random weights: bf16, a static cache, greedy. Prints lines of JSON.

Arguments: folder with config.json, tokens decoded, tokens of the prompt, tokens in the cache before decoding, seconds that
torch.compile may take. Tokens are chosen on the GPU and feed the next step there; nothing waits for them but the end.
"""

import json
import signal
import sys
import time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, StaticCache

REPETITIONS = 3


def make_model(folder):
    config = AutoConfig.from_pretrained(folder)
    with torch.device("cuda"):
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        except TypeError:  # its name in older versions
            model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16)
    return model.eval()


def seconds(run):
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


class Decoder:
    """Steps of one sequence over a cache of fixed size."""

    def __init__(self, model, length):
        self.model = model
        self.cache = StaticCache(config=model.config, max_cache_len=length)
        self.positions = torch.arange(length, device="cuda")
        self.ids = torch.arange(length, device="cuda") * 7919 % model.config.vocab_size
        self.step = self.forward

    def forward(self, ids, positions):
        out = self.model(
            input_ids=ids,
            position_ids=positions[None],
            cache_position=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1:].argmax(-1)

    def prefill(self, count):
        self.cache.reset()
        return self.forward(self.ids[None, :count], self.positions[:count])

    def decode(self, token, start, count):
        for at in range(start, start + count):
            torch.compiler.cudagraph_mark_step_begin()
            token = self.step(token, self.positions[at : at + 1]).clone()
        return token


def measure(how, decoder, tokens, prefill, context):
    """The best of some runs; the first compiles and is not counted."""
    best = [float("inf"), float("inf")]
    for repetition in range(REPETITIONS + 1):
        prompt = seconds(lambda: decoder.prefill(prefill))
        token = decoder.prefill(context)
        first = seconds(lambda: decoder.decode(token, context, 1 if repetition > 0 else 4))
        token = decoder.prefill(context)
        taken = seconds(lambda: decoder.decode(token, context, tokens)) / tokens
        if repetition > 0:
            best = [min(best[0], taken), min(best[1], prompt)]
        else:
            print(f"transformers {how}: first steps {first:.2f} s", file=sys.stderr)
    print(json.dumps({"how": how, "decode": 1 / best[0], "prefill": prefill / best[1]}), flush=True)


def too_long(*_):
    raise TimeoutError("torch.compile takes too long")


@torch.no_grad()
def main(folder, tokens, prefill, context, patience):
    torch.set_float32_matmul_precision("high")
    started = time.perf_counter()
    model = make_model(folder)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(f"{versions}, model made in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    decoder = Decoder(model, max(prefill, context + tokens) + 1)
    measure("eager", decoder, tokens, prefill, context)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(patience)
    try:
        decoder.step = torch.compile(decoder.forward, mode="reduce-overhead")
        measure("compiled", decoder, tokens, prefill, context)
    except BaseException as error:  # the compiler wraps what interrupts it
        print(f"transformers compiled: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
    finally:
        signal.alarm(0)


main(sys.argv[1], *(int(each) for each in sys.argv[2:]))
