/**
 * What a rank does between two pieces of its program: gives its operands to those who need them, waits for theirs, and
 * computes what each collective means by the op's own definition, on every rank in the order of the group, so that all
 * ranks have the same bits and a second run has them again.
 */
import type { PieceExchange, RankProgram } from "../../compile-ranks.ts";
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { groupOf, parseOver } from "../../ir/mesh.ts";
import { opDef } from "../../ir/ops/all.ts";
import { type Tensor, type TensorData, tensorFrom } from "../../ir/tensor.ts";
import { sizeOf, type TensorType } from "../../ir/types.ts";
import type { Incoming, Link, Outgoing } from "./link.ts";

export interface ExchangeHome {
  readonly program: Pick<RankProgram, "mesh" | "stageAxis">;
  readonly rank: number;
  readonly link: Link;
  /** Memory of a value. */
  readonly memory: (value: number) => TensorData;
  /** Memory for what comes from others, number `i` of an exchange: other exchanges of the program use it as well. */
  readonly scratch: (type: TensorType, i: number) => Tensor;
  /** Whether a value is needed on the first rank of a group alone, which hands it out. */
  readonly handedOut: (value: number) => boolean;
}

/** What moves in an exchange, and what is to be done when it has. */
interface Moves {
  readonly sends: Outgoing[];
  readonly receives: Incoming[];
  readonly finish: (() => void)[];
}

/**
 * Memory of operands and results is bound once; running is exchanging bytes between that. `at`: how many exchanges come
 * before it.
 */
export function bindExchange(
  exchanges: readonly PieceExchange[],
  at: number,
  home: ExchangeHome,
): (step: number) => Promise<void> {
  const moves: Moves = { sends: [], receives: [], finish: [] };
  let taken = 0;
  const take = (type: TensorType) => home.scratch(type, taken++);
  for (const exchange of exchanges) {
    if (opDef(exchange.node.op).transfer !== undefined) addTransfer(moves, exchange, home);
    else addCollective(moves, exchange, at, home, take);
  }
  const { sends, receives, finish } = moves;
  return async (step) => {
    await home.link.exchange({ step, exchange: at }, sends, receives);
    for (const each of finish) each();
  };
}

function addTransfer({ sends, receives }: Moves, { node, operand, result }: PieceExchange, home: ExchangeHome): void {
  const { program, rank, memory } = home;
  const attrs = attrsOf(node);
  const peer = groupOf(program.mesh, rank, [program.stageAxis])[Number(attrs.stage)];
  invariant(peer !== undefined, () => `rank ${rank} has no peer in stage ${attrs.stage}`);
  const tag = tagOf(Number(attrs.channel));
  if (operand !== null) sends.push({ to: peer, tag, bytes: bytesOf(memory(operand)) });
  if (result !== null) receives.push({ from: peer, tag, into: bytesOf(memory(result)) });
}

function addCollective(
  { sends, receives, finish }: Moves,
  { node, operand, result }: PieceExchange,
  tag: number,
  { program, rank, memory, handedOut }: ExchangeHome,
  take: (type: TensorType) => Tensor,
): void {
  invariant(operand !== null && result !== null, () => `${node.op} is no collective, but programs are cut at it`);
  const group = groupOf(program.mesh, rank, parseOver(String(attrsOf(node).over)));
  const own = memory(operand);
  const first = group[0]!; // of one at least
  if (handedOut(result) && rank !== first) {
    sends.push({ to: first, tag, bytes: bytesOf(own) });
    return;
  }
  const end = { place: group.indexOf(rank), count: group.length, own, result: memory(result) };
  const bound = bindCollective(node, end, take);
  for (const [i, peer] of group.entries()) {
    if (peer === rank) continue;
    if (!handedOut(result)) sends.push({ to: peer, tag, bytes: bytesOf(own) });
    receives.push({ from: peer, tag, into: bytesOf(bound.operands[i]!.data) });
  }
  finish.push(bound.finish);
}

/** Between stages both ends know the channel, but not how far the other is. */
function tagOf(channel: number): number {
  return -1 - channel;
}

/** A rank's end of a collective: it is number `place` of a group of `count`. */
interface CollectiveEnd {
  readonly place: number;
  readonly count: number;
  readonly own: TensorData;
  readonly result: TensorData;
}

/** Memory for the operands of a group, and what makes the result of them. */
function bindCollective(
  node: Node,
  { place, count, own, result }: CollectiveEnd,
  take: (type: TensorType) => Tensor,
): { readonly operands: readonly Tensor[]; readonly finish: () => void } {
  const { across, gathers } = opDef(node.op);
  const { type } = node.ins[0]!;
  invariant(across !== undefined, () => `${node.op} is no collective, but programs are cut at it`);
  if (gathers && sizeOf(type.shape.slice(0, Number(attrsOf(node).axis))) === 1) {
    // Operands lie whole in the result: what comes is received there.
    const parts = Array.from({ length: count }, (_, i) => result.subarray(i * own.length, (i + 1) * own.length));
    return { operands: parts.map((data) => tensorFrom(type, data)), finish: () => parts[place]!.set(own) };
  }
  const operands = Array.from({ length: count }, (_, i) => (i === place ? tensorFrom(type, own) : take(type)));
  const attrs = attrsOf(node);
  return { operands, finish: () => result.set(across(operands, attrs, node.type)[place]!.data) };
}

function bytesOf({ buffer, byteOffset, byteLength }: TensorData): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
