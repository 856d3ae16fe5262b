/** `tokenizer.json`, checked: the vocabulary, the merges, the added tokens and how text is split. */
import { InputError, showValue, UnsupportedError } from "../../ir/errors.ts";
import {
  asArray,
  asObject,
  asText,
  isArray,
  isCount,
  type JsonObject,
  type JsonValue,
  parseJsonObject,
  showJson,
} from "../weights/json.ts";
import type { AddedToken } from "./added-tokens.ts";
import type { Merge } from "./bpe.ts";
import { parseSplitter, type Splitter } from "./split-patterns.ts";

/** Above every published vocabulary; bounds what a hostile id can make us allocate. */
export const maxVocab = 2 ** 20;
/** DeepSeek's longest has 24 characters. Bounds the work of looking for added tokens at each place of a text. */
const maxAddedLength = 256;
/** As many elements as a template has ids on each side of the text. */
const maxTemplate = 8;

export interface TokenizerFile {
  /** Token ids by text in byte-level characters, added tokens by their plain text. */
  readonly ids: ReadonlyMap<string, number>;
  /** Token texts by id; undefined where no token has the id. */
  readonly tokens: readonly (string | undefined)[];
  readonly merges: readonly Merge[];
  readonly added: readonly AddedToken[];
  readonly split: Splitter;
  readonly normalize: (text: string) => string;
  /** A word that is a token is not split into others, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Ids that the post-processor puts before and after a text. */
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** @throws InputError when malformed, UnsupportedError when not a byte-level BPE tokenizer of a known kind */
export function parseTokenizerFile(text: string, where: string): TokenizerFile {
  const file = parseJsonObject(text, where);
  const model = asObject(file.get("model"), `${where} model`);
  checkModel(model, `${where} model`);
  const ids = new Map<string, number>();
  const tokens: (string | undefined)[] = [];
  // The place is a function: a hundred thousand names are not worth writing for errors that do not happen.
  const put = (token: string, id: JsonValue | undefined, place: () => string): number => {
    if (!isCount(id)) throw new InputError(place(), `expected a whole number from 0, got ${showJson(id)}`);
    if (id >= maxVocab) throw new InputError(place(), `id ${id}: expected less than ${maxVocab}`);
    while (tokens.length <= id) tokens.push(undefined);
    const other = tokens[id];
    if (other !== undefined && other !== token) {
      throw new InputError(place(), `id ${id} is also that of ${showValue(other)}`);
    }
    if ((ids.get(token) ?? id) !== id) {
      throw new InputError(place(), `id ${id}: the vocabulary gives it ${ids.get(token)}`);
    }
    tokens[id] = token;
    ids.set(token, id);
    return id;
  };
  for (const [token, id] of asObject(model.get("vocab"), `${where} model.vocab`)) {
    put(token, id, () => `${where} model.vocab ${showValue(token)}`);
  }
  const merges = readMerges(model.get("merges"), ids, `${where} model.merges`);
  const added = asArray(file.get("added_tokens") ?? [], `${where} added_tokens`).map((value, i) => {
    const place = `${where} added_tokens ${i}`;
    const fields = asObject(value, place);
    const content = asText(fields.get("content"), `${place} content`);
    if (content === "" || content.length > maxAddedLength) {
      throw new InputError(`${place} content`, `${content.length} characters: expected 1 to ${maxAddedLength}`);
    }
    for (const option of ["single_word", "lstrip", "rstrip"]) {
      if (fields.get(option) === true) throw new UnsupportedError(place, `an added token with ${option}`);
    }
    const id = put(content, fields.get("id"), () => `${place} id`);
    return { id, content, special: fields.get("special") === true, normalized: fields.get("normalized") === true };
  });
  checkDecoder(file.get("decoder"), `${where} decoder`);
  return {
    ids,
    tokens,
    merges,
    added,
    split: parseSplitter(file.get("pre_tokenizer"), `${where} pre_tokenizer`),
    normalize: parseNormalizer(file.get("normalizer"), `${where} normalizer`),
    ignoreMerges: model.get("ignore_merges") === true,
    ...readTemplate(file.get("post_processor"), ids, `${where} post_processor`),
  };
}

function checkModel(model: JsonObject, where: string): void {
  const type = model.get("type") ?? "BPE";
  if (type !== "BPE") throw new UnsupportedError(where, `type ${showJson(type)}`, { hint: "Supported: BPE." });
  for (const option of ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"]) {
    const value = model.get(option) ?? false;
    if (value !== false && value !== "" && value !== 0) {
      throw new UnsupportedError(`${where} ${option}`, `the value ${showJson(value)}`);
    }
  }
}

/** Merges are `"a b"` or `["a", "b"]`. */
function readMerges(value: JsonValue | undefined, ids: ReadonlyMap<string, number>, where: string): readonly Merge[] {
  const list = asArray(value, where);
  if (list.length >= maxVocab) throw new InputError(where, `${list.length} merges: expected less than ${maxVocab}`);
  const idOf = (token: string, i: number): number => {
    const id = ids.get(token);
    if (id === undefined) throw new InputError(`${where} ${i}`, `${showValue(token)} is not in the vocabulary`);
    return id;
  };
  return list.map((item, i) => {
    const parts = typeof item === "string" ? item.split(" ") : isArray(item) ? item : [];
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== "string" || typeof right !== "string") {
      throw new InputError(`${where} ${i}`, `expected two tokens, got ${showJson(item)}`);
    }
    return [idOf(left, i), idOf(right, i), idOf(left + right, i)];
  });
}

