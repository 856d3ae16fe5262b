/**
 * What an op does about operands that are pending or owned (see spread.ts): where it is linear in a pending sum, its result
 * is pending; where it treats owned elements one by one, its result is owned. Everything else is settled before it.
 */
import type { AxisRule } from "../../ir/axis-rule.ts";
import { byteSize } from "../../ir/types.ts";
import { type Emitter, masked, type Owned, type Pending, type Spread, settled, type Value } from "./spread.ts";

export interface Settled {
  readonly operands: readonly Value[];
  /** Of the result, besides what the op itself divides. */
  readonly pending: Pending | undefined;
  readonly owned: Owned | undefined;
}

/** Decides which pending sums and owned elements the op can be computed on, and settles the others. */
export function settleOperands(e: Emitter, rule: AxisRule, given: readonly Value[]): Settled {
  const first = keepOwned(e, rule, given);
  const waiting = first.operands.flatMap((x, i) => (x.kind === "spread" && x.pending !== undefined ? [i] : []));
  if (waiting.length === 0) return { ...first, pending: undefined };
  const pendings = waiting.map((i) => (first.operands[i] as Spread).pending!); // those filtered above
  const [one] = pendings;
  const alike = pendings.every(({ by, over }) => by === "sum" && over.join() === one!.over.join());
  const set = rule.linear?.find((each) => each.length === waiting.length && waiting.every((i) => each.includes(i)));
  const free = !first.owned?.over.some((axis) => one!.over.includes(axis));
  if (alike && set !== undefined && free) return { ...first, pending: one };
  const operands = first.operands.map((x) =>
    x.kind === "spread" && x.pending ? { ...settled(e, { ...x, owned: undefined }), owned: x.owned } : x,
  );
  return { ...first, operands, pending: undefined };
}

/** Owned elements stay so where the op treats them one by one; where it sums them, one operand is masked. */
function keepOwned(e: Emitter, rule: AxisRule, given: readonly Value[]): Omit<Settled, "pending"> {
  const owners = given.flatMap((x, i) => (x.kind === "spread" && x.owned !== undefined ? [{ i, owned: x.owned }] : []));
  if (owners.length === 0) return { operands: given, owned: undefined };
  const resolve = () => given.map((x) => (x.kind === "spread" && x.owned ? masked(e, x) : x));
  const [one] = owners;
  const dims = owners.map(({ i, owned }) => owned.at.map((dim) => rule.ins[i]?.[dim] ?? ""));
  const alike = owners.every(
    ({ owned }, j) => owned.mask.node === one!.owned.mask.node && dims[j]!.join() === dims[0]!.join(),
  );
  const plain = dims[0]!.every((name) => name !== "" && !name.includes(" ") && rule.indexed?.axis !== name);
  if (!alike || !plain || rule.indexed !== undefined) return { operands: resolve(), owned: undefined };
  const at = dims[0]!.map((name) => rule.out.indexOf(name));
  const kept =
    at.every((dim, j) => dim >= 0 && (j === 0 || dim > at[j - 1]!)) &&
    !dims[0]!.some((name) => rule.whole?.includes(name));
  if (kept) return { operands: given, owned: { ...one!.owned, at } };
  // Where one factor is zero the others do not matter: one is masked, the smallest or the one that is pending. It must not
  // be settled then, as it would no longer be zero where the others are not the rank's own.
  const size = (i: number) => byteSize(given[i]!.node.type);
  const alone = owners.filter(({ i }) => rule.linear?.some((set) => set.length === 1 && set[0] === i));
  const pending = given.flatMap((x, i) => (x.kind === "spread" && x.pending ? [{ i, by: x.pending.by }] : []));
  const smallest = alone.map(({ i }) => i).sort((a, b) => size(a) - size(b))[0];
  const factor = pending[0]?.i ?? smallest;
  const stays = pending.length < 2 && pending.every(({ i, by }) => by === "sum" && owners.some((each) => each.i === i));
  if (alone.length < owners.length || !stays) return { operands: resolve(), owned: undefined };
  const operands = given.map((x, i) => {
    if (x.kind === "fixed" || x.owned === undefined) return x;
    return i === factor ? masked(e, x) : { ...x, owned: undefined };
  });
  return { operands, owned: undefined };
}
