/**
 * Lowering of `dotGroups` for processors with vectors of bytes. Lanes are rows: one vector of weights holds four codes of
 * each of four rows, one of the input the same four codes in every lane, so that sums stay in their lanes and a group's
 * scales are one vector. Several quads of rows are walked at once, because memory delivers faster in several streams; with
 * more than one token, each loaded weight serves a tile of them.
 */
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  cast,
  type Expr,
  extract,
  iadd,
  imul,
  int,
  intrinsic,
  num,
  op,
  type Ref,
  ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import type { ByteDots } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { lowerDotWorkgroup } from "./dot-group.ts";
import { type DotProducts, productsFor } from "./dot-products.ts";
import { lowerDotScalar } from "./dot-scalar.ts";
import { flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly bits: number;
  readonly zero: number;
  readonly products: DotProducts;
  readonly lead: readonly number[];
  readonly groups: number;
  /** Quads of rows, and tokens, of one tile. */
  readonly quads: number;
  readonly tokens: number;
  /** From one quad of a tile to the next. */
  readonly apart: number;
}

export function lowerDotGroups(w: KernelWriter, anchor: Node, group: Group): void {
  const { byteDots, workgroup } = w.target;
  if (workgroup !== null && byteDots !== null) lowerDotWorkgroup(w, anchor, group, workgroup);
  else if (byteDots === null) lowerDotScalar(w, anchor, group);
  else lowerDotVectors(w, anchor, group, byteDots);
}

function lowerDotVectors(w: KernelWriter, anchor: Node, group: Group, byteDots: ByteDots): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const lead = anchor.type.shape.slice(0, -1);
  const [quads, groups] = anchor.ins[3]!.type.shape.slice(-5) as [number, number]; // as packed
  const shared = anchor.ins[3]!.type.shape.length === 5;
  const divides = (size: number, sizes: readonly number[]) => sizes.find((each) => size % each === 0)!;
  const tokens = shared ? divides(lead.at(-1) ?? 1, [4, 2, 1]) : 1;
  const products = productsFor(byteDots, bits);
  // At least eight tiles, so that threads have something to share.
  const fits = (each: number) => quads % each === 0 && quads / each >= 8;
  const tile = [16, 8, 4, 2].find((each) => each <= products.quads[tokens === 1 ? 0 : 1] && fits(each)) ?? 1;
  w.emit(note(`tile: ${tokens} tokens by ${tile} quads of rows`));
  // Quads far apart, so that each stream goes on where it was from one tile to the next.
  const far = tokens === 1;
  const dot: Dot = { w, group, bits, zero, products, lead, groups, quads: tile, tokens, apart: far ? quads / tile : 1 };
  const enter = (axis: number, idx: readonly Expr[], quad: Expr): void => {
    if (axis === lead.length) {
      writeTile(dot, idx, quad);
      return;
    }
    const step = axis === lead.length - 1 ? tokens : 1;
    w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i], quad), "serial", step);
  };
  w.loop("q", far ? quads / tile : quads, (quad) => enter(0, [], quad), "grid", far ? 1 : tile);
}

/** Sums of one tile over all groups, then the epilogue of each row. */
function writeTile(dot: Dot, idx: readonly Expr[], quad: Expr): void {
  const { w, group, lead, groups, quads, tokens, apart } = dot;
  const token = (t: number) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))));
  const sums = range(tokens).map(() => range(quads).map(() => ref(w.unique("sum"), valueType("f32", 4))));
  for (const sum of sums.flat()) w.emit(variable(sum.name, splat(num("f32", 0), 4)));
  w.loop("g", groups, (g) => writeGroup(dot, { g, quad, sums, token }));
  for (const t of range(tokens)) {
    for (const u of range(quads)) {
      for (const lane of range(4)) {
        const at = [...token(t), iadd(imul(iadd(quad, int(apart * u)), int(4)), int(lane))];
        w.hold(group.anchor, () => extract(sums[t]![u]!, lane));
        w.emit(store(w.out, flatten(at, [...lead, group.root.type.shape.at(-1)!]), w.value(group.root, at)));
      }
    }
  }
}

interface Place {
  readonly g: Expr;
  readonly quad: Expr;
  /** Per token and quad of the tile. */
  readonly sums: readonly (readonly Ref[])[];
  /** The leading indices of a token of the tile. */
  readonly token: (t: number) => readonly Expr[];
}

