/**
 * A strict JSON reader for files nobody vouches for. Objects become Maps, so that a key such as `__proto__` is a key
 * like any other; a repeated key is an error at every level (`JSON.parse` keeps the last one, other readers the first);
 * nesting is bounded; a number that is not finite is an error. Time and memory are linear in the text.
 */
import { InputError, showValue } from "../../ir/errors.ts";

export type JsonObject = ReadonlyMap<string, JsonValue>;
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export const maxJsonDepth = 64;

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const spacePattern = /[ \t\n\r]*/y;
const escapes: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);

interface Cursor {
  readonly text: string;
  readonly where: string;
  at: number;
}

/** @throws InputError naming `where` and the offset. */
export function parseJson(text: string, where: string): JsonValue {
  const cursor: Cursor = { text, where, at: 0 };
  skipSpace(cursor);
  const value = readValue(cursor, 0);
  skipSpace(cursor);
  if (cursor.at !== text.length) throw unexpected(cursor, "the end of the text");
  return value;
}

/** Parses a text whose top level must be an object. */
export function parseJsonObject(text: string, where: string): JsonObject {
  return asObject(parseJson(text, where), where);
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

export function asObject(value: JsonValue | undefined, where: string): JsonObject {
  if (!isObject(value)) throw new InputError(where, `expected an object, got ${showJson(value)}`);
  return value;
}

export function asArray(value: JsonValue | undefined, where: string): readonly JsonValue[] {
  if (!isArray(value)) throw new InputError(where, `expected an array, got ${showJson(value)}`);
  return value;
}

/** A whole number from 0 that a double holds exactly; -0 is refused. */
export function isCount(value: JsonValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0);
}

export function asCount(value: JsonValue | undefined, where: string): number {
  if (!isCount(value)) throw new InputError(where, `expected a whole number from 0, got ${showJson(value)}`);
  return value;
}

export function asText(value: JsonValue | undefined, where: string): string {
  if (typeof value !== "string") throw new InputError(where, `expected a string, got ${showJson(value)}`);
  return value;
}

/** A value in a message; containers by kind only. */
export function showJson(value: JsonValue | undefined): string {
  if (value === undefined) return "nothing";
  if (isObject(value)) return "an object";
  if (isArray(value)) return `an array of ${value.length}`;
  return showValue(value);
}

function readValue(cursor: Cursor, depth: number): JsonValue {
  const { text } = cursor;
  switch (text[cursor.at]) {
    case "{":
      return readObject(cursor, depth + 1);
    case "[":
      return readArray(cursor, depth + 1);
    case '"':
      return readString(cursor);
    case "t":
      return readWord(cursor, "true", true);
    case "f":
      return readWord(cursor, "false", false);
    case "n":
      return readWord(cursor, "null", null);
    default:
      return readNumber(cursor);
  }
}

function readObject(cursor: Cursor, depth: number): JsonObject {
  checkDepth(cursor, depth);
  const entries = new Map<string, JsonValue>();
  cursor.at++;
  skipSpace(cursor);
  if (take(cursor, "}")) return entries;
  for (;;) {
    if (cursor.text[cursor.at] !== '"') throw unexpected(cursor, "a key");
    const key = readString(cursor);
    if (entries.has(key)) throw new InputError(cursor.where, `the key ${showValue(key)} occurs twice in one object`);
    skipSpace(cursor);
    if (!take(cursor, ":")) throw unexpected(cursor, "a colon");
    skipSpace(cursor);
    entries.set(key, readValue(cursor, depth));
    skipSpace(cursor);
    if (take(cursor, "}")) return entries;
    if (!take(cursor, ",")) throw unexpected(cursor, "a comma or a closing brace");
    skipSpace(cursor);
  }
}

function readArray(cursor: Cursor, depth: number): readonly JsonValue[] {
  checkDepth(cursor, depth);
  const items: JsonValue[] = [];
  cursor.at++;
  skipSpace(cursor);
  if (take(cursor, "]")) return items;
  for (;;) {
    items.push(readValue(cursor, depth));
    skipSpace(cursor);
    if (take(cursor, "]")) return items;
    if (!take(cursor, ",")) throw unexpected(cursor, "a comma or a closing bracket");
    skipSpace(cursor);
  }
}

function readString(cursor: Cursor): string {
  const { text } = cursor;
  const parts: string[] = [];
  let start = ++cursor.at;
  for (;;) {
    const code = text.charCodeAt(cursor.at);
    if (code === 0x22) break;
    // NaN past the end of the text also fails this comparison.
    if (!(code >= 0x20)) throw unexpected(cursor, "a closing quote");
    if (code !== 0x5c) {
      cursor.at++;
      continue;
    }
    parts.push(text.slice(start, cursor.at), readEscape(cursor));
    start = cursor.at;
  }
  const last = text.slice(start, cursor.at++);
  return parts.length === 0 ? last : parts.join("") + last;
}

function readEscape(cursor: Cursor): string {
  const letter = cursor.text[cursor.at + 1] ?? "";
  const plain = escapes.get(letter);
  if (plain !== undefined) {
    cursor.at += 2;
    return plain;
  }
  const digits = cursor.text.slice(cursor.at + 2, cursor.at + 6);
  if (letter !== "u" || !/^[0-9a-fA-F]{4}$/.test(digits)) throw unexpected(cursor, "a valid escape");
  cursor.at += 6;
  return String.fromCharCode(Number.parseInt(digits, 16));
}

function readNumber(cursor: Cursor): number {
  numberPattern.lastIndex = cursor.at;
  const match = numberPattern.exec(cursor.text);
  if (match === null) throw unexpected(cursor, "a value");
  const value = Number(match[0]);
  if (!Number.isFinite(value)) throw new InputError(cursor.where, `the number ${showValue(match[0])} is too large`);
  cursor.at += match[0].length;
  return value;
}

function readWord<T extends JsonValue>(cursor: Cursor, word: string, value: T): T {
  if (!cursor.text.startsWith(word, cursor.at)) throw unexpected(cursor, "a value");
  cursor.at += word.length;
  return value;
}

function skipSpace(cursor: Cursor): void {
  // Most tokens of compact JSON have no space before them.
  if (cursor.text.charCodeAt(cursor.at) > 0x20) return;
  spacePattern.lastIndex = cursor.at;
  spacePattern.test(cursor.text);
  cursor.at = spacePattern.lastIndex;
}

function take(cursor: Cursor, character: string): boolean {
  if (cursor.text[cursor.at] !== character) return false;
  cursor.at++;
  return true;
}

function checkDepth(cursor: Cursor, depth: number): void {
  if (depth > maxJsonDepth) {
    throw new InputError(cursor.where, `nested more than ${maxJsonDepth} deep at offset ${cursor.at}`);
  }
}

function unexpected(cursor: Cursor, expected: string): InputError {
  const found = cursor.at < cursor.text.length ? showValue(cursor.text.slice(cursor.at, cursor.at + 20)) : "the end";
  return new InputError(cursor.where, `not valid JSON at offset ${cursor.at}: expected ${expected}, got ${found}`);
}
