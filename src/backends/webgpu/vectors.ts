/**
 * Buffers of vectors: words that a kernel loads and stores by fours alone, each four at a multiple of four, and bytes that a
 * workgroup shares by sixteens or by fours (or by both: then a four is a component). They are declared as arrays of these, so
 * that an access is one instruction.
 */
import { type Access, eachAccess } from "../../ir/kernel/blocks.ts";
import { divisorOf } from "../../ir/kernel/divisor.ts";
import type { Buf, Kernel } from "../../ir/kernel/kernel.ts";
import { factsOf } from "../../ir/kernel/range.ts";
import { binds, grouped, type Text } from "./scalar.ts";

export interface Vector {
  /** WGSL's name of the element. */
  readonly element: string;
  /** Elements of the buffer in a vector. */
  readonly lanes: number;
}

export type Vectors = ReadonlyMap<string, Vector>;

/** `units`: whether matrices are stored by the device's units, and not element by element. */
export function vectorBufs(kernel: Kernel, units: boolean): Vectors {
  const possible = new Map(kernel.bufs.map((buf) => [buf.name, vectorsOf(buf)]));
  const used = new Set<string>();
  const sixteens = new Set<string>();
  eachAccess(kernel.body, factsOf(kernel), (access) => {
    used.add(access.buf);
    const single = access.stride !== undefined && access.stores && !units;
    const fits = (vector: Vector) => !single && isWhole(access, vector);
    possible.set(access.buf, possible.get(access.buf)!.filter(fits));
    if (access.lanes === 16 || access.stride !== undefined) sixteens.add(access.buf);
  });
  const chosen = (name: string, vectors: readonly Vector[]) =>
    vectors.find(({ lanes }) => lanes < 16 || sixteens.has(name));
  return new Map(
    [...possible].flatMap(([name, vectors]) => {
      const vector = used.has(name) ? chosen(name, vectors) : undefined;
      return vector === undefined ? [] : [[name, vector]];
    }),
  );
}

function isWhole({ index, lanes, stride, facts }: Access, vector: Vector): boolean {
  if (stride !== undefined) return stride % vector.lanes === 0 && divisorOf(index, facts) % vector.lanes === 0;
  const component = lanes === 4 && vector.lanes === 16;
  return (lanes === vector.lanes || component) && divisorOf(index, facts) % lanes === 0;
}

/** The widest first. */
function vectorsOf({ space, dtype, size }: Buf): readonly Vector[] {
  if (space === "scratch") return [];
  const bytes = space === "shared" && (dtype === "i8" || dtype === "u8");
  const found = bytes
    ? [
        { element: "vec4<u32>", lanes: 16 },
        { element: "u32", lanes: 4 },
      ]
    : dtype === "f32" || dtype === "i32"
      ? [{ element: `vec4<${dtype}>`, lanes: 4 }]
      : [];
  return found.filter(({ lanes }) => size % lanes === 0);
}

/** What the buffer `name` has of `lanes` elements from `index` on: one of its vectors, or a word of one. */
export function vectorText(name: string, index: Text, vector: Vector, lanes: number): string {
  const at = grouped(index, binds.atom);
  const whole = `${name}[${at} >> ${Math.log2(vector.lanes)}u]`;
  return lanes === vector.lanes ? whole : `${whole}[(${at} >> 2u) & 3]`;
}
