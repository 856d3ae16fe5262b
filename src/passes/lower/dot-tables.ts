/**
 * What a tile of `dotGroups` needs of each token and group beside the codes: scales and the zero point's share. Computed
 * for all of them before the tiles, since tiles of other rows need the same; a tile then spreads them as it loads them.
 */
import { invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, imul, int, intrinsic, load, loadBytes, num, op, sum } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { sizeOf } from "../../ir/types.ts";
import type { DotProducts } from "./dot-products.ts";
import { flatten, unflatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** An element of xScale's shape: leading indices of a token, then the group. */
export type Table = (idx: readonly Expr[]) => Expr;

export interface InputTables {
  /** The input's scales, times `times`. */
  readonly scale: Table;
  /** Scales times sums of codes, where weights have minimums. */
  readonly total: Table | undefined;
  /** What first sums are, where products start with the zero point's share. */
  readonly starts: readonly Table[];
  /** The zero point's share in f32, where it comes last. */
  readonly share: Table | undefined;
  /** The input's codes as 16-bit integers, where products take them so. */
  readonly widened: WidenedInput | undefined;
}

/** The four codes from `k` (a multiple of 4) of a token, repeated: the even ones, and the odd ones. */
export type WidenedInput = (idx: readonly Expr[], group: Expr, chunk: number) => readonly [Expr, Expr];

/** Of the scratch that a kernel may have. */
const most = 1 / 4;

export function inputTables(
  w: KernelWriter,
  anchor: Node,
  products: DotProducts,
  { zero, times }: { readonly zero: number; readonly times: number },
): InputTables {
  const [, xScale, xSum] = anchor.ins as [Node, Node, Node, ...Node[]]; // its operands
  const { shape } = xScale.type;
  const size = sizeOf(shape);
  const early = typeof products.start === "string" || zero === 0 ? [] : products.start;
  const multiples = [...new Set(early)];
  const count = 2 + Math.max(1, multiples.length);
  const fits = 4 * size * count <= most * w.target.scratchBytes;
  const table = (hint: string, dtype: "f32" | "i32", make: Table): Table => {
    if (!fits) return make;
    const buf = w.scratch(hint, dtype, size);
    w.loop("i", size, (i) => w.emit(store(buf, i, make(unflatten(i, shape)))));
    return (idx) => load(buf, flatten(idx, shape));
  };
  const scaled = (idx: readonly Expr[]) => {
    const scale = w.value(xScale, idx);
    return times === 1 ? scale : op("mul", scale, num("f32", times));
  };
  const first = (idx: readonly Expr[], each: number) => {
    const value = cast("i32", zeroShare(w, xSum, -zero * each)(idx));
    return products.bias === 0 ? value : iadd(value, int(products.bias));
  };
  const starts = new Map(multiples.map((each) => [each, table("starts", "i32", (idx) => first(idx, each))]));
  const minimums = anchor.ins.length === 6;
  const late = lateShare(w, anchor, products, zero);
  return {
    scale: table("x_scales", "f32", scaled),
    total: minimums ? table("x_totals", "f32", (idx) => op("mul", scaled(idx), w.value(xSum, idx))) : undefined,
    starts: early.map((each) => starts.get(each)!),
    share: late && table("shares", "f32", late),
    widened: products.spread === "widened" ? widenInput(w, anchor.ins[0]!) : undefined,
  };
}

/** A whole number below 2^24, so that f32 is exact too. */
function zeroShare(w: KernelWriter, xSum: Node, times: number): Table {
  return (idx) => op("mul", w.value(xSum, idx), num("f32", times));
}

/** What is added to a group's products at the end. */
function lateShare(w: KernelWriter, anchor: Node, { start }: DotProducts, zero: number): Table | undefined {
  if (start === "negatives") return (idx) => negatives(w, anchor, idx);
  return start === "last" && zero !== 0 ? zeroShare(w, anchor.ins[2]!, -zero) : undefined;
}

/** What the magnitudes of a group's negative codes add up to: half of what all magnitudes are more than the codes. */
function negatives(w: KernelWriter, anchor: Node, idx: readonly Expr[]): Expr {
  const [x, , xSum] = anchor.ins as [Node, Node, Node, ...Node[]]; // its operands
  const halves = [0, 16].flatMap((k) => {
    const at = [...idx.slice(0, -1), iadd(imul(idx.at(-1)!, int(dotGroup)), int(k))];
    const codes = w.bind("codes", intrinsic("magnitudes", vector(w.value(x, at), "i8", 16)));
    return [intrinsic("evens", codes), intrinsic("odds", codes)];
  });
  const total = sum(
    intrinsic(
      "sum2",
      halves.reduce((a, b) => intrinsic("add16", a, b)),
    ),
  );
  return op("mul", op("sub", cast("f32", total), w.value(xSum, idx)), num("f32", 0.5));
}

/** Whether a kernel may have the table that `widenInput` makes, beside the others. */
export function mayWiden(w: KernelWriter, x: Node): boolean {
  return 2 * sizeOf(x.type.shape) <= (3 / 4) * w.target.scratchBytes;
}

/** Widens all of the input once: of 16 codes, eight even ones and then eight odd ones. */
function widenInput(w: KernelWriter, x: Node): WidenedInput {
  const { shape } = x.type;
  const buf = w.scratch("widened", "u8", 2 * sizeOf(shape));
  w.loop("i", sizeOf(shape) / 16, (i) => {
    const k = imul(i, int(16));
    const codes = w.bind("codes", vector(w.value(x, unflatten(k, shape)), "i8", 16));
    for (const [half, name] of (["evens", "odds"] as const).entries())
      w.emit(store(buf, iadd(imul(k, int(2)), int(16 * half)), intrinsic("asBytes", intrinsic(name, codes))));
  });
  return (idx, group, chunk) => {
    const at = flatten([...idx, iadd(imul(group, int(dotGroup)), int(16 * (chunk >> 2)))], shape);
    const pair = (half: number) => {
      const bytes = loadBytes(buf, iadd(imul(at, int(2)), int(16 * half + 4 * (chunk & 3))), 4);
      return intrinsic("asWords", intrinsic("repeat4", bytes));
    };
    return [pair(0), pair(1)];
  };
}

/** The load of an element as a load of consecutive ones from there. */
export function vector(element: Expr, dtype: "i8" | "u8" | "f32", lanes: number): Expr {
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType(dtype, lanes) };
}
