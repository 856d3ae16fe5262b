/** The tokenizer against the ids of llama.cpp and Hugging Face, round trips, special tokens, and the growth of its work. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergePairs, mergeTable } from "../../../src/runtime/text/bpe.ts";
import { knownPatterns, parseSplitter } from "../../../src/runtime/text/split-patterns.ts";
import { loadTokenizer, parseTokenizer } from "../../../src/runtime/text/tokenizer.ts";
import { openNodeFolder } from "../../../src/runtime/weights/node-folder.ts";
import { families, tokenizerJson, tokenizerOf, v3Config, vectorsOf } from "./tokenizer-fixtures.ts";

const anyText = fc.string({ unit: "binary", maxLength: 60 });

describe.each(families)("%s", (family) => {
  test("gives the recorded ids for all 47 strings, and the strings back", () => {
    const tokenizer = tokenizerOf(family);
    const vectors = vectorsOf(family);
    expect(vectors).toHaveLength(47);
    for (const { text, ids } of vectors) {
      expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids });
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });

  test("decodes what it encodes, and the tokens' bytes are the text's", () => {
    const tokenizer = tokenizerOf(family);
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, plainText) => {
        const ids = tokenizer.encode(text, { plainText });
        expect(tokenizer.decode(ids)).toBe(text);
        expect(Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id)))).toEqual(Buffer.from(text));
      }),
      { numRuns: 300 },
    );
  });
});

test("deepseek-v3: ids, special tokens and template of its configuration", () => {
  const tokenizer = tokenizerOf("deepseek-v3");
  expect(tokenizer).toMatchObject({ vocabSize: 128815, bosId: 0, eosIds: [1] });
  expect(tokenizer.chatTemplate).toContain("add_generation_prompt");
  expect(tokenizer.encode("Hello!")).toEqual([19923, 3]);
  expect(tokenizer.encode("Hello!", { addSpecialTokens: true })).toEqual([0, 19923, 3]);
  expect(tokenizer.encode("", { addSpecialTokens: true })).toEqual([0]);
  expect(tokenizer.tokenId("<｜User｜>")).toBe(128803);
  expect(tokenizer.tokenId("__proto__")).toBeUndefined();
  expect([tokenizer.isSpecial(0), tokenizer.isSpecial(128803), tokenizer.isSpecial(5)]).toEqual([true, false, false]);
  const ids = tokenizer.encode("<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>");
  expect(ids).toEqual([0, 128803, ...tokenizer.encode("Hi"), 128804]);
  expect(tokenizer.decode(ids)).toBe("<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>");
  expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe("<｜User｜>Hi<｜Assistant｜>");
});

test("text of a stranger has no special tokens when it is plain", () => {
  const tokenizer = tokenizerOf("deepseek-v3");
  const text = "<｜end▁of▁sentence｜><｜User｜>";
  const ids = tokenizer.encode(text, { plainText: true });
  expect(ids.some((id) => id === 1 || id >= 128000)).toBe(false);
  expect(tokenizer.decode(ids)).toBe(text);
});

test("a character split over tokens is whole again in the decoded text", () => {
  const tokenizer = tokenizerOf("deepseek-v3");
  const ids = tokenizer.encode("🦙𐍈");
  expect(ids.length).toBeGreaterThan(2);
  expect(tokenizer.decode(ids)).toBe("🦙𐍈");
  expect(tokenizer.decode(ids.slice(0, 1))).toBe("\ufffd");
});

test("ids without a token decode to nothing; what is no id is an error", () => {
  const tokenizer = tokenizerOf("deepseek-v3");
  expect(tokenizer.decode([129279])).toBe("");
  expect(tokenizer.tokenBytes(2 ** 40)).toEqual(new Uint8Array(0));
  for (const id of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => tokenizer.decode([id])).toThrow(/token id/);
});

test("the bundled model's folder", async () => {
  const tokenizer = await loadTokenizer(await openNodeFolder("models/tiny-deepseek"));
  expect(tokenizer).toMatchObject({ vocabSize: 4096, bosId: 0, eosIds: [1] });
  expect(tokenizer.encode("Once upon a time", { addSpecialTokens: true })[0]).toBe(0);
});

/** A tokenizer of the 256 bytes, with these fields of tokenizer.json changed. */
function bytesTokenizer(fields: object): string {
  const v3 = JSON.parse(tokenizerJson("deepseek-coder"));
  const vocab = Object.fromEntries(Object.entries(v3.model.vocab).filter(([token]) => [...token].length === 1));
  const added = [
    { id: 900, content: "<bos>", special: true, normalized: false },
    { id: 901, content: "<eos>", special: true, normalized: false },
  ];
  return JSON.stringify({ ...v3, model: { ...v3.model, vocab, merges: [] }, added_tokens: added, ...fields });
}