/** Adds one group's products to the tile's sums. */
function writeGroup(dot: Dot, { g, quad, sums, token }: Place): void {
  const { w, group, bits, zero, products, quads, tokens, apart } = dot;
  const [x, xScale, xSum, weights, wScale, wMin] = group.anchor.ins as [Node, Node, Node, Node, Node, Node?]; // its operands
  const own = (node: Node, at: readonly Expr[], trailing: number) => at.slice(0, node.type.shape.length - trailing);
  const at = (node: Node, t: number, trailing: number, ...rest: readonly Expr[]) =>
    w.value(node, [...own(node, token(t), trailing), ...rest]);
  const quadAt = (u: number) => iadd(quad, int(apart * u));
  /** A chunk meets four codes of the input, or, with two codes in a byte, twice four. */
  const halves = range(tokens).map((t) =>
    [0, 16].map((k) => w.bind("codes", vector(at(x, t, 1, iadd(imul(g, int(dotGroup)), int(k))), "i8", 16))),
  );
  const inputs = (t: number, chunk: number): readonly Expr[] =>
    (bits === 4 ? [chunk, chunk + 4] : [chunk]).flatMap((each) => {
      const four = intrinsic("spread4", halves[t]![each >> 2]!, int(each & 3));
      return products.inputs(w.bind("x", four)).map((made) => w.bind("x", made));
    });
  const codes = (u: number, chunk: number): readonly Expr[] => {
    const from = (row: number, lanes: number) =>
      vector(at(weights, 0, 5, quadAt(u), g, int(chunk), int(row), int(0)), "u8", lanes);
    // A byte of two codes is read once.
    return products.weights(bits === 4 ? w.bind("bytes", from(0, 16)) : from(0, 16), (i) => from(2 * i, 8));
  };
  const start = zero === 0 ? "none" : products.start;
  // Written where first used: what waits in registers for its turn is put aside in memory.
  const once = (make: (t: number) => Expr) => {
    const made: Expr[] = [];
    return (t: number) => {
      made[t] ??= make(t);
      return made[t];
    };
  };
  // What the zero point adds to each row is a whole number below 2^24, so that f32 is exact too.
  const early = tokens === 1 && start === "first";
  const startOf = once((t) => {
    const share = op("mul", splat(at(xSum, t, 1, g), 4), splat(num("f32", -zero), 4));
    return w.bind("start", early ? cast("i32", share) : share);
  });
  const first = (t: number) => (products.start === "last" ? undefined : [early ? startOf(t) : splat(int(0), 4)]);
  const xScaleOf = once((t) => w.bind("x_scale", splat(at(xScale, t, 1, g), 4)));
  const xTotalOf = once((t) => w.bind("x_total", op("mul", xScaleOf(t), splat(at(xSum, t, 1, g), 4))));
  const ofRows = (node: Node, u: number) =>
    w.bind("scale", intrinsic("finite", vector(at(node, 0, 3, quadAt(u), g, int(0)), "f32", 4)));
  const scalesOf = (u: number): readonly Expr[] => [wScale, ...(wMin ? [wMin] : [])].map((node) => ofRows(node, u));
  const add = (t: number, u: number, parts: readonly Expr[], [scale, minimum]: readonly Expr[]): void => {
    const total = cast("f32", products.finish(parts));
    const dots = start === "none" || early ? total : op("add", total, startOf(t));
    const sum = sums[t]![u]!;
    w.emit(assign(sum.name, intrinsic("fma", dots, op("mul", scale!, xScaleOf(t)), sum)));
    if (minimum !== undefined) w.emit(assign(sum.name, intrinsic("fma", minimum, xTotalOf(t), sum)));
  };
  if (tokens === 1) {
    const all = range(bits).map((chunk) => inputs(0, chunk));
    for (const u of range(quads)) {
      let parts: readonly Expr[] | undefined = first(0);
      // Bound chunk by chunk: in one expression, all codes would be unpacked before the first is used.
      for (const chunk of range(bits)) {
        const next = products.step(parts, all[chunk]!, codes(u, chunk));
        parts = chunk === bits - 1 ? next : next.map((made) => w.bind("dot", made));
      }
      add(0, u, parts!, scalesOf(u));
    }
    return;
  }
  const parts: (readonly Ref[] | undefined)[][] = range(tokens).map(() => range(quads).map(() => undefined));
  for (const chunk of range(bits)) {
    const ws = range(quads).map((u) => codes(u, chunk).map((made) => w.bind("codes", made)));
    for (const t of range(tokens)) {
      const vectors = inputs(t, chunk);
      for (const u of range(quads)) {
        const known = parts[t]![u];
        const next = products.step(known ?? first(t), vectors, ws[u]!);
        if (known !== undefined) for (const [i, { name }] of known.entries()) w.emit(assign(name, next[i]!));
        else {
          parts[t]![u] = next.map((value) => {
            const made = ref(w.unique("dot"), value.type);
            w.emit(variable(made.name, value));
            return made;
          });
        }
      }
    }
  }
  const scales = range(quads).map(scalesOf);
  for (const t of range(tokens)) for (const u of range(quads)) add(t, u, parts[t]![u]!, scales[u]!);
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

/** The load of an element as a load of consecutive ones from there. */
function vector(element: Expr, dtype: "i8" | "u8" | "f32", lanes: number): Expr {
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType(dtype, lanes) };
}
