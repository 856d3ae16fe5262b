/**
 * What a tile of `dotGroups` needs of each token and group beside the codes: scales and the zero point's share. Computed
 * for all of them before the tiles, since tiles of other rows need the same; a tile then spreads them as it loads them.
 */
import type { Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, int, load, num, op } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
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
}

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
  const { start } = products;
  const multiples = typeof start === "string" || zero === 0 ? [] : [...new Set(start)];
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
  // A whole number below 2^24, so that f32 is exact too.
  const share = (idx: readonly Expr[], each: number) => op("mul", w.value(xSum, idx), num("f32", -zero * each));
  const first = (idx: readonly Expr[], each: number) => {
    const value = cast("i32", share(idx, each));
    return products.bias === 0 ? value : iadd(value, int(products.bias));
  };
  const starts = new Map(multiples.map((each) => [each, table("starts", "i32", (idx) => first(idx, each))]));
  const minimums = anchor.ins.length === 6;
  return {
    scale: table("x_scales", "f32", scaled),
    total: minimums ? table("x_totals", "f32", (idx) => op("mul", scaled(idx), w.value(xSum, idx))) : undefined,
    starts: typeof start === "string" || zero === 0 ? [] : start.map((each) => starts.get(each)!),
    share: start === "last" && zero !== 0 ? table("shares", "f32", (idx) => share(idx, 1)) : undefined,
  };
}
