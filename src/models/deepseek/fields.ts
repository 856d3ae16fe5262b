/**
 * Reads fields of untrusted JSON one at a time: only own properties are looked at, every value is checked, and every
 * error names the field, what was expected and what was found. `null` means absent, as it does in published configs.
 */
import { didYouMean, editDistance, InputError, showValue, UnsupportedError } from "../../ir/errors.ts";

/** A JSON object and the place it came from, such as `config.json` or `config.json rope_scaling`. */
export interface Fields {
  readonly where: string;
  readonly values: object;
}

/** Inclusive bounds of a number. The upper bounds are far above any published model; they keep sizes computable. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** Wraps `value`, which must be a JSON object. */
export function fieldsOf(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InputError(where, `expected a JSON object, got ${showValue(value)}`);
  }
  return { where, values: value };
}

/** The value of an own property, or undefined when it is absent or null. */
export function rawField(fields: Fields, name: string): unknown {
  const value = Object.getOwnPropertyDescriptor(fields.values, name)?.value;
  return value === null ? undefined : value;
}

/** The value of an own property that must be there. */
function requiredField(fields: Fields, name: string, expected: string): unknown {
  const value = rawField(fields, name);
  if (value !== undefined) return value;
  const found = Object.hasOwn(fields.values, name) ? "null" : "nothing";
  const hint = found === "null" ? undefined : misspelling(name, Object.keys(fields.values).slice(0, 200));
  throw new InputError(`${fields.where} ${name}`, `missing field: expected ${expected}, got ${found}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

/** A key that is nearly `name`; one that differs by a word, as hidden_act does from hidden_size, is another field. */
function misspelling(name: string, keys: readonly string[]): string | undefined {
  return didYouMean(
    name,
    keys.filter((key) => editDistance(key.slice(0, 200), name) <= 2),
  );
}

/** A whole number in `range`; without `fallback` the field is required. */
export function intField(fields: Fields, name: string, range: Range, fallback?: number): number {
  const expected = `a whole number in ${range.min}..${range.max}`;
  const value = fallback === undefined ? requiredField(fields, name, expected) : (rawField(fields, name) ?? fallback);
  if (!isInt(value, range)) throw wrongValue(fields, name, expected, value);
  return value;
}

/** A whole number in `range`, or null when the field is absent or null. */
export function optionalIntField(fields: Fields, name: string, range: Range): number | null {
  return rawField(fields, name) === undefined ? null : intField(fields, name, range);
}

/** A finite number in `range`; without `fallback` the field is required. */
export function numberField(fields: Fields, name: string, range: Range, fallback?: number): number {
  const expected = `a number in ${range.min}..${range.max}`;
  const value = fallback === undefined ? requiredField(fields, name, expected) : (rawField(fields, name) ?? fallback);
  if (typeof value !== "number" || !(value >= range.min && value <= range.max)) {
    throw wrongValue(fields, name, expected, value);
  }
  return value;
}

/** A finite number in `range`, or null when the field is absent or null. */
export function optionalNumberField(fields: Fields, name: string, range: Range): number | null {
  return rawField(fields, name) === undefined ? null : numberField(fields, name, range);
}

/** true or false; `fallback` when absent. */
export function boolField(fields: Fields, name: string, fallback: boolean): boolean {
  const value = rawField(fields, name) ?? fallback;
  if (typeof value !== "boolean") throw wrongValue(fields, name, "true or false", value);
  return value;
}

/** One of `choices`. A string that is none of them is unsupported, not malformed; the error names the nearest choice. */
export function choiceField<C extends string>(fields: Fields, name: string, choices: readonly C[], fallback?: C): C {
  const expected = choices.length === 1 ? JSON.stringify(choices[0]) : `one of ${choices.join(", ")}`;
  const value = fallback === undefined ? requiredField(fields, name, expected) : (rawField(fields, name) ?? fallback);
  if (typeof value !== "string") throw wrongValue(fields, name, expected, value);
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw unsupportedValue(fields, name, expected, value, didYouMean(value, choices));
  return found;
}

/** A list of whole numbers in `range`, at most `maxLength` long; a single number counts as a list of one. */
export function intListField(fields: Fields, name: string, range: Range, maxLength: number): readonly number[] {
  const raw = rawField(fields, name);
  if (raw === undefined) return [];
  const list: readonly unknown[] = Array.isArray(raw) ? raw : [raw];
  const expected = `a whole number in ${range.min}..${range.max}, or a list of at most ${maxLength} of them`;
  if (list.length > maxLength) throw wrongValue(fields, name, expected, `a list of ${list.length}`);
  return list.map((value) => {
    if (!isInt(value, range)) throw wrongValue(fields, name, expected, raw);
    return value;
  });
}

/** The error for a value of the wrong type or size. */
export function wrongValue(fields: Fields, name: string, expected: string, got: unknown): InputError {
  return new InputError(`${fields.where} ${name}`, `expected ${expected}, got ${showValue(got)}`);
}

/** The error for a value that makes sense but is not implemented. */
export function unsupportedValue(
  fields: Fields,
  name: string,
  expected: string,
  got: unknown,
  hint?: string,
): UnsupportedError {
  return new UnsupportedError(`${fields.where} ${name}`, `not supported: expected ${expected}, got ${showValue(got)}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

function isInt(value: unknown, range: Range): value is number {
  return Number.isInteger(value) && Number(value) >= range.min && Number(value) <= range.max;
}
