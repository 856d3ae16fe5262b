/** The tokenizer against @huggingface/tokenizers, an implementation that shares nothing with it, on random texts. */
import { readFileSync } from "node:fs";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { expect, test } from "vitest";
import { knownPatterns } from "../../../src/runtime/text/split-patterns.ts";
import { parseTokenizer } from "../../../src/runtime/text/tokenizer.ts";
import { families, tokenizerJson } from "./tokenizer-fixtures.ts";

/**
 * Where patterns, scripts and added tokens meet. Not U+FEFF and U+0085: the library takes JavaScript's `\s` for them, which
 * is not Unicode's.
 */
const pieces =
  "a b the Hello  World def_f(x): ' 's 'LL \n \r\n \t 1 23 4567 é e\u0301 世界 ひら カ 한국 нещо 🦙 \u200d ! ... \" < <｜ <｜User｜> ｜> ø ü \u3000 \u00a0 _ - ก ١ Ⅷ ½ ſ ǅ \u00ad \0 $ €"
    .split(" ")
    .flatMap((piece) => [piece, ` ${piece}`]);
const text = fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join(""));

function expectSameIds(json: string, runs: number): void {
  const library = new LibraryTokenizer(JSON.parse(json), {});
  const ours = parseTokenizer({ tokenizer: json });
  fc.assert(
    fc.property(text, (sample) => {
      expect(ours.encode(sample)).toEqual(library.encode(sample, { add_special_tokens: false }).ids);
    }),
    { numRuns: runs },
  );
}

test.each(families)("%s", (family) => expectSameIds(tokenizerJson(family), 1500));

test("the bundled model", () => expectSameIds(readFileSync("models/tiny-deepseek/tokenizer.json", "utf8"), 1500));

// The spellings with (?i:…) are those of the published files; the others are their equals.
const wholeText = knownPatterns.filter((pattern) => pattern.startsWith("(?"));
test.each([...wholeText, undefined])("split by %s", (Regex) => {
  const split = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
  const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: Regex === undefined };
  const pretokenizers = Regex === undefined ? [bytes] : [split, bytes];
  const file = JSON.parse(tokenizerJson("deepseek-coder"));
  expectSameIds(JSON.stringify({ ...file, pre_tokenizer: { type: "Sequence", pretokenizers } }), 800);
});
