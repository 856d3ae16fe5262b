/**
 * Which mesh axes cut which of an op's axis names (ir/axis-rule.ts), given how its operands are cut. Generic over ops: it
 * sees names alone. The largest operand's wish comes first; a mesh axis cuts one name at most, and a name is cut alike in
 * all operands.
 */
import { type AxisRule, names } from "../../ir/axis-rule.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Mesh, sizeAlong } from "../../ir/mesh.ts";
import { opDef } from "../../ir/ops/all.ts";
import { type Sharding, uncut } from "./sharding.ts";

/** Mesh axes by axis name. */
export type Cuts = ReadonlyMap<string, readonly string[]>;

export interface FactorQuestion {
  readonly rule: AxisRule;
  readonly sizes: ReadonlyMap<string, number>;
  readonly operands: readonly { readonly sharding: Sharding; readonly bytes: number }[];
  readonly mesh: Mesh;
  /** Axes that something about the operands occupies: sums not yet added up. */
  readonly taken: ReadonlySet<string>;
  /** Axes over which an index never leaves its rank's own rows. */
  readonly aligned: ReadonlySet<string>;
}

export interface FactorAnswer {
  readonly cuts: Cuts;
  /** Axes that cut the indexed name although the index is the same on all of their ranks. */
  readonly spread: readonly string[];
}

export function chooseCuts(question: FactorQuestion): FactorAnswer {
  const { rule, operands, taken, aligned } = question;
  const cuts = new Map<string, readonly string[]>();
  const used = new Set(taken);
  const indexed = indexedCuts(question, used);
  if (indexed !== undefined) cuts.set(indexed.axis, indexed.axes);
  for (const axis of indexed?.spread ?? []) used.add(axis);
  const whole = new Set([...(rule.whole ?? []), ...(rule.indexed === undefined ? [] : [rule.indexed.axis])]);
  const alignedNames = new Set(indexed === undefined ? [] : indexNames(rule));
  const order = operands.map((_, i) => i).sort((a, b) => operands[b]!.bytes - operands[a]!.bytes);
  for (const i of order) {
    const dims = rule.ins[i] ?? [];
    for (const [j, text] of dims.entries()) {
      assign(question, text, operands[i]!.sharding.dims[j] ?? uncut, { cuts, used, whole });
    }
  }
  // An index that stays among its rank's rows is cut along the same axes as the rows.
  for (const name of alignedNames) {
    const axes = indexed!.axes.filter((axis) => aligned.has(axis) && !indexed!.spread.includes(axis));
    if (axes.length > 0) cuts.set(name, axes);
    else if (rule.whole?.includes(name)) cuts.delete(name);
  }
  return { cuts: contiguous(question, cuts), spread: indexed?.spread ?? [] };
}

/** The leading name of the operand that holds the positions. */
function indexNames({ ins, indexed }: AxisRule): string[] {
  const first = indexed && ins[indexed.by]?.[0];
  return first === undefined ? [] : [first];
}

/** How the indexed name is cut, and along which of these axes the index is not. */
function indexedCuts({ rule, sizes, operands, mesh, taken, aligned }: FactorQuestion, used: ReadonlySet<string>) {
  const { indexed } = rule;
  if (indexed === undefined || rule.whole?.includes(indexed.axis)) return undefined;
  const holder = rule.ins.findIndex((dims) => dims.includes(indexed.axis));
  const at = rule.ins[holder]?.indexOf(indexed.axis) ?? -1;
  const wanted = (operands[holder]?.sharding.dims[at] ?? uncut).filter((axis) => !taken.has(axis) && !used.has(axis));
  if (wanted.length === 0 || sizes.get(indexed.axis)! % sizeAlong(mesh, wanted) !== 0) return undefined;
  const index = operands[indexed.by]!.sharding.dims[0] ?? uncut;
  const local = wanted.filter((axis) => aligned.has(axis) && index.includes(axis));
  // All of one kind, in the order of the table: rows and index then have the same ranks.
  const alike =
    local.length === wanted.length && wanted.every((axis, i) => axis === index[i]) && index.length === wanted.length;
  return { axis: indexed.axis, axes: wanted, spread: alike ? [] : wanted };
}

interface Assigned {
  readonly cuts: Map<string, readonly string[]>;
  readonly used: Set<string>;
  readonly whole: ReadonlySet<string>;
}

/** Hands the axes that cut a dimension to its names, slowest first, as far as they divide. */
function assign({ sizes, mesh }: FactorQuestion, text: string, axes: readonly string[], state: Assigned): void {
  const parts = text.split(" ");
  let at = 0;
  for (const axis of axes) {
    const size = (name: string) => sizes.get(name)! / sizeAlong(mesh, state.cuts.get(name) ?? uncut);
    while (at < parts.length && size(parts[at]!) === 1 && !state.cuts.get(parts[at]!)?.includes(axis)) at++;
    const name = parts[at];
    if (name === undefined || state.whole.has(name)) return;
    if (state.cuts.get(name)?.includes(axis)) continue;
    if (state.used.has(axis) || size(name) % mesh[axis]! !== 0) return;
    state.cuts.set(name, [...(state.cuts.get(name) ?? uncut), axis]);
    state.used.add(axis);
  }
}

/** A name behind another one in a dimension can only be cut where that one is cut into single elements. */
function contiguous({ rule, sizes, mesh }: FactorQuestion, given: Map<string, readonly string[]>): Cuts {
  const cuts = new Map(given);
  for (let changed = true; changed; ) {
    changed = false;
    for (const text of [...rule.ins.flat(), ...rule.out]) {
      const parts = text.split(" ");
      const first = parts.findIndex((name) => sizes.get(name)! > sizeAlong(mesh, cuts.get(name) ?? uncut));
      for (const name of first < 0 ? [] : parts.slice(first + 1)) {
        if (cuts.delete(name)) changed = true;
      }
    }
  }
  return cuts;
}

/** The sharding of a tensor whose dimensions have these names. */
export function shardingOf(dims: readonly string[], cuts: Cuts): Sharding {
  return { dims: dims.map((text) => text.split(" ").flatMap((name) => cuts.get(name) ?? uncut)) };
}

/** The op's rule; one that has none takes its operands whole. */
export function ruleOf(node: Node): AxisRule {
  const rule = opDef(node.op).axes?.(
    node.ins.map((x) => x.type),
    attrsOf(node),
    node.type,
  );
  if (rule !== undefined) return rule;
  const ins = node.ins.map((x, i) => names(`in${i}_`, x.type.shape));
  const out = names("out", node.type.shape);
  return { ins, out, whole: [...ins.flat(), ...out] };
}
