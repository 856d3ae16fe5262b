/** Runs the pieces of all ranks in the interpreter, exchanging values between pieces by the ops' own meaning. */
import { attrsOf } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { groupOf, type Mesh, parseOver } from "../../../src/ir/mesh.ts";
import { opDef } from "../../../src/ir/ops/all.ts";
import type { Tensor } from "../../../src/ir/tensor.ts";
import type { WeightSource } from "../../../src/ir/weight.ts";
import type { PieceExchange, Pieces } from "../../../src/passes/shard/pieces.ts";

interface Rank {
  readonly pieces: Pieces;
  readonly values: Map<number, Tensor>;
  /** The piece that is next, and whether it waits for others before it. */
  next: number;
  waits: readonly PieceExchange[];
}

/** `inputs`: those of each rank, in the order of `pieces.params`. */
export function interpretPieces(
  mesh: Mesh,
  programs: readonly Pieces[],
  inputs: readonly (readonly Tensor[])[],
  weights: WeightSource,
  stageAxis: string,
): Tensor[][] {
  const ranks = programs.map((pieces, i): Rank => {
    const values = new Map(pieces.params.map(({ value }, at) => [value, inputs[i]![at]!]));
    return { pieces, values, next: 0, waits: [] };
  });
  const mail = new Map<string, Tensor>();
  let moved = true;
  while (moved) {
    moved = false;
    for (const [number, rank] of ranks.entries()) {
      if (rank.waits.length > 0 || rank.next === rank.pieces.pieces.length) continue;
      const piece = rank.pieces.pieces[rank.next++]!;
      if (piece.module !== null) {
        const args = piece.params.map((value) => rank.values.get(value)!);
        const results = interpret(piece.module, args, { weights });
        for (const [i, value] of piece.results.entries()) rank.values.set(value, results[i]!);
      }
      // Everything is offered at once, as devices do.
      for (const { node, operand } of piece.exchanges) {
        if (opDef(node.op).transfer !== "send") continue;
        const to = groupOf(mesh, number, [stageAxis])[Number(attrsOf(node).stage)]!;
        mail.set(`${number} ${to} ${attrsOf(node).channel}`, rank.values.get(operand!)!);
      }
      rank.waits = piece.exchanges.filter(({ node }) => opDef(node.op).transfer !== "send");
      moved = true;
    }
    for (const [number, rank] of ranks.entries()) {
      for (const wait of rank.waits) {
        if (opDef(wait.node.op).transfer === undefined) continue;
        const from = groupOf(mesh, number, [stageAxis])[Number(attrsOf(wait.node).stage)]!;
        const message = mail.get(`${from} ${number} ${attrsOf(wait.node).channel}`);
        if (message === undefined) continue;
        rank.values.set(wait.result!, message);
        rank.waits = rank.waits.filter((each) => each !== wait);
        moved = true;
      }
      // Ranks of a group are in the same piece with the same exchanges in the same order.
      const [wait] = rank.waits;
      if (wait === undefined || opDef(wait.node.op).across === undefined) continue;
      const group = groupOf(mesh, number, parseOver(String(attrsOf(wait.node).over))).map((each) => ranks[each]!);
      if (group.some(({ next, waits }) => next !== rank.next || waits.length !== rank.waits.length)) continue;
      const operands = group.map(({ values, waits }) => values.get(waits[0]!.operand!)!);
      const results = opDef(wait.node.op).across!(operands, attrsOf(wait.node), wait.node.type);
      for (const [i, each] of group.entries()) {
        each.values.set(each.waits[0]!.result!, results[i]!);
        each.waits = each.waits.slice(1);
      }
      moved = true;
    }
  }
  return ranks.map(({ pieces, values }) => pieces.results.map((value) => values.get(value)!));
}
