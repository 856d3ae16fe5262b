/** What a tile of `dotGroups` reads of one group: codes of weights and inputs, scales, and the zero point's share. */
import { invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, intrinsic, num, op, type Stmt, splat } from "../../ir/kernel/kernel.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { dotChunks, dotGroup, pairBits } from "../../ir/ops/dot.ts";
import type { Group } from "../fuse.ts";
import type { WeightReads } from "./dot-panel.ts";
import type { DotProducts } from "./dot-products.ts";
import { type InputTables, type Table, vector } from "./dot-tables.ts";
import type { KernelWriter } from "./writer.ts";

export interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly tables: InputTables;
  readonly products: DotProducts;
  readonly lead: readonly number[];
  readonly groups: number;
  /** Blocks of rows, and tokens, of one tile. */
  readonly blocks: number;
  readonly tokens: number;
  /** Blocks of a tile whose products are made at once. */
  readonly together: number;
  /** From one block of a tile to the next. */
  readonly apart: number;
}

/** The sums of four rows, where the tile keeps them. */
export interface Sum {
  readonly value: Expr;
  readonly set: (value: Expr) => Stmt;
  readonly lane: (i: number) => Expr;
}

export interface Place {
  readonly g: Expr;
  readonly block: Expr;
  /** Per token and block of the tile, and four rows. */
  readonly sums: readonly (readonly (readonly Sum[])[])[];
  /** The leading indices of a token of the tile. */
  readonly token: (t: number) => readonly Expr[];
  readonly weights: WeightReads;
}

/** The leading indices that an operand has, of a token's. */
const ownIndex = (node: Node, idx: readonly Expr[], trailing: number): readonly Expr[] =>
  idx.slice(0, node.type.shape.length - trailing);

/** Weights read where they lie, from the tile's first block on. */
export function weightsInPlace(
  { w, group, products, tokens, apart }: Dot,
  block: Expr,
  idx: readonly Expr[],
): WeightReads {
  const [, , , weights, wScale] = group.anchor.ins as [Node, Node, Node, Node, Node, ...Node[]]; // its operands
  const small = smallScales(group);
  const one = tokens === 1;
  const load = (g: Expr, u: number, chunk: number) => {
    const at = [...ownIndex(weights, idx, 5), iadd(block, int(apart * u)), g, int(chunk), int(0), int(0)];
    return vector(w.value(weights, at), "u8", 16);
  };
  const pairs = weights.type.shape.at(-3) === dotChunks(pairBits);
  return {
    bytes: (g, u, chunk) => {
      // The fifth vector of a group of pairs has the places of all.
      if (pairs) return [w.bind("bytes", load(g, u, chunk)), intrinsic("places16", load(g, u, 4), int(chunk))];
      const whole = load(g, u, chunk);
      // A byte of two codes is read once.
      return products.unpack === undefined ? [whole] : products.unpack.of(w.bind("bytes", whole));
    },
    scales: (which, g, u, four) => {
      const node = group.anchor.ins[4 + which]!;
      const at = [...ownIndex(node, idx, 3), iadd(block, int(apart * u)), g, int(4 * four)];
      // With one token a factor is the input's, with several the weights'.
      const factor = one || node !== wScale ? 1 : products.factors[four]!;
      const scales = intrinsic(one && small ? "shrunk" : "finite", vector(w.value(node, at), "f32", 4));
      return factor === 1 ? scales : op("mul", scales, splat(num("f32", factor), 4));
    },
  };
}

export type ReadGroup = ReturnType<typeof readCodes> & ReturnType<typeof readScales>;

