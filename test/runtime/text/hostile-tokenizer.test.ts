/** Mutated tokenizer files: a tokenizer that works or a typed error. */
import { readFileSync } from "node:fs";
import { test } from "vitest";
import { parseTokenizer } from "../../../src/runtime/text/tokenizer.ts";
import { type HostileCheck, hostileCheck, mutateBytes, mutateJson, randomFrom } from "../hostile.ts";
import { tokenizerJson, v3Config } from "./tokenizer-fixtures.ts";

/** DeepSeek-Coder's tokenizer with the first tokens and merges only, so that mutations hit its structure. */
const small: string = (() => {
  const file = JSON.parse(tokenizerJson("deepseek-coder"));
  const merges: [string, string][] = file.model.merges.slice(0, 20);
  const wanted = new Set(merges.flatMap(([left, right]) => [left, right, left + right]));
  const vocab = Object.fromEntries(
    Object.entries(file.model.vocab).filter(([token], i) => wanted.has(token) || i < 100),
  );
  const post_processor = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<｜begin▁of▁sentence｜>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  };
  const added_tokens = file.added_tokens.slice(13, 21);
  const normalizer = { type: "Sequence", normalizers: [{ type: "NFC" }] };
  return JSON.stringify({ ...file, normalizer, post_processor, added_tokens, model: { ...file.model, vocab, merges } });
})();
const generation = readFileSync("models/tiny-deepseek/generation_config.json", "utf8");
const names = {
  bos_token: "<｜begin▁of▁sentence｜>",
  eos_token: { content: "<｜end▁of▁sentence｜>" },
  pad_token: null,
};
const config = JSON.stringify({ ...JSON.parse(v3Config()), ...names });
const utf8 = new TextEncoder();

function tryAll(check: HostileCheck, tokenizer: string, tokenizerConfig: string, generationConfig: string): void {
  const parse = (): void => {
    const parsed = parseTokenizer({ tokenizer, tokenizerConfig, generationConfig });
    const ids = parsed.encode("Hello, <｜User｜> the  世界 123\n\n\u0301 toString __proto__", {
      addSpecialTokens: true,
    });
    parsed.decode(ids, { skipSpecialTokens: true });
    for (const id of ids) parsed.tokenBytes(id);
  };
  check.run(parse, `${tokenizer}\n${tokenizerConfig}\n${generationConfig}`);
}

test("5,000 mutated tokenizer.json files", () => {
  const random = randomFrom(20_003);
  const check = hostileCheck();
  const bytes = utf8.encode(small);
  for (let i = 0; i < 5000; i++) {
    const mutated = i % 4 === 0 ? new TextDecoder().decode(mutateBytes(random, bytes)) : mutateJson(random, small);
    tryAll(check, mutated, config, generation);
  }
  check.finish({ inputs: 5000, refused: 1000, accepted: 50 });
});

test("3,000 mutated tokenizer_config.json and generation_config.json files", () => {
  const random = randomFrom(20_004);
  const check = hostileCheck();
  for (let i = 0; i < 3000; i++) {
    const both = random(3);
    tryAll(
      check,
      small,
      both === 0 ? config : mutateJson(random, config),
      both === 1 ? generation : mutateJson(random, generation),
    );
  }
  check.finish({ inputs: 3000, refused: 500, accepted: 500 });
});
