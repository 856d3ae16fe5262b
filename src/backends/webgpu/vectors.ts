/**
 * Buffers of vectors: f32 that a kernel loads and stores by fours alone, each four at a multiple of four, and bytes that a
 * workgroup shares by sixteens. They are declared as arrays of vectors, so that an access is one instruction.
 */
import { eachAccess } from "../../ir/kernel/blocks.ts";
import { divisorOf } from "../../ir/kernel/divisor.ts";
import type { Buf, Kernel } from "../../ir/kernel/kernel.ts";
import { factsOf } from "../../ir/kernel/range.ts";
import { binds, grouped, type Text } from "./scalar.ts";

interface Vector {
  /** WGSL's name of the element. */
  readonly element: string;
  /** Elements of the buffer in a vector. */
  readonly lanes: number;
}

export type Vectors = ReadonlyMap<string, Vector>;

export function vectorBufs(kernel: Kernel): Vectors {
  const found = new Map<string, Vector>();
  for (const buf of kernel.bufs) {
    const vector = vectorOf(buf);
    if (vector !== undefined) found.set(buf.name, vector);
  }
  const used = new Set<string>();
  eachAccess(kernel.body, factsOf(kernel), ({ buf, index, lanes, facts }) => {
    used.add(buf);
    const vector = found.get(buf);
    if (vector !== undefined && (lanes !== vector.lanes || divisorOf(index, facts) % lanes !== 0)) found.delete(buf);
  });
  return new Map([...found].filter(([name]) => used.has(name)));
}

function vectorOf({ space, dtype, size }: Buf): Vector | undefined {
  if (space === "scratch") return undefined;
  if (dtype === "f32") return size % 4 === 0 ? { element: "vec4<f32>", lanes: 4 } : undefined;
  const bytes = space === "shared" && (dtype === "i8" || dtype === "u8");
  return bytes ? { element: "vec4<u32>", lanes: 16 } : undefined;
}

/** An element of the buffer `name`, whose first lane is `index`. */
export function vectorText(name: string, index: Text, { lanes }: Vector): string {
  return `${name}[${grouped(index, binds.atom)} >> ${Math.log2(lanes)}u]`;
}
