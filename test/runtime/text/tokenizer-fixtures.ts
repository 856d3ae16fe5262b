/** The tokenizers under test/fixtures/tokenizers, with their test strings and the ids that belong to them. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { parseTokenizer, type Tokenizer } from "../../../src/runtime/text/tokenizer.ts";

export const families = ["deepseek-llm", "deepseek-coder", "deepseek-v3"] as const;
export type Family = (typeof families)[number];

const folder = (family: Family): string => `test/fixtures/tokenizers/${family}`;
const parsed = new Map<Family, Tokenizer>();

export function tokenizerJson(family: Family): string {
  return gunzipSync(readFileSync(`${folder(family)}/tokenizer.json.gz`)).toString("utf8");
}

export function v3Config(): string {
  return readFileSync(`${folder("deepseek-v3")}/tokenizer_config.json`, "utf8");
}

/** Parsed once for each test file. */
export function tokenizerOf(family: Family): Tokenizer {
  let tokenizer = parsed.get(family);
  if (tokenizer === undefined) {
    const tokenizerConfig = family === "deepseek-v3" ? v3Config() : undefined;
    tokenizer = parseTokenizer({ tokenizer: tokenizerJson(family), tokenizerConfig });
    parsed.set(family, tokenizer);
  }
  return tokenizer;
}

/** Test strings and their ids, without a beginning-of-text token. */
export function vectorsOf(family: Family): { text: string; ids: number[] }[] {
  const texts = readFileSync(`${folder(family)}/vectors.inp`, "utf8").split("\n__ggml_vocab_test__\n");
  const lines = readFileSync(`${folder(family)}/vectors.out`, "utf8").split("\n");
  return texts.map((text, i) => ({ text, ids: (lines[i]?.match(/\d+/g) ?? []).map(Number) }));
}
