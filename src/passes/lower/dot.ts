/**
 * Lowering of `dotGroups` for processors with vectors of bytes. Lanes are rows: one vector of weights holds four codes of
 * each of four rows (or of eight, two to a byte), one of the input the same four codes in every lane, so that sums stay in
 * their lanes and a group's scales are one vector for each four rows. Several blocks of rows are walked at once, because
 * memory delivers faster in several streams; with more than one token, each loaded weight serves a tile of them, and with
 * many the weights of a tile's rows are unpacked once for all (`dot-panel.ts`).
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  irem,
  isub,
  load,
  num,
  op,
  type Ref,
  ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import { dotBlock, dotGroup, dotOrder } from "../../ir/ops/dot.ts";
import type { ByteDots } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import type { Group } from "../fuse.ts";
import { lowerDotWorkgroup } from "./dot-group.ts";
import { chosenBy, orderPairs, type PairTiles } from "./dot-pairs.ts";
import { panelFor, type WeightReads } from "./dot-panel.ts";
import { productsFor } from "./dot-products.ts";
import {
  type Dot,
  once,
  type Place,
  type ReadGroup,
  readCodes,
  readScales,
  type Sum,
  smallScales,
  weightsInPlace,
} from "./dot-reads.ts";
import { lowerDotScalar } from "./dot-scalar.ts";
import { inputTables, mayWiden } from "./dot-tables.ts";
import { flatten, range, unflatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerDotGroups(w: KernelWriter, anchor: Node, group: Group): void {
  const { byteDots, workgroup } = w.target;
  const rows = dotOrder(anchor.ins[3]!.type.shape) === "rows";
  if (workgroup !== null && byteDots !== null && rows) lowerDotWorkgroup(w, anchor, group, workgroup);
  else if (byteDots === null || workgroup !== null || rows) lowerDotScalar(w, anchor, group);
  else lowerDotVectors(w, anchor, group, byteDots);
}

/** Tokens of a tile. */
const mostTokens = 4;
/** How often each of some weights must be chosen, on average, for tiles of those who chose them: the last of each is not full. */
const choicesOfEach = 6;
/**
 * Where weights are chosen this many times more seldom than there are, hardly any is chosen twice: each is read in one piece,
 * so that streams of memory go on from tile to tile, instead of a tile of all those chosen.
 */
const fewOfEach = 4;

function lowerDotVectors(w: KernelWriter, anchor: Node, group: Group, byteDots: ByteDots): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const lead = anchor.type.shape.slice(0, -1);
  const [blocks, groups] = anchor.ins[3]!.type.shape.slice(-5) as [number, number]; // as packed
  const shared = anchor.ins[3]!.type.shape.length === 5;
  const chosen = chosenBy(anchor.ins.slice(3), lead);
  const grouped = chosen !== undefined && sizeOf(lead) >= choicesOfEach * chosen.weights;
  const tokens = grouped
    ? mostTokens
    : shared
      ? [mostTokens, 2, 1].find((each) => (lead.at(-1) ?? 1) % each === 0)!
      : 1;
  const tilesOfEach = tokens === 1 ? 0 : sizeOf(lead) / tokens / (grouped ? chosen.weights : 1);
  const many = (grouped || shared) && tilesOfEach >= 3;
  const widens = many && mayWiden(w, anchor.ins[0]!);
  const products = productsFor(byteDots, bits, widens ? "many" : tokens > 1 ? "several" : "one");
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
  const fours = products.factors.length;
  const panel = many
    ? panelFor(w, { groups, blocks: tile, fours, params: anchor.ins.length - 4, unpack: products.unpack })
    : undefined;
  const order = grouped ? orderPairs(w, chosen, lead, tokens) : undefined;
  const count = far ? blocks / tile : blocks;
  const oneByOne = chosen === undefined || fewOfEach * sizeOf(lead) <= chosen.weights;
  const body = (block: Expr) => {
    if (order === undefined) overTokens(dot, block, panel?.(weightsInPlace(dot, block, [])));
    else w.loop("e", order.weights, (weight) => overPairs(dot, block, order, weight, panel));
  };
  if (tokens === 1 && !shared && oneByOne) overWeights(dot, count);
  else w.loop("b", count, body, "grid", far ? 1 : tile);
}

/** All of a token's own weights, then the next one's: one loop, since tokens alone are too few for threads to share. */
function overWeights(dot: Dot, count: number): void {
  const { w, lead } = dot;
  const each = (i: Expr) => {
    const [block, at] = [w.bind("b", irem(i, int(count))), w.bind("n", idiv(i, int(count)))];
    const token = unflatten(at, lead);
    writeTile(dot, () => token, block, weightsInPlace(dot, block, token));
  };
  w.loop("i", sizeOf(lead) * count, each, "grid");
}