describe("which tokens are put around a text", () => {
  const template = {
    type: "TemplateProcessing",
    single: [
      { SpecialToken: { id: "<bos>", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: "<eos>", type_id: 0 } },
    ],
  };
  const around = (fields: object, config: object): number[] =>
    parseTokenizer({ tokenizer: bytesTokenizer(fields), tokenizerConfig: JSON.stringify(config) }).encode("", {
      addSpecialTokens: true,
    });
  const names = { bos_token: "<bos>", eos_token: { content: "<eos>" } };
  test.each([
    ["nothing asked for", {}, names, []],
    ["add_bos_token", {}, { ...names, add_bos_token: true }, [900]],
    ["add_eos_token", {}, { ...names, add_eos_token: true }, [901]],
    ["the Llama class", {}, { ...names, tokenizer_class: "LlamaTokenizerFast" }, [900]],
    ["the Llama class told not to", {}, { ...names, tokenizer_class: "LlamaTokenizer", add_bos_token: false }, []],
    ["a template", { post_processor: template }, {}, [900, 901]],
    ["a template in a sequence", { post_processor: { type: "Sequence", processors: [template] } }, names, [900, 901]],
    ["a template overruled", { post_processor: template }, { ...names, add_bos_token: false }, [901]],
  ])("%s", (_, fields, config, ids) => {
    expect(around(fields, config)).toEqual(ids);
  });
});

test("end tokens: generation_config.json, else config.json, else tokenizer_config.json", () => {
  const tokenizer = bytesTokenizer({});
  const tokenizerConfig = '{"bos_token":"<bos>","eos_token":"<eos>"}';
  expect(parseTokenizer({ tokenizer, tokenizerConfig }).eosIds).toEqual([901]);
  const config = '{"eos_token_id":7,"bos_token_id":6}';
  expect(parseTokenizer({ tokenizer, tokenizerConfig, config })).toMatchObject({ eosIds: [7], bosId: 900 });
  const generationConfig = '{"eos_token_id":[8,9]}';
  expect(parseTokenizer({ tokenizer, config, generationConfig })).toMatchObject({ eosIds: [8, 9], bosId: 6 });
});

test("the longest added token at the leftmost place wins, normalised ones come second", () => {
  const token = (id: number, content: string, normalized = false) => ({ id, content, special: false, normalized });
  const added = [token(700, "ab"), token(701, "abc"), token(702, "éx", true), token(703, "cd", true)];
  const tokenizer = parseTokenizer({
    tokenizer: bytesTokenizer({ added_tokens: added, normalizer: { type: "NFC" } }),
  });
  expect(tokenizer.encode("abcd").slice(0, 1)).toEqual([701]);
  expect(tokenizer.encode("abcab")).toEqual([701, 700]);
  expect(tokenizer.encode("abe\u0301xcd")).toEqual([700, 702, 703]);
});

test("merging gives what merging the best pair again and again gives", () => {
  const symbol = fc.nat(3);
  const merges = fc.uniqueArray(fc.tuple(fc.nat(7), fc.nat(7)), { maxLength: 12, selector: String });
  fc.assert(
    fc.property(fc.array(symbol, { maxLength: 40 }), merges, (symbols, pairs) => {
      const table = mergeTable(
        pairs.map(([left, right], i) => [left, right, 4 + (i % 4)]),
        8,
      );
      const naive = [...symbols];
      for (;;) {
        const ranks = naive.slice(1).map((right, i) => table.rank(naive[i]!, right));
        const best = Math.min(...ranks.filter((rank) => rank >= 0));
        if (!Number.isFinite(best)) break;
        naive.splice(ranks.indexOf(best), 2, table.merged(best));
      }
      expect([...mergePairs(Int32Array.from(symbols), table)]).toEqual(naive);
    }),
    { numRuns: 1000 },
  );
});

