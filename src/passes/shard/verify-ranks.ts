/**
 * Whether the programs of all ranks meet: ranks of one stage issue the same collectives in the same order, each in a group
 * of the size it says, and every message between stages is sent once, received once, by the same type, forwards.
 */
import { showAttrs } from "../../ir/attrs.ts";
import { IrError } from "../../ir/errors.ts";
import { attrsOf, getFunc, isOp, type Module, type Node, topoOrder } from "../../ir/graph.ts";
import { coordsOf, type Mesh, parseOver, sizeAlong } from "../../ir/mesh.ts";
import { opDef } from "../../ir/ops/all.ts";
import { showType } from "../../ir/types.ts";

/** The collectives of a program in the order in which a rank comes to them. */
export function collectivesOf(module: Module, entry: string = module.entry): Node[] {
  const done = new Set<string>();
  return topoOrder(getFunc(module, entry).outs).flatMap((node) => {
    if (isOp(node, "call")) {
      const key = `${node.attrs.func} ${node.attrs.layer} ${node.ins.map((x) => x.id)}`;
      if (done.has(key)) return [];
      done.add(key);
      return collectivesOf(module, node.attrs.func);
    }
    const { across, transfer } = opDef(node.op);
    return across !== undefined || transfer !== undefined ? [node] : [];
  });
}

/** Throws IrError naming the ranks that would wait for each other. */
export function verifyRanks(mesh: Mesh, modules: readonly Module[], stageAxis = "pp"): void {
  const traces = modules.map((module) => collectivesOf(module));
  const firstOf = new Map<number, number>();
  for (const [rank, trace] of traces.entries()) {
    for (const node of trace) checkGroup(mesh, rank, node);
    const stage = coordsOf(mesh, rank)[stageAxis] ?? 0;
    const first = firstOf.get(stage) ?? rank;
    firstOf.set(stage, first);
    sameTrace(first, traces[first]!, rank, trace);
  }
  const stages = [...firstOf].map(([stage, rank]) => ({ stage, trace: traces[rank]! }));
  checkMessages(stages);
}

function checkGroup(mesh: Mesh, rank: number, node: Node): void {
  if (opDef(node.op).across === undefined) return;
  const { over, parts } = attrsOf(node);
  const size = sizeAlong(mesh, parseOver(String(over)));
  if (size !== parts) throw new IrError(`rank ${rank}`, `${show(node)}: expected a group of ${size} along ${over}`);
}

function sameTrace(first: number, expected: readonly Node[], rank: number, found: readonly Node[]): void {
  const length = Math.max(expected.length, found.length);
  for (let i = 0; i < length; i++) {
    const [a, b] = [expected[i], found[i]];
    if (a !== undefined && b !== undefined && show(a) === show(b)) continue;
    const where = `rank ${rank}, collective ${i}`;
    throw new IrError(where, `expected ${show(a)} as rank ${first} of its stage, got ${show(b)}`);
  }
}

function show(node: Node | undefined): string {
  return node === undefined ? "none" : `${node.op} ${showAttrs(attrsOf(node))} of ${showType(node.type)}`;
}

function checkMessages(stages: readonly { readonly stage: number; readonly trace: readonly Node[] }[]): void {
  const open = new Map<string, string>();
  const ends = (which: "send" | "receive") =>
    stages.flatMap(({ stage, trace }) =>
      trace
        .filter(({ op }) => opDef(op).transfer === which)
        .map((node) => ({ stage, node, peer: Number(attrsOf(node).stage) })),
    );
  for (const { stage, node, peer } of ends("send")) {
    const key = `message ${attrsOf(node).channel} from stage ${stage} to stage ${peer}`;
    if (peer <= stage) throw new IrError(key, "expected a later stage");
    if (open.has(key)) throw new IrError(key, "it is sent twice");
    open.set(key, showType(node.type));
  }
  for (const { stage, node, peer } of ends("receive")) {
    const key = `message ${attrsOf(node).channel} from stage ${peer} to stage ${stage}`;
    const sent = open.get(key);
    if (sent !== showType(node.type)) {
      throw new IrError(key, `expected ${showType(node.type)}, got ${sent ?? "none: nobody sends it"}`);
    }
    open.delete(key);
  }
  const [left] = open.keys();
  if (left !== undefined) throw new IrError(left, "nobody receives it");
}
