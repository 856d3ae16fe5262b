/**
 * Lowering of `dotGroups` for processors with vectors of bytes. Lanes are rows: one vector of weights holds four codes of
 * each of four rows (or of eight, two to a byte), one of the input the same four codes in every lane, so that sums stay in
 * their lanes and a group's scales are one vector for each four rows. Several blocks of rows are walked at once, because
 * memory delivers faster in several streams; with more than one token, each loaded weight serves a tile of them.
 */
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
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
import { dotBlock, dotGroup } from "../../ir/ops/dot.ts";
import type { ByteDots } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { lowerDotWorkgroup } from "./dot-group.ts";
import { type DotProducts, productsFor } from "./dot-products.ts";
import { lowerDotScalar } from "./dot-scalar.ts";
import { type InputTables, inputTables, type Table } from "./dot-tables.ts";
import { flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

interface Dot {
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

export function lowerDotGroups(w: KernelWriter, anchor: Node, group: Group): void {
  const { byteDots, workgroup } = w.target;
  if (workgroup !== null && byteDots !== null) lowerDotWorkgroup(w, anchor, group, workgroup);
  else if (byteDots === null) lowerDotScalar(w, anchor, group);
  else lowerDotVectors(w, anchor, group, byteDots);
}

function lowerDotVectors(w: KernelWriter, anchor: Node, group: Group, byteDots: ByteDots): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const lead = anchor.type.shape.slice(0, -1);
  const [blocks, groups] = anchor.ins[3]!.type.shape.slice(-5) as [number, number]; // as packed
  const shared = anchor.ins[3]!.type.shape.length === 5;
  const divides = (size: number, sizes: readonly number[]) => sizes.find((each) => size % each === 0)!;
  const tokens = shared ? divides(lead.at(-1) ?? 1, [4, 2, 1]) : 1;
  const products = productsFor(byteDots, bits, tokens > 1);
  // At least eight tiles, so that threads have something to share.
  const fits = (each: number) => blocks % each === 0 && blocks / each >= 8;
  const most = tokens === 1 ? products.one : products.several;
  const tile = [16, 8, 4, 2].find((each) => each <= most.blocks && fits(each)) ?? 1;
  w.emit(note(`tile: ${tokens} tokens by ${tile} blocks of ${dotBlock(bits)} rows`));
  // Blocks far apart, so that each stream goes on where it was from one tile to the next.
  const far = tokens === 1;
  const sizes = { lead, groups, blocks: tile, tokens, together: most.together, apart: far ? blocks / tile : 1 };
  const tables = inputTables(w, anchor, products, { zero, times: tokens === 1 && smallScales(group) ? 2 ** 80 : 1 });
  const dot: Dot = { w, group, tables, products, ...sizes };
  const enter = (axis: number, idx: readonly Expr[], block: Expr): void => {
    if (axis === lead.length) {
      writeTile(dot, idx, block);
      return;
    }
    const step = axis === lead.length - 1 ? tokens : 1;
    w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i], block), "serial", step);
  };
  w.loop("b", far ? blocks / tile : blocks, (block) => enter(0, [], block), "grid", far ? 1 : tile);
}

/** Sums of one tile over all groups, then the epilogue of each row. */
function writeTile(dot: Dot, idx: readonly Expr[], block: Expr): void {
  const { w, group, products, lead, groups, blocks, tokens, apart } = dot;
  const token = (t: number) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))));
  const fours = products.factors.length;
  const sums = range(tokens).map(() =>
    range(blocks).map(() => range(fours).map(() => ref(w.unique("sum"), valueType("f32", 4)))),
  );
  for (const sum of sums.flat(2)) w.emit(variable(sum.name, splat(num("f32", 0), 4)));
  w.loop("g", groups, (g) => writeGroup(dot, { g, block, sums, token }));
  const back = tokens === 1 && smallScales(group) ? 2 ** 32 : 1;
  for (const t of range(tokens)) {
    for (const u of range(blocks)) {
      for (const four of range(fours)) {
        const sum = sums[t]![u]![four]!;
        if (back !== 1) w.emit(assign(sum.name, op("mul", sum, splat(num("f32", back), 4))));
        for (const lane of range(4)) {
          const row = iadd(imul(iadd(block, int(apart * u)), int(4 * fours)), int(4 * four + lane));
          const at = [...token(t), row];
          w.hold(group.anchor, () => extract(sum, lane));
          w.emit(store(w.out, flatten(at, [...lead, group.root.type.shape.at(-1)!]), w.value(group.root, at)));
        }
      }
    }
  }
}

