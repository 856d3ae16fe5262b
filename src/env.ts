/**
 * The variables that change what the compiler shows and checks, and the only reader of `process.env`. Where there is no
 * process (a browser) every variable has its default. Nothing below `compile.ts` reads them: they are passed as options.
 */
import { InputError } from "./ir/errors.ts";

interface Variable<T> {
  /** What the value may be, for the documentation and for errors. */
  readonly values: string;
  readonly doc: string;
  /** The value of an unset variable is that of the empty text. Undefined where the text makes no sense. */
  readonly parse: (text: string) => T | undefined;
}

const level = (most: number) => (text: string) => {
  const value = Number(text);
  return /^\d*$/.test(text) && value <= most ? value : undefined;
};
const list = (text: string): readonly string[] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
const flag = (text: string) => (text === "" || text === "0" ? false : text === "1" ? true : undefined);

function regex(text: string): RegExp | undefined {
  try {
    return new RegExp(text);
  } catch {
    return undefined;
  }
}

/** All variables. docs/env.md has one row for each, and a test compares them. */
export const variables = {
  DEBUG: {
    values: "0 to 5",
    doc: "1: devices and memory. 2: each kernel's time and rates. 3: schedule choices. 4: emitted source. 5: the IR after each phase.",
    parse: level(5),
  },
  VERIFY: {
    values: "0 to 3 (default 1)",
    doc: "0: no checks. 1: the input and the result of the passes. 2: after each pass. 3: also interprets before and after each pass on random inputs (small models only).",
    parse: (text) => (text === "" ? 1 : level(3)(text)),
  },
  DUMP: {
    values: "a folder",
    doc: "Writes the IR after each pass there, as `07-fuse.after.ir`.",
    parse: (text) => text,
  },
  DUMP_PASS: { values: "a regular expression", doc: "Only passes with such a name are dumped.", parse: regex },
  DISABLE_PASS: { values: "names, with commas", doc: "Passes to leave out.", parse: list },
  DISABLE_RULE: { values: "names, with commas", doc: "Rewrite rules to leave out.", parse: list },
  NOOPT: {
    values: "0 or 1",
    doc: "1: only the passes without which nothing runs: expand, legalize, lower.",
    parse: flag,
  },
  TRACE: {
    values: "a file",
    doc: "Writes what was compiled first there as JSON, for `ciuic trace FILE`: passes, rule matches, kernels, memory.",
    parse: (text) => text,
  },
  SEED: {
    values: "a whole number (default 1)",
    doc: "Seed of the random inputs of VERIFY=3.",
    parse: (text) => (text === "" ? 1 : level(2 ** 31)(text)),
  },
  CIUIC_CACHE: {
    values: "a folder",
    doc: "Where what was probed of this machine is kept, instead of the system's folder for caches.",
    parse: (text) => text,
  },
} as const satisfies Record<string, Variable<unknown>>;

export type VariableName = keyof typeof variables;

/** The parsed value of each variable. */
export type Env = { readonly [N in VariableName]: Exclude<ReturnType<(typeof variables)[N]["parse"]>, undefined> };

/** Reads all variables from `source`, by default the process's environment. Throws InputError naming the variable. */
export function readEnv(source: Readonly<Record<string, string | undefined>> = processEnv()): Env {
  const parsed = Object.entries(variables).map(([name, { parse, values }]) => {
    const text = source[name] ?? "";
    const value = parse(text);
    if (value === undefined) throw new InputError(name, `expected ${values}, got ${JSON.stringify(text)}`);
    return [name, value];
  });
  // One entry per variable, of the type that its own parser gives.
  return Object.fromEntries(parsed) as Env;
}

/** The folder for what can be found out again: `CIUIC_CACHE`, or where the system keeps such things. */
export function cacheHome(source: Readonly<Record<string, string | undefined>> = processEnv()): string {
  const { CIUIC_CACHE, XDG_CACHE_HOME, LOCALAPPDATA, HOME } = source;
  if (CIUIC_CACHE) return CIUIC_CACHE;
  const home = XDG_CACHE_HOME || LOCALAPPDATA || `${HOME || "/tmp"}/.cache`;
  return `${home}/ciuic`;
}

/** Where the environment says that Vulkan's drivers are described. */
export function vulkanDrivers(source: Readonly<Record<string, string | undefined>> = processEnv()): string {
  const { VK_DRIVER_FILES, VK_ICD_FILENAMES } = source;
  return VK_DRIVER_FILES || VK_ICD_FILENAMES || "";
}

function processEnv(): Readonly<Record<string, string | undefined>> {
  return typeof process === "undefined" ? {} : (process.env ?? {});
}
