/**
 * Lowering of `dotGroups` for GPUs, whose invocations multiply four codes of each row of a block (four rows, or eight where
 * a byte holds two codes) by one load of 16 bytes (a *chunk*). Codes of weights become signed, so that only another zero
 * point than the middle needs the sum of the input's.
 *
 * - *rows*: few tokens. Some invocations of a workgroup share a block of rows and take its chunks in turn, so that together
 *   they read one stretch of memory; each loaded chunk serves a tile of tokens.
 * - *tiles*: many tokens (`dot-tiles.ts`).
 */

import { UnsupportedError } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Expr, extract, iadd, idiv, imul, int, irem, op, select } from "../../ir/kernel/kernel.ts";
import { note, store, when } from "../../ir/kernel/stmt.ts";
import { dotBlock, pairBits } from "../../ir/ops/dot.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { Chunks, perGroup, type Tokens } from "./dot-chunks.ts";
import { lowerDotExperts } from "./dot-experts.ts";
import { type Dot, sumsOf } from "./dot-group-parts.ts";
import { stageInput } from "./dot-input.ts";
import { lowerDotTiles } from "./dot-tiles.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerDotWorkgroup(w: KernelWriter, anchor: Node, group: Group, workgroup: Workgroup): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  if (bits === pairBits) throw new UnsupportedError("dotGroups", `pairs of codes on target ${w.target.name}`);
  const lead = anchor.type.shape.slice(0, -1);
  const packed = anchor.ins[3]!.type.shape;
  const [blocks, groups] = packed.slice(-5) as [number, number]; // as packed
  const last = packed.length === 5 ? (lead.at(-1) ?? 1) : 1;
  const tokens = dividing(last, [4, 2, 1]);
  const sizes = { lead, blocks, fours: dotBlock(bits) / 4, groups, tokens };
  const dot: Dot = { w, group, bits, rest: zero - (bits === 4 ? 8 : 128), ...sizes };
  if (last >= 16) lowerDotTiles(dot, workgroup);
  else if (!lowerDotExperts(dot, workgroup)) lowerRows(dot, workgroup);
}

/** Invocations that a GPU wants at least: enough loads on their way to keep its memory busy. */
const busy = 1 << 16;

function lowerRows(dot: Dot, { invocations, most = invocations }: Workgroup): void {
  const { w, group, lead, blocks, fours, groups, tokens } = dot;
  const chunks = groups * perGroup;
  const tiles = lead.reduce((product, size) => product * size, 1 / tokens);
  let perBlock = Math.min(32, invocations);
  while (perBlock < Math.min(512, most) && perBlock * blocks * tiles < busy && chunks >= 4 * perBlock) perBlock *= 2;
  const [codes] = group.anchor.ins as [Node]; // and more
  // Codes without a buffer are computed here.
  const quantizes = !w.isBuffer(codes);
  // What is quantised serves as many blocks as may be.
  const together = Math.max(1, Math.min(most, quantizes ? 256 : 128) / perBlock);
  w.emit(note(`${tokens} tokens by ${together} blocks of ${4 * fours} rows, ${perBlock} invocations a block`));
  const body = (idx: Tokens, firstBlock: Expr): void =>
    w.workgroup(perBlock * together, ({ lane, size }) => {
      const mine = w.bind("block", iadd(firstBlock, idiv(lane, int(perBlock))));
      const start = w.bind("start", irem(lane, int(perBlock)));
      // What is past the end is computed from the last block and not stored.
      const block = blocks % together === 0 ? mine : w.bind("inside", clampTo(mine, blocks));
      const sums = sumsOf(dot, idx);
      const walk = new Chunks(dot, { lane: start, size: perBlock }, chunks, idx, block);
      if (quantizes) walk.loadFirst();
      const staged = quantizes ? stageInput(w, codes, idx[0]!, { lane, size }) : null;
      walk.add(sums, staged);
      const totals = sums.map((own) => own.map((sum) => w.combine("total", "add", sum, perBlock)));
      storeRows(dot, totals, idx, { block, start, inside: op("lt", mine, int(blocks)) });
    });
  overLead(dot, tokens, (idx) => w.loop("b", blocks, (block) => body(idx, block), "grid", together));
}

interface OwnRow {
  readonly block: Expr;
  /** Which of the block's invocations this is. */
  readonly start: Expr;
  /** Whether the block is one of the result's. */
  readonly inside: Expr;
}

/** The first invocations of a block store a row each. */
function storeRows(
  dot: Dot,
  totals: readonly (readonly Expr[])[],
  idx: Tokens,
  { block, start, inside }: OwnRow,
): void {
  const { w, group, lead, blocks, fours } = dot;
  const rows = 4 * fours;
  // Every invocation has a row, since what the epilogue sums may stand before the condition below.
  const own = w.bind("own", irem(start, int(rows)));
  const [each, row] = [w.bind("each", irem(own, int(4))), w.bind("row", iadd(imul(block, int(rows)), own))];
  const stores = w.nested(() => {
    for (const [t, [low, high]] of totals.entries()) {
      const at = [...idx[t]!, row];
      const lane = (i: number) =>
        high === undefined ? extract(low!, i) : select(op("lt", own, int(4)), extract(low!, i), extract(high, i));
      const mine = select(
        op("lt", each, int(2)),
        select(op("eq", each, int(0)), lane(0), lane(1)),
        select(op("eq", each, int(2)), lane(2), lane(3)),
      );
      w.hold(group.anchor, () => mine);
      w.emit(store(w.out, flatten(at, [...lead, blocks * rows]), w.value(group.root, at)));
    }
  });
  w.emit(when(op("and", op("lt", start, int(rows)), inside), stores));
}

/** Grid loops over the leading indices, the last in steps; the body gets those of the step's tokens. */
function overLead({ w, lead, tokens }: Dot, step: number, body: (idx: Tokens) => void): void {
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis === lead.length) {
      body(range(lead.length === 0 ? 1 : tokens).map((t) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))))));
      return;
    }
    w.loop(
      "nkl"[axis] ?? "l",
      lead[axis]!,
      (i) => enter(axis + 1, [...idx, i]),
      "grid",
      axis === lead.length - 1 ? step : 1,
    );
  };
  enter(0, []);
}

/** The first of these sizes that divides. */
function dividing(size: number, sizes: readonly number[]): number {
  return sizes.find((each) => size % each === 0) ?? 1;
}
