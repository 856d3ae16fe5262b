/**
 * How a value is spread over a mesh. `dims` has for each dimension the mesh axes that cut it into equal parts, the first
 * one slowest; none where every rank has the whole dimension. What is not cut is replicated.
 */
import { InputError, UnsupportedError } from "../../ir/errors.ts";
import { type Mesh, sizeAlong } from "../../ir/mesh.ts";
import type { Shape } from "../../ir/types.ts";

export interface Sharding {
  readonly dims: readonly (readonly string[])[];
}

export const uncut: readonly string[] = [];

export function replicated(rank: number): Sharding {
  return { dims: new Array<readonly string[]>(rank).fill(uncut) };
}

export function sameAxesList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((axis, i) => axis === b[i]);
}

export function sameSharding(a: Sharding, b: Sharding): boolean {
  return a.dims.length === b.dims.length && a.dims.every((axes, i) => sameAxesList(axes, b.dims[i]!));
}

/** "[tp, -]" */
export function showSharding({ dims }: Sharding): string {
  return `[${dims.map((axes) => axes.join("*") || "-").join(", ")}]`;
}

/** The shape of each rank's part of a value of shape `shape`. */
export function localShape(shape: Shape, { dims }: Sharding, mesh: Mesh): Shape {
  return shape.map((size, i) => size / sizeAlong(mesh, dims[i] ?? uncut));
}

/** The first dimension that its axes do not divide; undefined where all do. */
export function indivisible(shape: Shape, { dims }: Sharding, mesh: Mesh): number | undefined {
  const at = shape.findIndex((size, i) => size % sizeAlong(mesh, dims[i] ?? uncut) !== 0);
  return at < 0 ? undefined : at;
}

/**
 * Throws InputError for a sharding that is none of the shape, UnsupportedError, with the nearest division that works, for
 * one that does not divide it.
 */
export function checkSharding(where: string, shape: Shape, sharding: Sharding, mesh: Mesh): void {
  const { dims } = sharding;
  if (dims.length !== shape.length) {
    throw new InputError(where, `expected mesh axes for each dimension of [${shape}], got ${showSharding(sharding)}`);
  }
  const twice = dims.flat().find((axis, i, all) => all.indexOf(axis) < i);
  if (twice !== undefined) {
    throw new InputError(where, `expected each mesh axis once, got ${twice} twice in ${showSharding(sharding)}`);
  }
  const dim = indivisible(shape, sharding, mesh);
  if (dim === undefined) return;
  const parts = sizeAlong(mesh, dims[dim]!);
  const hint = `The nearest division that works is ${nearestDivisor(shape[dim]!, parts)} parts.`;
  throw new UnsupportedError(where, `dimension ${dim} of [${shape}] cannot be cut into ${parts} equal parts`, { hint });
}

/** The divisor of `size` nearest to `parts`, the smaller of two as near. */
export function nearestDivisor(size: number, parts: number): number {
  const divisors = Array.from({ length: Math.min(size, 4 * parts) }, (_, i) => i + 1).filter((d) => size % d === 0);
  return divisors.reduce((best, d) => (Math.abs(d - parts) < Math.abs(best - parts) ? d : best), 1);
}