export function readCodes({ w, group, tables, products, tokens }: Dot, { g, token, weights }: Place) {
  const x = group.anchor.ins[0]!;
  const codesAt = (t: number, k: number, lanes: number) =>
    vector(w.value(x, [...ownIndex(x, token(t), 1), iadd(imul(g, int(dotGroup)), int(k))]), "i8", lanes);
  const halves = Array.from({ length: tokens }, (_, t) =>
    [0, 16].map((k) =>
      once(() => {
        const codes = w.bind("codes", codesAt(t, k, 16));
        return products.prepared?.(codes).map((made) => w.bind("codes", made)) ?? [codes];
      }),
    ),
  );
  return {
    /** The four codes that a chunk meets. */
    inputs: (t: number, chunk: number): readonly Expr[] => {
      if (products.spread === "whole") return halves[t]![chunk >> 1]!().flatMap(products.inputs);
      if (tables.widened !== undefined)
        return tables.widened(ownIndex(x, token(t), 1), g, chunk).map((made) => w.bind("x", made));
      const fours =
        products.spread === "loaded"
          ? [intrinsic("repeat4", codesAt(t, 4 * chunk, 4))]
          : halves[t]![chunk >> 2]!().map((codes) => intrinsic("spread4", codes, int(chunk & 3)));
      return fours.flatMap((four) => products.inputs(w.bind("x", four)).map((made) => w.bind("x", made)));
    },
    codes: (u: number, chunk: number): readonly Expr[] => {
      const bytes = weights.bytes(g, u, chunk);
      return products.weights(bytes, (i) => halfOf(bytes[0]!, i));
    },
  };
}

/** Eight bytes of a load of 16. */
function halfOf(whole: Expr, i: number): Expr {
  invariant(whole.k === "load", () => "a dot reads its operands from memory");
  return { ...whole, index: iadd(whole.index, int(8 * i)), type: valueType("u8", 8) };
}

/** Makes a value where it is first used: what waits in registers for its turn is put aside in memory. */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Scales and minimums of a block's rows, for each four. */
export type RowScales = readonly (readonly Expr[])[];

/** What a group of the input is multiplied by and starts with, of each token of the tile. */
function readInputScales({ w, group, tables, products, tokens }: Dot, { g, token }: Place) {
  const [, xScale] = group.anchor.ins as [Node, Node, ...Node[]]; // its operands
  const spread = (table: Table, t: number) => splat(table([...ownIndex(xScale, token(t), 1), g]), 4);
  const times = (value: Expr, factor: number) =>
    factor === 1 ? value : op("mul", value, splat(num("f32", factor), 4));
  return Array.from({ length: tokens }, (_, t) => {
    const scale = once(() => w.bind("x_scale", spread(tables.scale, t)));
    const started = new Map(tables.starts.map((table) => [table, once(() => w.bind("start", spread(table, t)))]));
    return {
      starts: tables.starts.map((table) => started.get(table)!),
      share: once(() => tables.share && w.bind("share", spread(tables.share, t))),
      total: once(() => tables.total && w.bind("x_total", spread(tables.total, t))),
      // With one token a factor is the input's, with several the weights'.
      scales: products.factors.map((factor) => {
        const own = tokens === 1 ? factor : 1;
        return once(() => w.bind("x_scale", times(scale(), own)));
      }),
    };
  });
}

export function readScales(dot: Dot, place: Place) {
  const { w, group, products } = dot;
  const { g, sums, weights } = place;
  const { factors } = products;
  const ofToken = readInputScales(dot, place);
  const params = group.anchor.ins.length - 4;
  return {
    /** What a token's products are added to at first, if anything. */
    first: (t: number): readonly Expr[] | undefined => {
      const { starts } = ofToken[t]!;
      if (starts.length === 0 && products.bias === 0) return undefined;
      return starts.length > 0 ? starts.map((start) => start()) : factors.map(() => splat(int(products.bias), 4));
    },
    scalesOf: (u: number): RowScales =>
      Array.from({ length: params }, (_, which) =>
        factors.map((_, four) => w.bind("scale", weights.scales(which, g, u, four))),
      ),
    /** Adds a token's products of a block, with its scales, to the tile's sums. */
    add: (t: number, u: number, parts: readonly Expr[], [scales, minimums]: RowScales): void => {
      const own = ofToken[t]!;
      for (const [four, total] of products.finish(parts).entries()) {
        const late = own.share();
        const dots = late === undefined ? total : op("add", total, late);
        const sum = sums[t]![u]![four]!;
        const factor = op("mul", scales![four]!, own.scales[four]!());
        const least = own.total();
        const next = intrinsic("fma", dots, factor, sum.value);
        w.emit(sum.set(least === undefined ? next : intrinsic("fma", minimums![four]!, least, next)));
      }
    },
  };
}

/**
 * Scales in f16 are read 2^112 times too small, which costs nothing; the input's scales make up for 2^80 of that, since
 * they could overflow, and the rest is done at the end. Powers of two change no rounding.
 */
export function smallScales({ anchor }: Group): boolean {
  return anchor.ins.slice(4).every(({ type }) => type.dtype === "f16");
}