/** The tiles of all tokens in order; weights are read from a panel, or where they lie. */
function overTokens(dot: Dot, block: Expr, panel: WeightReads | undefined): void {
  const { w, lead, tokens } = dot;
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis === lead.length) {
      const token = (t: number) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))));
      writeTile(dot, token, block, panel ?? weightsInPlace(dot, block, idx));
      return;
    }
    const step = axis === lead.length - 1 ? tokens : 1;
    w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), "serial", step);
  };
  enter(0, []);
}

/** The tiles of pairs that chose a weight. */
function overPairs(dot: Dot, block: Expr, order: PairTiles, weight: Expr, panel: ReturnType<typeof panelFor>): void {
  const { w } = dot;
  const [first, end] = order.tilesOf(w, weight);
  const inPlace = (tile: Expr) => weightsInPlace(dot, block, order.pairs(w, tile)[0]!);
  const stmts = w.nested(() => {
    const filled = panel?.(inPlace(first));
    w.loop("i", isub(end, first), (i) => {
      const pairs = order.pairs(w, iadd(first, i));
      writeTile(dot, (t) => pairs[t]!, block, filled ?? weightsInPlace(dot, block, pairs[0]!));
    });
  });
  w.emit(when(op("lt", first, end), stmts));
}

/** Sums of one tile over all groups, then the epilogue of each row. */
function writeTile(dot: Dot, token: Place["token"], block: Expr, weights: WeightReads): void {
  const { w, group, products, lead, groups, blocks, tokens, apart } = dot;
  const fours = products.factors.length;
  const makeSum = sumsFor(dot);
  const sums = range(tokens).map(() => range(blocks).map(() => range(fours).map(() => makeSum())));
  w.loop("g", groups, (g) => writeGroup(dot, { g, block, sums, token, weights }));
  const back = tokens === 1 && smallScales(group) ? 2 ** 32 : 1;
  for (const t of range(tokens)) {
    for (const u of range(blocks)) {
      for (const [four, sum] of sums[t]![u]!.entries()) {
        if (back !== 1) w.emit(sum.set(op("mul", sum.value, splat(num("f32", back), 4))));
        for (const lane of range(4)) {
          const row = iadd(imul(iadd(block, int(apart * u)), int(4 * fours)), int(4 * four + lane));
          const at = [...token(t), row];
          w.hold(group.anchor, () => sum.lane(lane));
          w.emit(store(w.out, flatten(at, [...lead, group.root.type.shape.at(-1)!]), w.value(group.root, at)));
        }
      }
    }
  }
}

/**
 * Makes sums of four rows, zero at first. Those of several tokens do not all find registers beside the products, and an
 * engine's stack may not be aligned: what it puts there and needs in the next iteration may lie across two cache lines,
 * where a load waits for the store long enough to limit the loop. In scratch they are aligned.
 */
function sumsFor({ w, tokens, blocks, products }: Dot): () => Sum {
  const zero = splat(num("f32", 0), 4);
  if (tokens === 1)
    return () => {
      const sum = variableOf(w, "sum", zero);
      return { value: sum, set: (value) => assign(sum.name, value), lane: (i) => extract(sum, i) };
    };
  const buf = w.scratch("sums", "f32", 4 * tokens * blocks * products.factors.length);
  let count = 0;
  return () => {
    const at = 4 * count++;
    const set = (value: Expr) => store(buf, int(at), value);
    w.emit(set(zero));
    return { value: load(buf, int(at), 4), set, lane: (i) => load(buf, int(at + i)) };
  };
}

/** Adds one group's products to the tile's sums. */
function writeGroup(dot: Dot, place: Place): void {
  const group = { ...readCodes(dot, place), ...readScales(dot, place) };
  if (dot.tokens === 1) addForOne(dot, group);
  else addForSeveral(dot, group);
}

function addForOne({ w, products, blocks, together }: Dot, { inputs, codes, first, scalesOf, add }: ReadGroup): void {
  const steps = stepsOf(products);
  const all = range(steps).map((chunk) => once(() => inputs(0, chunk)));
  for (let from = 0; from < blocks; from += together) {
    const us = range(blocks).slice(from, from + together);
    const parts: (readonly Expr[] | undefined)[] = us.map(() => first(0));
    // Bound chunk by chunk: in one expression, all codes would be unpacked before the first is used.
    for (const chunk of range(steps)) {
      for (const [i, u] of us.entries()) {
        const next = products.step(parts[i], all[chunk]!(), codes(u, chunk));
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
    for (const chunk of range(stepsOf(products))) {
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

function variableOf(w: KernelWriter, hint: string, value: Expr): Ref {
  const made = ref(w.unique(hint), value.type);
  w.emit(variable(made.name, value));
  return made;
}

/** Vectors of weights of a group: of four codes of each row, or of the half of eight that stay. */
const stepsOf = ({ spread }: Dot["products"]) => dotGroup / (spread === "whole" ? 8 : 4);