/**
 * Scales in f16 are read 2^112 times too small, which costs nothing; the input's scales make up for 2^80 of that, since
 * they could overflow, and the rest is done at the end. Powers of two change no rounding.
 */
function smallScales({ anchor }: Group): boolean {
  return anchor.ins.slice(4).every(({ type }) => type.dtype === "f16");
}

interface Place {
  readonly g: Expr;
  readonly block: Expr;
  /** Per token and block of the tile, and four rows. */
  readonly sums: readonly (readonly (readonly Ref[])[])[];
  /** The leading indices of a token of the tile. */
  readonly token: (t: number) => readonly Expr[];
}

/** Adds one group's products to the tile's sums. */
function writeGroup(dot: Dot, place: Place): void {
  const group = { ...readCodes(dot, place), ...readScales(dot, place) };
  if (dot.tokens === 1) addForOne(dot, group);
  else addForSeveral(dot, group);
}

type ReadGroup = ReturnType<typeof readCodes> & ReturnType<typeof readScales>;

function addForOne({ w, products, blocks, together }: Dot, { inputs, codes, first, scalesOf, add }: ReadGroup): void {
  const all = range(chunks).map((chunk) => inputs(0, chunk));
  for (let from = 0; from < blocks; from += together) {
    const us = range(blocks).slice(from, from + together);
    const parts: (readonly Expr[] | undefined)[] = us.map(() => first(0));
    // Bound chunk by chunk: in one expression, all codes would be unpacked before the first is used.
    for (const chunk of range(chunks)) {
      for (const [i, u] of us.entries()) {
        const next = products.step(parts[i], all[chunk]!, codes(u, chunk));
        parts[i] = next.map((made) => w.bind("dot", made));
      }
    }
    for (const [i, u] of us.entries()) add(0, u, parts[i]!, scalesOf(u));
  }
}

/** Blocks one after another, where that many sums fill the registers; what is of the input then serves all of them. */
function addForSeveral(dot: Dot, { inputs, codes, first, scalesOf, add }: ReadGroup): void {
  const { w, products, blocks, tokens, together } = dot;
  for (let from = 0; from < blocks; from += together) {
    const us = range(blocks).slice(from, from + together);
    const parts: (readonly Ref[] | undefined)[][] = range(tokens).map(() => us.map(() => undefined));
    for (const chunk of range(chunks)) {
      const ws = us.map((u) => codes(u, chunk).map((made) => w.bind("codes", made)));
      for (const t of range(tokens)) {
        const vectors = inputs(t, chunk);
        for (const i of us.keys()) {
          const known = parts[t]![i];
          const next = products.step(known ?? first(t), vectors, ws[i]!);
          if (known !== undefined) for (const [j, { name }] of known.entries()) w.emit(assign(name, next[j]!));
          else parts[t]![i] = next.map((value) => variableOf(w, "dot", value));
        }
      }
    }
    const scales = us.map(scalesOf);
    for (const t of range(tokens)) for (const [i, u] of us.entries()) add(t, u, parts[t]![i]!, scales[i]!);
  }
}

/** The leading indices that an operand has, of a token's. */
const own = (node: Node, idx: readonly Expr[], trailing: number): readonly Expr[] =>
  idx.slice(0, node.type.shape.length - trailing);

