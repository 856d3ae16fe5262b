/**
 * The meaning of a divided program: every rank of a mesh runs its own module, op by op, as far as its next collective.
 * When all ranks of a group have come to the same one, each goes on with its result. Ranks that wait for different
 * things, or for one that has ended, are an error that names them: on real devices they would hang.
 */
import { IrError } from "./errors.ts";
import { attrsOf, getFunc, type Module, type Node } from "./graph.ts";
import { type Exchange, type InterpretOptions, stepsOf } from "./interpret.ts";
import { groupOf, type Mesh, parseOver, rankCount } from "./mesh.ts";
import { opDef } from "./ops/all.ts";
import type { Tensor } from "./tensor.ts";
import { sameType, showType } from "./types.ts";

/** One device's program and the inputs of its entry. */
export interface RankProgram {
  readonly module: Module;
  readonly inputs: readonly Tensor[];
}

export interface RankOptions extends InterpretOptions {
  /** The mesh axis along which pipeline stages are. Default `pp`. */
  readonly stageAxis?: string;
}

interface Rank {
  readonly number: number;
  readonly run: Generator<Exchange, Tensor[], Tensor>;
  waits: Exchange | null;
  results: Tensor[] | null;
}

/** Runs the programs of all ranks, numbered as in the mesh, and returns the results of each. */
export function interpretRanks(mesh: Mesh, programs: readonly RankProgram[], options: RankOptions = {}): Tensor[][] {
  if (programs.length !== rankCount(mesh)) {
    throw new IrError("mesh", `expected ${rankCount(mesh)} programs, one per rank, got ${programs.length}`);
  }
  const { stageAxis = "pp" } = options;
  const ranks = programs.map(({ module, inputs }, number): Rank => {
    const run = stepsOf(module, getFunc(module, module.entry), inputs, options);
    return { number, run, waits: null, results: null };
  });
  const mail = new Map<string, Tensor>();
  for (const rank of ranks) advance(rank);
  while (ranks.some((rank) => rank.results === null)) {
    const moved = ranks.filter((rank) => settle(rank, ranks, mesh, mail, stageAxis));
    if (moved.length === 0) throw stuck(ranks);
  }
  if (mail.size > 0) throw new IrError("mesh", `nobody receives ${[...mail.keys()].join(", ")}`);
  return ranks.map(({ results }) => results!); // all have ended
}

function advance(rank: Rank, value?: Tensor): void {
  // The first call of a generator takes no value.
  const step = value === undefined ? rank.run.next() : rank.run.next(value);
  rank.waits = step.done === true ? null : step.value;
  rank.results = step.done === true ? step.value : null;
}

/** Lets the ranks that the exchange of `rank` is about go on, if they are all there. */
function settle(rank: Rank, ranks: readonly Rank[], mesh: Mesh, mail: Map<string, Tensor>, stageAxis: string): boolean {
  if (rank.waits === null) return false;
  const { node, operand } = rank.waits;
  const { transfer, across } = opDef(node.op);
  if (transfer !== undefined) return deliver(rank, ranks, mesh, mail, stageAxis);
  const { over } = attrsOf(node);
  const numbers = groupOf(mesh, rank.number, parseOver(String(over)));
  const group = numbers.map((number) => ranks[number]!);
  // Some may be at one before it still, in another group.
  if (group.some(({ waits }) => waits === null || !alike(waits.node, node))) return false;
  if (across === undefined || operand === undefined || numbers.length !== attrsOf(node).parts) {
    throw new IrError(node.op, `expected a group of ${attrsOf(node).parts}, got ${numbers.length} along ${over}`);
  }
  const results = across(
    group.map(({ waits }) => waits!.operand!),
    attrsOf(node),
    node.type,
  );
  for (const [i, each] of group.entries()) advance(each, results[i]!);
  return true;
}

/** A message is left for the receiver; a receiver takes it. */
function deliver(
  rank: Rank,
  ranks: readonly Rank[],
  mesh: Mesh,
  mail: Map<string, Tensor>,
  stageAxis: string,
): boolean {
  const { node, operand } = rank.waits!; // the caller's condition
  const { stage, channel } = attrsOf(node);
  const along = groupOf(mesh, rank.number, [stageAxis]);
  const peer = along[Number(stage)];
  if (peer === undefined || ranks[peer] === undefined) {
    throw new IrError(`rank ${rank.number}`, `there is no stage ${stage} along ${stageAxis}`);
  }
  const sends = operand !== undefined;
  const [from, to] = sends ? [rank.number, peer] : [peer, rank.number];
  const key = `message ${channel} from rank ${from} to rank ${to}`;
  if (sends) {
    if (mail.has(key)) throw new IrError(key, "sent twice");
    mail.set(key, operand);
    advance(rank, operand);
    return true;
  }
  const message = mail.get(key);
  if (message === undefined) return false;
  if (!sameType(message.type, node.type)) {
    throw new IrError(key, `expected ${showType(node.type)}, got ${showType(message.type)}`);
  }
  mail.delete(key);
  advance(rank, message);
  return true;
}

/** Whether two ranks are at the same collective: op, attributes, type. */
function alike(a: Node, b: Node): boolean {
  return a.op === b.op && sameType(a.type, b.type) && JSON.stringify(a.attrs) === JSON.stringify(b.attrs);
}

function showExchange({ waits }: Rank): string {
  return waits === null
    ? "its end"
    : `${waits.node.op} ${JSON.stringify(waits.node.attrs)} of ${showType(waits.node.type)}`;
}

function stuck(ranks: readonly Rank[]): IrError {
  const waiting = ranks.map((rank) => `rank ${rank.number} is at ${showExchange(rank)}`);
  return new IrError("mesh", "the ranks wait for each other forever", { text: waiting.slice(0, 16).join("\n") });
}
