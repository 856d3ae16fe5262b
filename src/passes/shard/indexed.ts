/**
 * Rows found by index in a table that is cut along its rows. Positions count from the rank's first row. Where the index is
 * the same on all ranks that share the table, a read takes whatever row the clamped position gives and the rank owns the
 * element only if the row is its own; a write drops what is not its own, as positions outside are dropped anyway.
 */
import type { AxisRule } from "../../ir/axis-rule.ts";
import type { Node } from "../../ir/graph.ts";
import { sizeAlong } from "../../ir/mesh.ts";
import type { Cuts } from "./factors.ts";
import { cutNode, type Emitter, type Owned, type Spread, spreadOf } from "./spread.ts";

export interface Indexed {
  readonly ins: readonly Node[];
  readonly owned: Owned | undefined;
}

/** The operands on which the op runs, the index replaced where the table is cut. */
export function applyIndex(
  e: Emitter,
  node: Node,
  rule: AxisRule,
  parts: readonly Spread[],
  cuts: Cuts,
  spread: readonly string[],
): Indexed {
  const ins = parts.map((part) => part.node);
  const axes = rule.indexed === undefined ? [] : (cuts.get(rule.indexed.axis) ?? []);
  if (rule.indexed === undefined || axes.length === 0) return { ins, owned: undefined };
  const { add, and, broadcast, ge, iota, lt, max, min, mul, reshape, sub } = e.build;
  const { axis, by, access } = rule.indexed;
  const holder = rule.ins.findIndex((dims) => dims.includes(axis));
  const rows = node.ins[holder]!.type.shape[rule.ins[holder]!.indexOf(axis)]!;
  const count = sizeAlong(e.mesh, axes);
  const own = rows / count;
  const index = parts[by]!;
  const { shape } = index.node.type;
  const place = cutNode(e, iota("i32", [count], 0), 0, axes); // [1]
  const first = broadcast(reshape(mul(place, own), []), shape);
  const clamped = access === "read" ? min(max(index.node, 0), rows - 1) : index.node;
  const local = sub(clamped, first);
  const mask = and(ge(clamped, first), lt(clamped, add(first, own)));
  const owned: Owned | undefined =
    access === "write" || spread.length === 0
      ? undefined
      : { over: spread, mask: spreadOf(mask, index.sharding), at: rule.ins[by]!.map((name) => rule.out.indexOf(name)) };
  return { ins: ins.with(by, local), owned };
}
