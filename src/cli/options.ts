/**
 * Command-line options: a table per command says what each is called, takes and does; parsing and `--help` both read it.
 * Parsing is `parseArgs` of Node in its lenient form, with our own checks, so that mistakes get the nearest name.
 */
import { parseArgs } from "node:util";
import { didYouMean, InputError } from "../ir/errors.ts";

/** flag: takes no value. text, number, whole (number): one value. texts: may be given several times. */
export type OptionKind = "flag" | "text" | "texts" | "number" | "whole";

export interface OptionSpec {
  readonly kind: OptionKind;
  readonly doc: string;
  /** What the value is called in `--help`. */
  readonly value?: string;
  /** One letter, given as `-p`. */
  readonly short?: string;
}

export type OptionTable = { readonly [name: string]: OptionSpec };

interface ValueOf {
  readonly flag: boolean;
  readonly text: string;
  readonly texts: readonly string[];
  readonly number: number;
  readonly whole: number;
}

/** The values given, by option; an option that was not given is missing. */
export type OptionValues<T extends OptionTable> = { readonly [N in keyof T]?: ValueOf[T[N]["kind"]] };

export interface Arguments<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: readonly string[];
}

/** Parses what follows the command's name. @throws InputError naming the option. */
export function parseOptions<T extends OptionTable>(command: string, table: T, argv: readonly string[]): Arguments<T> {
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries(
      Object.entries(table).map(([name, { kind, short }]) => [
        name,
        { type: kind === "flag" ? "boolean" : "string", multiple: true, ...(short === undefined ? {} : { short }) },
      ]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, boolean | number | string | string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const spec = Object.hasOwn(table, token.name) ? table[token.name] : undefined;
    if (spec === undefined) throw unknownOption(command, token.rawName, Object.keys(table));
    const where = `${command} --${token.name}`;
    if (spec.kind === "texts") {
      const before = values.get(token.name);
      values.set(token.name, [...(Array.isArray(before) ? before : []), needValue(where, token.value, spec)]);
      continue;
    }
    if (values.has(token.name)) throw new InputError(where, "given twice");
    values.set(token.name, readValue(where, spec, token.value));
  }
  // Each value has the type of its option's kind, by readValue.
  return { values: Object.fromEntries(values) as OptionValues<T>, positionals };
}

function readValue(where: string, spec: OptionSpec, value: string | undefined): boolean | number | string {
  if (spec.kind === "flag") {
    if (value !== undefined) throw new InputError(where, `takes no value, got ${JSON.stringify(value)}`);
    return true;
  }
  const text = needValue(where, value, spec);
  if (spec.kind === "text") return text;
  const number = text.trim() === "" ? Number.NaN : Number(text);
  if (spec.kind === "whole" ? !Number.isSafeInteger(number) : !Number.isFinite(number)) {
    const expected = spec.kind === "whole" ? "a whole number" : "a number";
    throw new InputError(where, `expected ${expected}, got ${JSON.stringify(text)}`);
  }
  return number;
}

function needValue(where: string, value: string | undefined, spec: OptionSpec): string {
  if (value === undefined) throw new InputError(where, `expected a value: ${spec.value ?? "a text"}`);
  return value;
}

function unknownOption(command: string, raw: string, names: readonly string[]): InputError {
  const near = didYouMean(
    raw,
    names.map((name) => `--${name}`),
  );
  const hint = near ?? `See: ciuic ${command} --help.`;
  return new InputError(`${command} ${raw}`, "unknown option", { hint });
}