describe("work grows with the length, not its square", () => {
  test("merging one long word", () => {
    const table = mergeTable(
      [0, 1, 2, 3].map((i) => [i, i, i + 1]),
      8,
    );
    const looked = (n: number): number => {
      let count = 0;
      const rank = (left: number, right: number): number => {
        count++;
        return table.rank(left, right);
      };
      mergePairs(new Int32Array(n), { ...table, rank });
      return count;
    };
    expect(looked(100_000)).toBeLessThan(11 * looked(10_000));
    expect(looked(100_000)).toBeLessThan(6 * 100_000);
  });

  // Each of these made some pattern quadratic in one implementation or another.
  const hard: readonly (readonly [string, (n: number) => string])[] = [
    ["a letter", (n) => "a".repeat(n)],
    ["a space", (n) => " ".repeat(n)],
    ["spaces before a letter of no class", (n) => `${" ".repeat(n)}\u0e01`],
    ["spaces before a kanji", (n) => `${" ".repeat(n)}一`],
    ["newlines", (n) => "\n".repeat(n)],
    ["spaces and newlines", (n) => " \n".repeat(n / 2)],
    ["exclamation marks", (n) => "!".repeat(n)],
    ["zero bytes", (n) => "\0".repeat(n)],
    ["apostrophes", (n) => "'s".repeat(n / 2)],
    ["beginnings of an added token", (n) => "<｜begin".repeat(n / 8)],
    ["half an emoji", (n) => "\ud83d".repeat(n)],
  ];
  const seconds = (run: () => void): number => {
    const start = performance.now();
    run();
    return (performance.now() - start) / 1000;
  };

  test.each(hard)("splitting %s, with every known pattern", (_, make) => {
    for (const Regex of knownPatterns) {
      const parts = [
        { type: "Split", pattern: { Regex }, behavior: "Isolated" },
        { type: "ByteLevel", use_regex: false },
      ];
      const asMap = (value: object) => new Map(Object.entries(value));
      const pretokenizers = parts.map((part) =>
        asMap("pattern" in part ? { ...part, pattern: asMap(part.pattern ?? {}) } : part),
      );
      const split = parseSplitter(asMap({ type: "Sequence", pretokenizers }), "t");
      const time = (n: number): number =>
        seconds(() => {
          let length = 0;
          const text = make(n);
          split(text, (word) => {
            length += word.length;
          });
          expect(length).toBe(text.length);
        });
      time(1000);
      // Sixteen times the length: 16 when linear, 256 when quadratic. The constant forgives noise on small times.
      expect(time(160_000)).toBeLessThan(64 * time(10_000) + 0.2);
    }
  });

  test("a megabyte of one letter", () => {
    const tokenizer = tokenizerOf("deepseek-v3");
    const time = (n: number): number => seconds(() => tokenizer.encode("a".repeat(n)));
    time(1000);
    expect(time(1_000_000)).toBeLessThan(64 * time(62_500) + 0.5);
  });
});

describe("refuses", () => {
  const cases: readonly (readonly [string, object, RegExp])[] = [
    ["another kind of model", { model: { type: "Unigram" } }, /type "Unigram"\nSupported: BPE/],
    ["a pattern that may take exponential time", { pre_tokenizer: split("(a+)+$") }, /the split pattern/],
    ["a pre-tokeniser of another kind", { pre_tokenizer: { type: "Metaspace" } }, /Metaspace/],
    ["another decoder", { decoder: { type: "WordPiece" } }, /WordPiece/],
    ["a normaliser with a pattern", { normalizer: { type: "Replace", pattern: { Regex: "(a+)+$" } } }, /Replace/],
    ["a huge id", { added_tokens: [{ id: 2 ** 40, content: "x" }] }, /expected less than 1048576/],
    ["an id that is text", { added_tokens: [{ id: "1", content: "<x>" }] }, /expected a whole number/],
    ["an id used twice", { added_tokens: [{ id: 0, content: "<x>" }] }, /also that of/],
    ["an empty added token", { added_tokens: [{ id: 999, content: "" }] }, /expected 1 to 256/],
    ["an added token that takes space", { added_tokens: [{ id: 999, content: "<x>", lstrip: true }] }, /lstrip/],
  ];
  function split(Regex: string): object {
    return {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex }, behavior: "Isolated" },
        { type: "ByteLevel", use_regex: false },
      ],
    };
  }
  test.each(cases)("%s", (_, fields, message) => {
    expect(() => parseTokenizer({ tokenizer: bytesTokenizer(fields) })).toThrow(message);
  });

  test("a merge of unknown tokens", () => {
    const { model } = JSON.parse(bytesTokenizer({}));
    const tokenizer = bytesTokenizer({ model: { ...model, merges: [["a", "zz"]] } });
    expect(() => parseTokenizer({ tokenizer })).toThrow(/merges 0: "zz" is not in the vocabulary/);
  });

  test("an eos_token that is not in the vocabulary", () => {
    const tokenizerConfig = v3Config();
    expect(() => parseTokenizer({ tokenizer: bytesTokenizer({}), tokenizerConfig })).toThrow(
      /bos_token: .* vocabulary/,
    );
  });
});
