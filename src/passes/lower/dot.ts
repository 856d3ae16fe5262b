/**
 * Lowering of `dotGroups` for processors with products of bytes. Lanes are rows: one vector of weights holds four codes of
 * each of four rows, one of the input the same four codes in every lane, so that sums stay in their lanes and a group's
 * scales are one vector. Several quads of rows are walked at once, because memory delivers faster in several streams; with
 * more than one token, each loaded weight serves a tile of them.
 */
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { cast, type Expr, extract, iadd, imul, int, intrinsic, num, op, ref, splat } from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import type { Group } from "../fuse.ts";
import { lowerDotScalar } from "./dot-scalar.ts";
import { flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly bits: number;
  readonly zero: number;
  readonly lead: readonly number[];
  readonly groups: number;
  /** Quads of rows, and tokens, of one tile. */
  readonly quads: number;
  readonly tokens: number;
}

export function lowerDotGroups(w: KernelWriter, anchor: Node, group: Group): void {
  if (w.target.byteDots) lowerDotVectors(w, anchor, group);
  else lowerDotScalar(w, anchor, group);
}

function lowerDotVectors(w: KernelWriter, anchor: Node, group: Group): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const lead = anchor.type.shape.slice(0, -1);
  const [quads, groups] = anchor.ins[3]!.type.shape.slice(-5) as [number, number]; // as packed
  const shared = anchor.ins[3]!.type.shape.length === 5;
  const divides = (size: number, sizes: readonly number[]) => sizes.find((each) => size % each === 0)!;
  const tokens = shared ? divides(lead.at(-1) ?? 1, [4, 2, 1]) : 1;
  // At least eight tiles, so that threads have something to share.
  const tile = (tokens === 1 ? [8, 4, 2, 1] : [2, 1]).find((each) => quads % each === 0 && quads / each >= 8) ?? 1;
  w.emit(note(`tile: ${tokens} tokens by ${tile} quads of rows`));
  const dot: Dot = { w, group, bits, zero, lead, groups, quads: tile, tokens };
  const enter = (axis: number, idx: readonly Expr[], quad: Expr): void => {
    if (axis === lead.length) {
      writeTile(dot, idx, quad);
      return;
    }
    const step = axis === lead.length - 1 ? tokens : 1;
    w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i], quad), "serial", step);
  };
  w.loop("q", quads, (quad) => enter(0, [], quad), "grid", tile);
}

/** Sums of one tile over all groups, then the epilogue of each row. */
function writeTile({ w, group, bits, zero, lead, groups, quads, tokens }: Dot, idx: readonly Expr[], quad: Expr): void {
  const [x, xScale, xSum, weights, wScale] = group.anchor.ins as [Node, Node, Node, Node, Node]; // dotGroups takes five
  const range = (length: number) => Array.from({ length }, (_, i) => i);
  const token = (t: number) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))));
  const own = (node: Node, at: readonly Expr[], trailing: number) => at.slice(0, node.type.shape.length - trailing);
  const sums = range(tokens).map(() => range(quads).map(() => ref(w.unique("sum"), valueType("f32", 4))));
  for (const sum of sums.flat()) w.emit(variable(sum.name, splat(num("f32", 0), 4)));
  w.loop("g", groups, (g) => {
    // Four codes of the input in every lane.
    const four = (t: number, chunk: number): Expr => {
      const at = [...own(x, token(t), 1), iadd(imul(g, int(dotGroup)), int(4 * chunk))];
      return w.bind("x", intrinsic("repeat4", vector(w.value(x, at), "i8", 4)));
    };
    const weight = (u: number, chunk: number): Expr => {
      const at = [...own(weights, idx, 5), iadd(quad, int(u)), g, int(chunk), int(0), int(0)];
      return w.bind("codes", vector(w.value(weights, at), "u8", 16));
    };
    const start = range(tokens).map((t) => {
      const share = op("mul", w.value(xSum, [...own(xSum, token(t), 1), g]), num("f32", -zero));
      return w.bind("start", splat(cast("i32", share), 4));
    });
    const xs = range(tokens).map((t) => w.bind("x_scale", splat(w.value(xScale, [...own(xScale, token(t), 1), g]), 4)));
    const add = (t: number, u: number, products: Expr): void => {
      const scales = vector(w.value(wScale, [...own(wScale, idx, 3), iadd(quad, int(u)), g, int(0)]), "f32", 4);
      const scaled = op("mul", scales, xs[t]!);
      w.emit(assign(sums[t]![u]!.name, intrinsic("fma", cast("f32", products), scaled, sums[t]![u]!)));
    };
    const products = (from: Expr, codes: Expr, chunk: number, input: (chunk: number) => Expr): Expr => {
      if (bits === 8) return intrinsic("dot4u8", from, input(chunk), codes);
      const low = intrinsic("dot4i8", from, input(chunk), intrinsic("low4", codes));
      return intrinsic("dot4i8", low, input(chunk + 4), intrinsic("high4", codes));
    };
    if (tokens === 1) {
      const inputs = range(8).map((chunk) => four(0, chunk));
      for (const u of range(quads)) {
        const chain = (sum: Expr, chunk: number) => products(sum, weight(u, chunk), chunk, (c) => inputs[c]!);
        add(0, u, range(bits).reduce(chain, start[0]!));
      }
      return;
    }
    const partial = range(tokens).map((t) => range(quads).map(() => ({ name: w.unique("dot"), init: start[t]! })));
    for (const { name, init } of partial.flat()) w.emit(variable(name, init));
    for (const chunk of range(bits)) {
      const codes = range(quads).map((u) => weight(u, chunk));
      for (const t of range(tokens)) {
        for (const u of range(quads)) {
          const { name, init } = partial[t]![u]!;
          w.emit(
            assign(
              name,
              products(ref(name, init.type), codes[u]!, chunk, (c) => four(t, c)),
            ),
          );
        }
      }
    }
    for (const t of range(tokens))
      for (const u of range(quads)) add(t, u, ref(partial[t]![u]!.name, valueType("i32", 4)));
  });
  for (const t of range(tokens)) {
    for (const u of range(quads)) {
      for (const lane of range(4)) {
        const at = [...token(t), iadd(imul(iadd(quad, int(u)), int(4)), int(lane))];
        w.hold(group.anchor, () => extract(sums[t]![u]!, lane));
        w.emit(store(w.out, flatten(at, [...lead, group.root.type.shape.at(-1)!]), w.value(group.root, at)));
      }
    }
  }
}

/** The load of an element as a load of consecutive ones from there. */
function vector(element: Expr, dtype: "i8" | "u8" | "f32", lanes: number): Expr {
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType(dtype, lanes) };
}
