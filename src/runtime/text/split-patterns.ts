/**
 * Pre-tokenisers: how text is cut into the words that byte-pair encoding works on. A tokenizer.json carries regular
 * expressions; one from a stranger can take exponential time, so only the known ones below are run, each written again for
 * JavaScript and tested to take linear time. JavaScript's `\s` differs from Unicode's (it has U+FEFF and lacks U+0085),
 * hence `\p{White_Space}`.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import { asArray, asObject, type JsonObject, type JsonValue, showJson } from "../weights/json.ts";

/** Calls `emit` with the words of a text, in order; together they are the text. */
export type Splitter = (text: string, emit: (word: string) => void) => void;

/** The letters of deepseek-llm: those with case, of Unicode 12. */
const letters = [
  "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af",
  "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5",
  "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba",
  "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45",
  "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe",
  "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102",
  "\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139",
  "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3",
  "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06",
  "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}",
  "\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}",
].join("");
/** Its punctuation, its characters of East Asian scripts (deepseek-coder has the same), and those of deepseek-v3. */
const marks = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002";
const eastAsian = "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff";
const kanjiKana = "\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff";
const contractions = "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])";
const spaceRuns = "\\p{White_Space}*[\\r\\n]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";
const wordsAndMarks = (digits: string): string =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\p{White_Space}\\p{L}\\p{N}]+[\\r\\n]*|${spaceRuns}`;
const gpt2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+`;
const ignoreCase = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const eitherCase = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const afterContractions = (digits: string): string =>
  `|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** Pattern as tokenizer.json has it, and what is run for it. */
const known: ReadonlyMap<string, RegExp> = new Map(
  Object.entries({
    "[\r\n]": "[\\r\\n]",
    "\\p{N}": "\\p{N}",
    "\\p{N}+": "\\p{N}+",
    "\\p{N}{1,3}": "\\p{N}{1,3}",
    // deepseek-llm. `\s+$` only from the start of a run of spaces: tried from each of its spaces it would be quadratic.
    [`\\s?[${letters}]+`]: `\\p{White_Space}?[${letters}]+`,
    [`\\s?[${marks}]+`]: `\\p{White_Space}?[${marks}]+`,
    "\\s+$": "(?<!\\p{White_Space})\\p{White_Space}+$",
    [`[${eastAsian}]+`]: `[${eastAsian}]+`,
    // deepseek-coder
    "\\s?\\p{L}+": "\\p{White_Space}?\\p{L}+",
    "\\s?\\p{P}+": "\\p{White_Space}?\\p{P}+",
    // deepseek-v3
    [`[${kanjiKana}]+`]: `[${kanjiKana}]+`,
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+": `[!-/:-@[-\`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${spaceRuns}`,
    // Qwen2 and Llama 3, in both spellings
    [ignoreCase + afterContractions("\\p{N}")]: wordsAndMarks("\\p{N}"),
    [eitherCase + afterContractions("\\p{N}")]: wordsAndMarks("\\p{N}"),
    [ignoreCase + afterContractions("\\p{N}{1,3}")]: wordsAndMarks("\\p{N}{1,3}"),
    [eitherCase + afterContractions("\\p{N}{1,3}")]: wordsAndMarks("\\p{N}{1,3}"),
  }).map(([pattern, source]) => [pattern, new RegExp(source, "gu")]),
);

/** The patterns that a tokenizer.json may use. */
export const knownPatterns: readonly string[] = [...known.keys()];

/** The splitter that a `pre_tokenizer` describes. @throws UnsupportedError for any other than byte-level ones with known patterns */
export function parseSplitter(value: JsonValue | undefined, where: string): Splitter {
  const spec = asObject(value, where);
  const parts = spec.get("type") === "Sequence" ? asArray(spec.get("pretokenizers"), `${where} pretokenizers`) : [spec];
  const patterns: RegExp[] = [];
  parts.forEach((part, i) => {
    const place = parts.length === 1 ? where : `${where} ${i}`;
    const pattern = patternOf(asObject(part, place), place, i === parts.length - 1);
    if (pattern !== undefined) patterns.push(pattern);
  });
  return (text, emit) => splitFrom(patterns, 0, text, emit);
}

function patternOf(part: JsonObject, where: string, last: boolean): RegExp | undefined {
  const type = part.get("type");
  // Byte-level characters are introduced by this part, so nothing may follow it, and nothing else may end the list.
  if ((type === "ByteLevel") !== last) throw unsupported(where, `the pre-tokeniser ${showJson(type)} in this place`);
  switch (type) {
    case "ByteLevel":
      if (part.get("add_prefix_space") === true) throw unsupported(where, "add_prefix_space");
      return part.get("use_regex") === false ? undefined : new RegExp(gpt2, "gu");
    case "Digits":
      return known.get(part.get("individual_digits") === true ? "\\p{N}" : "\\p{N}+");
    case "Split":
      return splitPattern(part, where);
    default:
      throw unsupported(where, `the pre-tokeniser ${showJson(type)}`);
  }
}

function splitPattern(part: JsonObject, where: string): RegExp {
  const pattern = asObject(part.get("pattern"), `${where} pattern`).get("Regex");
  const found = typeof pattern === "string" ? known.get(pattern) : undefined;
  if (found === undefined) throw unsupported(where, `the split pattern ${showJson(pattern)}`);
  if (part.get("behavior") !== "Isolated")
    throw unsupported(where, `the split behaviour ${showJson(part.get("behavior"))}`);
  if (part.get("invert") === true) throw unsupported(where, "an inverted split");
  return found;
}

function unsupported(where: string, what: string): UnsupportedError {
  return new UnsupportedError(where, what, {
    hint: "Supported: the byte-level pre-tokenisers of the DeepSeek, Qwen2 and Llama 3 families, with exactly their patterns.",
  });
}

/** Cuts at every match of pattern `stage`; matches and what lies between them go on to the next pattern. */
function splitFrom(patterns: readonly RegExp[], stage: number, text: string, emit: (word: string) => void): void {
  const pattern = patterns[stage];
  if (pattern === undefined) {
    if (text !== "") emit(text);
    return;
  }
  let done = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > done) splitFrom(patterns, stage + 1, text.slice(done, match.index), emit);
    splitFrom(patterns, stage + 1, match[0], emit);
    done = match.index + match[0].length;
  }
  if (done < text.length) splitFrom(patterns, stage + 1, done === 0 ? text : text.slice(done), emit);
}
