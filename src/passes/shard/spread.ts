/**
 * Values of a program while it is divided, and how they change from one sharding to another.
 *
 * A value is known in one of these ways:
 * - *fixed*: it depends on weights and constants alone. It can be had under any sharding, for nothing: the loader cuts it.
 * - *spread*: each rank has its part under `sharding`. Besides, it may be *pending* (its elements are the sum, or the
 *   maximum, of what the ranks along some axes have) and *owned* (along some axes only one rank, which one a mask says,
 *   has the true element, and the others have something else). Both put off what has to be sent until it is known how
 *   little of it that is.
 */
import { type Maths, maths } from "../../ir/build.ts";
import type { Builder, Node } from "../../ir/graph.ts";
import { type Mesh, sizeAlong } from "../../ir/mesh.ts";
import type { Combine } from "../../ir/ops/collective.ts";
import { keepName } from "../../ir/rewrite.ts";
import { type DType, dtypeInfo, isFloat } from "../../ir/types.ts";
import { replicated, type Sharding, sameAxesList, sameSharding } from "./sharding.ts";

export interface Pending {
  readonly by: Combine;
  readonly over: readonly string[];
}

export interface Owned {
  readonly over: readonly string[];
  /** Which elements are this rank's: bool, with the dimensions `at` of the value, in order. */
  readonly mask: Spread;
  readonly at: readonly number[];
}

export interface Fixed {
  readonly kind: "fixed";
  /** The whole value; a node of the program that is divided. */
  readonly node: Node;
  /** How it should be cut, if its users have no other wish. */
  readonly sharding: Sharding;
}

export interface Spread {
  readonly kind: "spread";
  /** Each rank's part. */
  readonly node: Node;
  readonly sharding: Sharding;
  readonly pending?: Pending | undefined;
  readonly owned?: Owned | undefined;
}

export type Value = Fixed | Spread;

/** What emits collectives. */
export interface Emitter {
  readonly builder: Builder;
  readonly build: Maths;
  readonly mesh: Mesh;
  /** Axes over which an index never leaves its rank's own rows. */
  readonly aligned: ReadonlySet<string>;
}

export function emitter(builder: Builder, mesh: Mesh, aligned: readonly string[]): Emitter {
  return { builder, build: maths(builder), mesh, aligned: new Set(aligned) };
}

function groupAttrs({ mesh }: Emitter, axes: readonly string[]) {
  return { over: axes.join(" "), parts: sizeAlong(mesh, axes) };
}

/** This rank's part of a value that all ranks along `axes` have. */
export function cutNode(e: Emitter, x: Node, axis: number, axes: readonly string[]): Node {
  return axes.length === 0 ? x : keepName(x, e.builder.make("shard", [x], { ...groupAttrs(e, axes), axis }));
}

/** A replicated node cut in every dimension. */
export function cutAll(e: Emitter, x: Node, { dims }: Sharding): Node {
  return dims.reduce((node, axes, i) => cutNode(e, node, i, axes), x);
}

/** A spread value, neither pending nor owned, under another sharding. */
export function reshard(e: Emitter, value: Spread, target: Sharding): Spread {
  if (sameSharding(value.sharding, target)) return value;
  let { node } = value;
  let dims = value.sharding.dims;
  const moved = movedAxis(dims, target.dims);
  if (moved !== undefined) {
    const { axis, from, to } = moved;
    node = e.builder.make("allToAll", [node], { ...groupAttrs(e, [axis]), split: to, concat: from });
    dims = dims.with(from, dims[from]!.slice(0, -1)).with(to, [...dims[to]!, axis]);
  }
  for (const [i, axes] of dims.entries()) {
    const kept = commonPrefix(axes, target.dims[i]!);
    const gathered = axes.slice(kept.length);
    if (gathered.length === 0) continue;
    node = e.builder.make("allGather", [node], { ...groupAttrs(e, gathered), axis: i });
    dims = dims.with(i, kept);
  }
  for (const [i, axes] of target.dims.entries()) node = cutNode(e, node, i, axes.slice(dims[i]!.length));
  return { kind: "spread", node: keepName(value.node, node), sharding: target };
}

/** An axis that leaves one dimension, where it is the fastest, for another, where it becomes the fastest. */
function movedAxis(now: Sharding["dims"], then: Sharding["dims"]) {
  for (const [from, axes] of now.entries()) {
    const axis = axes.at(-1);
    if (axis === undefined || !sameAxesList(then[from]!, axes.slice(0, -1))) continue;
    const to = then.findIndex((list, i) => i !== from && sameAxesList(list, [...now[i]!, axis]));
    if (to >= 0) return { axis, from, to };
  }
  return undefined;
}

function commonPrefix(a: readonly string[], b: readonly string[]): readonly string[] {
  const differs = a.findIndex((axis, i) => axis !== b[i]);
  return differs < 0 ? a : a.slice(0, differs);
}

/** The dtype in which ranks add up values of a dtype: one that holds each of them. */
function sumType(dtype: DType): DType {
  if (isFloat(dtype)) return "f32";
  return dtype === "u32" ? "u32" : dtypeInfo(dtype).bits <= 32 ? "i32" : dtype;
}

/** Puts zeros, or what no maximum is, where the rank does not own an element: what was owned is then pending. */
export function masked(e: Emitter, value: Spread): Spread {
  const { owned, pending } = value;
  if (owned === undefined) return value;
  const { broadcast, cast, reshape, select } = e.build;
  const target = { dims: owned.at.map((dim) => value.sharding.dims[dim]!) };
  const mask = reshard(e, owned.mask, target).node;
  const { shape, dtype } = value.node.type;
  const beside = shape.map((_, dim) => (owned.at.includes(dim) ? shape[dim]! : 1));
  const own = broadcast(reshape(mask, beside), shape);
  // Exponents alone have no 0, but a least one.
  const { by, over } = pending ?? { by: dtype === "f8e8m0" ? "max" : "sum", over: [] };
  const none = pending?.by === "max" ? Number.NEGATIVE_INFINITY : 0;
  const node = keepName(value.node, cast(select(own, cast(value.node, sumType(dtype)), none), dtype));
  return { kind: "spread", node, sharding: value.sharding, pending: { by, over: [...over, ...owned.over] } };
}

/** The value itself: what is pending is added up. */
export function settled(e: Emitter, value: Spread): Spread {
  const { node, pending, sharding } = masked(e, value);
  if (pending === undefined) return { kind: "spread", node, sharding };
  const { dtype } = node.type;
  const wide = e.build.cast(node, sumType(dtype));
  const sum = e.builder.make("allReduce", [wide], { ...groupAttrs(e, pending.over), by: pending.by });
  return { kind: "spread", node: keepName(node, e.build.cast(keepName(node, sum), dtype)), sharding };
}

export function spreadOf(node: Node, sharding: Sharding = replicated(node.type.shape.length)): Spread {
  return { kind: "spread", node, sharding };
}
