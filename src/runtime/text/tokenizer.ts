/**
 * Text to token ids and back, for the byte-level BPE tokenizers of Hugging Face folders, giving the ids that Hugging Face's
 * tokenizers give (docs/decisions/0005-own-tokenizer.md says why it is our own).
 */
import { InputError, showValue } from "../../ir/errors.ts";
import type { ModelFolder } from "../weights/byte-source.ts";
import { isArray, isCount, isObject, type JsonObject, type JsonValue, parseJsonObject } from "../weights/json.ts";
import { addedTokenTrie, splitAdded } from "./added-tokens.ts";
import { mergePairs, mergeTable } from "./bpe.ts";
import { bytesOfToken, byteToChar } from "./byte-level.ts";
import { parseTokenizerFile, type TokenizerFile } from "./tokenizer-file.ts";

export interface EncodeOptions {
  /** Put the tokens around the text that the tokenizer's configuration asks for, usually one at its beginning. Default: no. */
  readonly addSpecialTokens?: boolean;
  /** Take the text of added tokens (`<｜User｜>`) as text like any other: for text that a stranger wrote. Default: no. */
  readonly plainText?: boolean;
}

export interface DecodeOptions {
  /** Leave out special tokens. Default: no. */
  readonly skipSpecialTokens?: boolean;
}

export interface Tokenizer {
  /** One more than the highest token id. A model's vocabulary may be larger. */
  readonly vocabSize: number;
  encode(text: string, options?: EncodeOptions): number[];
  /** Bytes that are not UTF-8 become U+FFFD; ids without a token give nothing. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** The bytes of one token, which may be part of a character; none for an id without a token. */
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /** The id of a token by its text: for an added token the text itself, for others in byte-level characters. */
  tokenId(text: string): number | undefined;
  readonly bosId: number | undefined;
  /** Tokens that end a generation. */
  readonly eosIds: readonly number[];
  /** The Jinja source that renders messages, if the folder has one. */
  readonly chatTemplate: string | undefined;
}

/** The texts of a folder's files; all but the first may be missing. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: string;
  /** tokenizer_config.json */
  readonly tokenizerConfig?: string | undefined;
  /** generation_config.json */
  readonly generationConfig?: string | undefined;
  /** config.json */
  readonly config?: string | undefined;
  /** chat_template.jinja, which goes before the one in tokenizer_config.json */
  readonly chatTemplate?: string | undefined;
}

/** DeepSeek-V3's tokenizer.json has 7.8 MB, Llama 3's 9 MB. */
const maxTokenizerBytes = 64_000_000;
const maxConfigBytes = 8_000_000;

/** The tokenizer of a model folder. @throws InputError, UnsupportedError */
export async function loadTokenizer(folder: ModelFolder): Promise<Tokenizer> {
  const optional = async (file: string): Promise<string | undefined> =>
    (await folder.has(file)) ? folder.readText(file, maxConfigBytes) : undefined;
  return parseTokenizer({
    tokenizer: await folder.readText("tokenizer.json", maxTokenizerBytes),
    tokenizerConfig: await optional("tokenizer_config.json"),
    generationConfig: await optional("generation_config.json"),
    config: await optional("config.json"),
    chatTemplate: await optional("chat_template.jinja"),
  });
}

/** @throws InputError when a file is malformed, UnsupportedError for tokenizers of other kinds */
export function parseTokenizer(files: TokenizerFiles): Tokenizer {
  const file = parseTokenizerFile(files.tokenizer, "tokenizer.json");
  const tokenizerConfig = objectOf(files.tokenizerConfig, "tokenizer_config.json");
  const generationConfig = objectOf(files.generationConfig, "generation_config.json");
  const config = objectOf(files.config, "config.json");
  const named = (field: string): number | undefined => tokenNamed(tokenizerConfig, field, file.ids);
  const bosId = named("bos_token") ?? idsIn(generationConfig, "bos_token_id")[0] ?? idsIn(config, "bos_token_id")[0];
  const eos = named("eos_token");
  // As Hugging Face's generation: its own configuration, which is made from config.json where there is none.
  const stops = [
    idsIn(generationConfig, "eos_token_id"),
    idsIn(config, "eos_token_id"),
    eos === undefined ? [] : [eos],
  ];
  const special = new Set(file.added.filter((token) => token.special).map((token) => token.id));
  const encodeText = textEncoder(file);
  const around = surroundings(file, tokenizerConfig, bosId, eos);
  const tokenBytes = bytesById(file);
  return {
    vocabSize: file.tokens.length,
    encode: (text, { addSpecialTokens = false, plainText = false } = {}) => {
      const ids = addSpecialTokens ? [...around.before] : [];
      encodeText(text, plainText, ids);
      if (addSpecialTokens) ids.push(...around.after);
      return ids;
    },
    decode: (ids, { skipSpecialTokens = false } = {}) => {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      let text = "";
      for (const id of ids) {
        if (!(skipSpecialTokens && special.has(id))) text += decoder.decode(tokenBytes(id), { stream: true });
      }
      return text + decoder.decode();
    },
    tokenBytes,
    isSpecial: (id) => special.has(id),
    tokenId: (text) => file.ids.get(text),
    bosId,
    eosIds: stops.find((ids) => ids.length > 0) ?? [],
    chatTemplate: files.chatTemplate ?? templateIn(tokenizerConfig),
  };
}

