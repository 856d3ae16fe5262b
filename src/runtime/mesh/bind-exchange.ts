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
import { type Tensor, type TensorData, tensorFrom, zeros } from "../../ir/tensor.ts";
import { sizeOf, type TensorType } from "../../ir/types.ts";
import type { Incoming, Link, Outgoing } from "./link.ts";

/** Memory of operands and results is bound once; running is exchanging bytes between that. */
export function bindExchange(
  exchanges: readonly PieceExchange[],
  /** How many exchanges come before it. */
  at: number,
  { mesh, stageAxis }: Pick<RankProgram, "mesh" | "stageAxis">,
  rank: number,
  memory: (value: number) => TensorData,
  link: Link,
  /** Whether a value is needed on the first rank of a group alone, which hands it out. */
  handedOut: (value: number) => boolean,
): (step: number) => Promise<void> {
  const sends: Outgoing[] = [];
  const receives: Incoming[] = [];
  const finish: (() => void)[] = [];
  for (const { node, operand, result } of exchanges) {
    const attrs = attrsOf(node);
    if (opDef(node.op).transfer !== undefined) {
      const peer = groupOf(mesh, rank, [stageAxis])[Number(attrs.stage)];
      invariant(peer !== undefined, () => `rank ${rank} has no peer in stage ${attrs.stage}`);
      const tag = tagOf(Number(attrs.channel));
      if (operand !== null) sends.push({ to: peer, tag, bytes: bytesOf(memory(operand)) });
      if (result !== null) receives.push({ from: peer, tag, into: bytesOf(memory(result)) });
      continue;
    }
    invariant(operand !== null && result !== null, () => `${node.op} is no collective, but programs are cut at it`);
    const group = groupOf(mesh, rank, parseOver(String(attrs.over)));
    const own = memory(operand);
    const first = group[0]!; // of one at least
    if (handedOut(result) && rank !== first) {
      sends.push({ to: first, tag: at, bytes: bytesOf(own) });
      continue;
    }
    const { operands, finish: put } = bindCollective(node, group.indexOf(rank), group.length, own, memory(result));
    for (const [i, peer] of group.entries()) {
      if (peer === rank) continue;
      if (!handedOut(result)) sends.push({ to: peer, tag: at, bytes: bytesOf(own) });
      receives.push({ from: peer, tag: at, into: bytesOf(operands[i]!.data) });
    }
    finish.push(put);
  }
  return async (step) => {
    await link.exchange({ step, exchange: at }, sends, receives);
    for (const each of finish) each();
  };
}

/** Between stages both ends know the channel, but not how far the other is. */
function tagOf(channel: number): number {
  return -1 - channel;
}

/** Memory for the operands of a group of `count`, of which this rank is number `place`; and what makes the result of them. */
function bindCollective(node: Node, place: number, count: number, own: TensorData, result: TensorData) {
  const { across, gathers } = opDef(node.op);
  const { type } = node.ins[0]!;
  invariant(across !== undefined, () => `${node.op} is no collective, but programs are cut at it`);
  if (gathers && sizeOf(type.shape.slice(0, Number(attrsOf(node).axis))) === 1) {
    // Operands lie whole in the result: what comes is received there.
    const parts = Array.from({ length: count }, (_, i) => result.subarray(i * own.length, (i + 1) * own.length));
    return { operands: parts.map((data) => tensorFrom(type, data)), finish: () => parts[place]!.set(own) };
  }
  const operands = Array.from({ length: count }, (_, i) => (i === place ? tensorFrom(type, own) : emptyLike(type)));
  const attrs = attrsOf(node);
  return { operands, finish: () => result.set(across(operands, attrs, node.type)[place]!.data) };
}

function emptyLike({ dtype, shape }: TensorType): Tensor {
  return zeros(dtype, shape);
}

function bytesOf({ buffer, byteOffset, byteLength }: TensorData): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
