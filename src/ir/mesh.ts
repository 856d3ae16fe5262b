/**
 * A mesh: ranks (devices) arranged along named axes, as in `{ pp: 2, tp: 4 }`. The last axis varies fastest, so
 * neighbours along it have neighbouring numbers. Collectives say along which axes they run; the ranks that agree on all
 * other coordinates are one group.
 */
import { InputError, showValue } from "./errors.ts";

/** Sizes by axis name, slowest axis first. */
export type Mesh = Readonly<Record<string, number>>;

/** Where a rank is along each axis. */
export type Coords = Readonly<Record<string, number>>;

const mostRanks = 2 ** 16;

/** Throws InputError for a mesh that is none. */
export function checkMesh(mesh: Mesh, where = "mesh"): void {
  for (const [axis, size] of Object.entries(mesh)) {
    if (!/^[a-z][a-z0-9_]*$/i.test(axis)) throw new InputError(where, `axis ${JSON.stringify(axis)}: expected a word`);
    if (!Number.isInteger(size) || size < 1) {
      throw new InputError(where, `axis ${axis}: expected a whole number of devices from 1, got ${showValue(size)}`);
    }
  }
  const ranks = rankCount(mesh);
  if (ranks > mostRanks) throw new InputError(where, `expected at most ${mostRanks} devices, got ${ranks}`);
}

export function rankCount(mesh: Mesh): number {
  return Object.values(mesh).reduce((product, size) => product * size, 1);
}

/** The number of ranks along several axes together. */
export function sizeAlong(mesh: Mesh, axes: readonly string[]): number {
  return axes.reduce((product, axis) => product * axisSize(mesh, axis), 1);
}

function axisSize(mesh: Mesh, axis: string): number {
  const size = Object.hasOwn(mesh, axis) ? mesh[axis] : undefined;
  if (size === undefined) {
    const hint = `Its axes: ${Object.keys(mesh).join(", ") || "none"}.`;
    throw new InputError("mesh", `there is no axis ${JSON.stringify(axis)}`, { hint });
  }
  return size;
}

export function coordsOf(mesh: Mesh, rank: number): Coords {
  const coords: Record<string, number> = {};
  let rest = rank;
  for (const [axis, size] of Object.entries(mesh).reverse()) {
    coords[axis] = rest % size;
    rest = Math.floor(rest / size);
  }
  return coords;
}

/** The number of a rank among the ranks of its group along `axes`, the first axis slowest. */
export function indexAlong(mesh: Mesh, coords: Coords, axes: readonly string[]): number {
  return axes.reduce((index, axis) => index * axisSize(mesh, axis) + coords[axis]!, 0);
}

/** The ranks of the group that `rank` belongs to along `axes`, in order of `indexAlong`. */
export function groupOf(mesh: Mesh, rank: number, axes: readonly string[]): readonly number[] {
  const own = coordsOf(mesh, rank);
  const along = new Set(axes);
  const others = Array.from({ length: rankCount(mesh) }, (_, each) => ({ each, coords: coordsOf(mesh, each) }));
  return others
    .filter(({ coords }) => Object.keys(mesh).every((axis) => along.has(axis) || coords[axis] === own[axis]))
    .sort((a, b) => indexAlong(mesh, a.coords, axes) - indexAlong(mesh, b.coords, axes))
    .map(({ each }) => each);
}

/** Axis names as collectives spell them: "tp", "dp tp". */
export function parseOver(over: string): readonly string[] {
  return over.split(" ").filter(Boolean);
}