/** Words up to this many characters are remembered with their ids: most of a text is words seen before. */
const cachedLength = 32;
const cacheEntries = 50_000;

/** Appends the ids of a text to a list. */
function textEncoder(file: TokenizerFile): (text: string, plainText: boolean, ids: number[]) => void {
  const merges = mergeTable(file.merges, file.tokens.length);
  const symbolOfByte = Int32Array.from({ length: 256 }, (_, byte) => file.ids.get(byteToChar(byte)) ?? -1);
  const early = addedTokenTrie(file.added.filter((token) => !token.normalized));
  const late = addedTokenTrie(file.added.filter((token) => token.normalized));
  const utf8 = new TextEncoder();
  const cache = new Map<string, Int32Array>();

  const encodeWord = (word: string): Int32Array => {
    const bytes = utf8.encode(word);
    if (file.ignoreMerges) {
      const id = file.ids.get(Array.from(bytes, byteToChar).join(""));
      if (id !== undefined) return Int32Array.of(id);
    }
    // Vocabularies lack the bytes that UTF-8 never has; a text that needs one loses it, as in Hugging Face's BPE without unk_token.
    const symbols = Int32Array.from(bytes, (byte) => symbolOfByte[byte]!).filter((id) => id >= 0);
    return mergePairs(symbols, merges);
  };

  return (text, plainText, ids) => {
    const onWord = (word: string): void => {
      let found = cache.get(word);
      if (found === undefined) {
        found = encodeWord(word);
        if (word.length <= cachedLength) {
          if (cache.size >= cacheEntries) cache.clear();
          cache.set(word, found.slice());
        }
      }
      for (const id of found) ids.push(id);
    };
    const onToken = (id: number): void => {
      ids.push(id);
    };
    const onNormalized = (part: string): void => file.split(part, onWord);
    if (plainText) onNormalized(file.normalize(text));
    else splitAdded(early, text, (part) => splitAdded(late, file.normalize(part), onNormalized, onToken), onToken);
  };
}

/**
 * Added tokens are written as they are. (Hugging Face's decoder takes even those for byte-level characters when it can,
 * which turns the token `ü` of deepseek-llm into a byte that is not UTF-8.)
 */
function bytesById(file: TokenizerFile): (id: number) => Uint8Array {
  const added = new Set(file.added.map((token) => token.id));
  return (id) => {
    if (!isCount(id)) throw new InputError("token id", `expected a whole number from 0, got ${showValue(id)}`);
    const token = file.tokens[id] ?? "";
    return (added.has(id) ? undefined : bytesOfToken(token)) ?? new TextEncoder().encode(token);
  };
}

/**
 * What `addSpecialTokens` adds. `add_bos_token` and `add_eos_token` go before the post-processor of tokenizer.json; the
 * Llama tokenizer class, which DeepSeek's models name, adds a BOS unless told not to.
 */
function surroundings(
  file: TokenizerFile,
  config: JsonObject,
  bosId: number | undefined,
  eosId: number | undefined,
): { before: readonly number[]; after: readonly number[] } {
  const flag = (field: string, otherwise: boolean | undefined): boolean | undefined => {
    const value = config.get(field);
    return typeof value === "boolean" ? value : otherwise;
  };
  const llama = /^LlamaTokenizer(Fast)?$/.test(String(config.get("tokenizer_class")));
  const pick = (
    wanted: boolean | undefined,
    id: number | undefined,
    otherwise: readonly number[],
  ): readonly number[] => (wanted === undefined ? otherwise : wanted && id !== undefined ? [id] : []);
  return {
    before: pick(flag("add_bos_token", llama && file.before.length === 0 ? true : undefined), bosId, file.before),
    after: pick(flag("add_eos_token", undefined), eosId, file.after),
  };
}

function objectOf(text: string | undefined, where: string): JsonObject {
  return text === undefined ? new Map() : parseJsonObject(text, where);
}

/** The id of a token that tokenizer_config.json names, as text or as `{content}`. */
function tokenNamed(config: JsonObject, field: string, ids: ReadonlyMap<string, number>): number | undefined {
  const value = config.get(field);
  if (value === undefined || value === null) return undefined;
  const name = isObject(value) ? value.get("content") : value;
  if (typeof name !== "string") throw new InputError(`tokenizer_config.json ${field}`, "expected the text of a token");
  const id = ids.get(name);
  if (id === undefined)
    throw new InputError(`tokenizer_config.json ${field}`, `${showValue(name)} is not in the vocabulary`);
  return id;
}

/** One id or a list of them. */
function idsIn(config: JsonObject, field: string): readonly number[] {
  const value: JsonValue = config.get(field) ?? [];
  const list = isArray(value) ? value : [value];
  if (!list.every(isCount) || list.length > 64)
    throw new InputError(field, "expected a token id or at most 64 of them");
  return list;
}

/** `chat_template` is text, or a list of named ones of which "default" is meant. */
function templateIn(config: JsonObject): string | undefined {
  const value = config.get("chat_template");
  if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
  const where = "tokenizer_config.json chat_template";
  if (!isArray(value)) throw new InputError(where, "expected a text or a list of named texts");
  const chosen = value.find((item) => isObject(item) && item.get("name") === "default");
  const template = isObject(chosen) ? chosen.get("template") : undefined;
  if (typeof template !== "string") throw new InputError(where, 'expected an entry named "default" with a template');
  return template;
}