function parseNormalizer(value: JsonValue | undefined, where: string): (text: string) => string {
  if (value === undefined || value === null) return (text) => text;
  const spec = asObject(value, where);
  const type = spec.get("type");
  if (type === "NFC") return (text) => text.normalize("NFC");
  if (type !== "Sequence")
    throw new UnsupportedError(where, `type ${showJson(type)}`, { hint: "Supported: none, NFC." });
  const parts = asArray(spec.get("normalizers"), `${where} normalizers`);
  if (parts.length > maxTemplate)
    throw new InputError(where, `${parts.length} normalisers: expected at most ${maxTemplate}`);
  const functions = parts.map((part, i) => parseNormalizer(part, `${where} ${i}`));
  return (text) => functions.reduce((result, normalize) => normalize(result), text);
}

function checkDecoder(value: JsonValue | undefined, where: string): void {
  const type = asObject(value, where).get("type");
  if (type !== "ByteLevel")
    throw new UnsupportedError(where, `type ${showJson(type)}`, { hint: "Supported: ByteLevel." });
}

/** What a `TemplateProcessing` puts around one text; a `ByteLevel` post-processor changes no ids. */
function readTemplate(
  value: JsonValue | undefined,
  ids: ReadonlyMap<string, number>,
  where: string,
): { before: number[]; after: number[] } {
  const around = { before: [] as number[], after: [] as number[] };
  if (value === undefined || value === null) return around;
  const spec = asObject(value, where);
  const type = spec.get("type");
  if (type === "ByteLevel") return around;
  if (type === "Sequence") {
    const parts = asArray(spec.get("processors"), `${where} processors`);
    const found = parts.filter((part) => asObject(part, where).get("type") !== "ByteLevel");
    if (found.length > 1) throw new UnsupportedError(where, `${found.length} post-processors`);
    return found.length === 0 ? around : readTemplate(found[0], ids, where);
  }
  if (type !== "TemplateProcessing") throw new UnsupportedError(where, `type ${showJson(type)}`);
  const pieces = asArray(spec.get("single"), `${where} single`);
  if (pieces.length > maxTemplate)
    throw new InputError(where, `${pieces.length} pieces: expected at most ${maxTemplate}`);
  let side = around.before;
  for (const piece of pieces) {
    const fields = asObject(piece, `${where} single`);
    const token = fields.get("SpecialToken");
    if (token === undefined) {
      asObject(fields.get("Sequence"), `${where} single`);
      side = around.after;
      continue;
    }
    const name = asText(asObject(token, `${where} single`).get("id"), `${where} single id`);
    const id = ids.get(name);
    if (id === undefined) throw new InputError(where, `${showValue(name)} is not in the vocabulary`);
    side.push(id);
  }
  return around;
}
