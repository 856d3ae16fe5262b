/** Random ways to divide a program: a mesh, and along which axes each weight and parameter is cut. */
import fc from "fast-check";
import { UnsupportedError } from "../../src/ir/errors.ts";
import type { Module } from "../../src/ir/graph.ts";
import { type Mesh, sizeAlong } from "../../src/ir/mesh.ts";
import type { Shape } from "../../src/ir/types.ts";
import type { Placement } from "../../src/passes/shard/propagate.ts";
import { type Sharded, shardModule } from "../../src/passes/shard/shard.ts";

export interface Wishes {
  readonly mesh: Mesh;
  readonly picks: readonly number[];
}

export const arbWishes: fc.Arbitrary<Wishes> = fc.record({
  mesh: fc.constantFrom<Mesh>(
    { a: 2 },
    { a: 3 },
    { a: 2, b: 2 },
    { a: 3, b: 2 },
    { pp: 2, a: 2 },
    { pp: 3 },
    { a: 2, pp: 2, b: 3 },
  ),
  picks: fc.array(fc.nat(63), { minLength: 8, maxLength: 8 }),
});

/** Cuts each weight and parameter along some of the axes that divide it, by the picks. */
function placementOf({ mesh, picks }: Wishes): Placement {
  const axes = Object.keys(mesh).filter((axis) => axis !== "pp");
  let next = 0;
  const cut = (shape: Shape) => {
    const dims = shape.map((): string[] => []);
    for (const axis of axes) {
      const pick = picks[next++ % picks.length]!;
      const dim = pick % (shape.length + 1);
      const own = dims[dim];
      if (own !== undefined && shape[dim]! % sizeAlong(mesh, [...own, axis]) === 0) own.push(axis);
      if (pick % 7 === 0) own?.reverse();
    }
    return { dims };
  };
  const known = new Map<string, ReturnType<typeof cut>>();
  const of = (name: string, shape: Shape) => {
    const key = `${name} ${shape}`;
    const found = known.get(key) ?? cut(shape);
    known.set(key, found);
    return found;
  };
  return {
    mesh,
    weight: of,
    param: of,
    result: (i, shape) => (picks[i % picks.length]! % 3 === 0 ? of(`result ${i}`, shape) : undefined),
  };
}

/** Undefined where there are too few calls and contractions for the stages. */
export function shardOrSkip(module: Module, wishes: Wishes): Sharded | undefined {
  try {
    return shardModule(module, placementOf(wishes));
  } catch (error) {
    if (error instanceof UnsupportedError && "pp" in wishes.mesh) return undefined;
    throw error;
  }
}