function readCodes({ w, group, products, tokens, apart }: Dot, { g, block, token }: Place) {
  const [x, , , weights] = group.anchor.ins as [Node, Node, Node, Node, ...Node[]]; // its operands
  const codesAt = (t: number, k: number, lanes: number) =>
    vector(w.value(x, [...own(x, token(t), 1), iadd(imul(g, int(dotGroup)), int(k))]), "i8", lanes);
  const halves = range(tokens).map((t) => [0, 16].map((k) => w.bind("codes", codesAt(t, k, 16))));
  return {
    /** The four codes that a chunk meets. */
    inputs: (t: number, chunk: number): readonly Expr[] => {
      const half = halves[t]?.[chunk >> 2];
      const four =
        half === undefined
          ? intrinsic("repeat4", codesAt(t, 4 * chunk, 4))
          : intrinsic("spread4", half, int(chunk & 3));
      return products.inputs(w.bind("x", four)).map((made) => w.bind("x", made));
    },
    codes: (u: number, chunk: number): readonly Expr[] => {
      const idx = [...own(weights, token(0), 5), iadd(block, int(apart * u)), g, int(chunk)];
      const from = (row: number, lanes: number) => vector(w.value(weights, [...idx, int(row), int(0)]), "u8", lanes);
      // A byte of two codes is read once.
      const whole = products.factors.length > 1 ? w.bind("bytes", from(0, 16)) : from(0, 16);
      return products.weights(whole, (i) => from(2 * i, 8));
    },
  };
}

/** Scales and minimums of a block's rows, for each four. */
type RowScales = readonly (readonly Expr[])[];

function readScales({ w, group, tables, products, tokens, apart }: Dot, { g, block, sums, token }: Place) {
  const { factors } = products;
  const [, xScale, , , wScale, wMin] = group.anchor.ins as [Node, Node, Node, Node, Node, Node?]; // its operands
  // Written where first used: what waits in registers for its turn is put aside in memory.
  const once = <T>(make: (t: number) => T) => {
    const made: T[] = [];
    return (t: number) => {
      made[t] ??= make(t);
      return made[t];
    };
  };
  const spread = (table: Table, t: number) => splat(table([...own(xScale, token(t), 1), g]), 4);
  const starts = once((t) => tables.starts.map((table) => w.bind("start", spread(table, t))));
  const share = once((t) => (tables.share ? w.bind("share", spread(tables.share, t)) : undefined));
  const small = smallScales(group);
  // With one token a factor is the input's, with several the weights'.
  const one = tokens === 1;
  const times = (value: Expr, factor: number) =>
    factor === 1 ? value : op("mul", value, splat(num("f32", factor), value.type.lanes));
  const inputScale = once((t) => w.bind("x_scale", spread(tables.scale, t)));
  const xScales = once((t) => factors.map((factor) => w.bind("x_scale", times(inputScale(t), one ? factor : 1))));
  const xTotal = once((t) => (tables.total ? w.bind("x_total", spread(tables.total, t)) : undefined));
  const ofRows = (node: Node, u: number) =>
    factors.map((factor, four) => {
      const idx = [...own(node, token(0), 3), iadd(block, int(apart * u)), g, int(4 * four)];
      const scales = intrinsic(small ? "shrunk" : "finite", vector(w.value(node, idx), "f32", 4));
      const wanted = one ? 1 : (small ? 2 ** 112 : 1) * (node === wScale ? factor : 1);
      return w.bind("scale", times(scales, wanted));
    });
  return {
    /** What a token's products are added to at first, if anything. */
    first: (t: number): readonly Expr[] | undefined => {
      if (products.start === "last") return undefined;
      return tables.starts.length > 0 ? starts(t) : factors.map(() => splat(int(0), 4));
    },
    scalesOf: (u: number): RowScales => [wScale, ...(wMin ? [wMin] : [])].map((node) => ofRows(node, u)),
    /** Adds a token's products of a block, with its scales, to the tile's sums. */
    add: (t: number, u: number, parts: readonly Expr[], [scales, minimums]: RowScales): void => {
      for (const [four, total] of products.finish(parts).entries()) {
        const late = share(t);
        const dots = late === undefined ? total : op("add", total, late);
        const sum = sums[t]![u]![four]!;
        w.emit(assign(sum.name, intrinsic("fma", dots, op("mul", scales![four]!, xScales(t)[four]!), sum)));
        const least = xTotal(t);
        if (least !== undefined) w.emit(assign(sum.name, intrinsic("fma", minimums![four]!, least, sum)));
      }
    },
  };
}

function variableOf(w: KernelWriter, hint: string, value: Expr): Ref {
  const made = ref(w.unique(hint), value.type);
  w.emit(variable(made.name, value));
  return made;
}

/** Chunks of a group: of four codes each. */
const chunks = dotGroup / 4;

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

/** The load of an element as a load of consecutive ones from there. */
function vector(element: Expr, dtype: "i8" | "u8" | "f32", lanes: number): Expr {
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType(dtype, lanes) };
}
