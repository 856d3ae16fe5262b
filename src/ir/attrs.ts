/**
 * Attributes of ops: a spec says which an op takes, `showAttrs` is their one spelling, used for interning and in text.
 * The spelling is injective: different attributes never print alike (-0, NaN and the infinities included).
 */
import { IrError, showValue } from "./errors.ts";
import { type DType, isDType } from "./types.ts";

interface AttrTypes {
  int: number;
  number: number;
  string: string;
  bool: boolean;
  ints: readonly number[];
  dtype: DType;
}

export type AttrKind = keyof AttrTypes;

/** Attribute name to kind; a kind ending in `?` may be left out. */
export type AttrSpec = Readonly<Record<string, AttrKind | `${AttrKind}?`>>;

export type AttrValue = AttrTypes[AttrKind];
export type Attrs = Readonly<Record<string, AttrValue>>;

/** The TypeScript type of the attributes that a spec describes. */
export type AttrsFor<S extends AttrSpec> = {
  readonly [K in keyof S as S[K] extends AttrKind ? K : never]: S[K] extends AttrKind ? AttrTypes[S[K]] : never;
} & {
  readonly [K in keyof S as S[K] extends AttrKind ? never : K]?: S[K] extends `${infer A extends AttrKind}?`
    ? AttrTypes[A]
    : never;
};

/** `{axis=1, name="w"}` in alphabetical order; nothing for no attributes. */
export function showAttrs(attrs: Attrs): string {
  const parts = Object.keys(attrs)
    .sort()
    .map((name) => `${name}=${showAttr(attrs[name]!)}`);
  return parts.length === 0 ? "" : `{${parts.join(", ")}}`;
}

function showAttr(value: AttrValue): string {
  if (typeof value === "number") return showNumber(value);
  if (typeof value === "object") return `[${value.map(showNumber).join(", ")}]`;
  return JSON.stringify(value);
}

/** Decimal text that reads back as the same double: `-0`, `NaN`, `inf` and `-inf` included. */
export function showNumber(value: number): string {
  if (Object.is(value, -0)) return "-0";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  return String(value);
}

const checks: Record<AttrKind, (value: unknown) => boolean> = {
  int: (value) => Number.isSafeInteger(value) && !Object.is(value, -0),
  number: (value) => typeof value === "number",
  string: (value) => typeof value === "string",
  bool: (value) => typeof value === "boolean",
  ints: (value) => Array.isArray(value) && value.every((item) => checks.int(item)),
  dtype: (value) => typeof value === "string" && isDType(value),
};

/** Throws unless `attrs` has exactly what `spec` asks for. */
export function checkAttrs(op: string, spec: AttrSpec, attrs: Attrs): void {
  for (const [name, kind] of Object.entries(spec)) {
    const optional = kind.endsWith("?");
    if (!Object.hasOwn(attrs, name)) {
      if (!optional) throw new IrError(op, `attribute ${name} is missing: expected ${kind}`);
      continue;
    }
    const base = (optional ? kind.slice(0, -1) : kind) as AttrKind; // the template type guarantees the prefix
    if (!checks[base](attrs[name])) {
      throw new IrError(op, `attribute ${name}: expected ${base}, got ${showValue(attrs[name])}`);
    }
  }
  for (const name of Object.keys(attrs)) {
    if (!Object.hasOwn(spec, name)) {
      const known = Object.keys(spec).join(", ") || "none";
      throw new IrError(op, `unknown attribute ${name}`, { hint: `Attributes of ${op}: ${known}.` });
    }
  }
}
