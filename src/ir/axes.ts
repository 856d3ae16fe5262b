/**
 * Axis signatures, "n i, o i -> n o": one letter or word per dimension of each operand and of the result. One string
 * gives the type rule, the loop nest, the operation count and (later) the sharding of a contraction.
 */
import { IrError } from "./errors.ts";
import type { TensorType } from "./types.ts";

export interface Axes {
  /** Axis names of each operand. */
  readonly ins: readonly (readonly string[])[];
  readonly out: readonly string[];
  /** Axes of the operands that the result lacks, in order of first appearance. */
  readonly reduced: readonly string[];
}

const cache = new Map<string, Axes>();

/** Parses a signature; each is parsed once. */
export function parseAxes(text: string): Axes {
  const known = cache.get(text);
  if (known !== undefined) return known;
  const sides = text.split("->");
  if (sides.length !== 2) throw new IrError(`axes ${JSON.stringify(text)}`, 'expected the form "a b, b c -> a c"');
  const names = (side: string) => side.trim().split(/\s+/).filter(Boolean);
  const ins = sides[0]!.split(",").map(names);
  const out = names(sides[1]!);
  for (const list of [...ins, out]) {
    if (new Set(list).size !== list.length)
      throw new IrError(`axes ${JSON.stringify(text)}`, "an axis repeats within one tensor");
  }
  const all = [...new Set(ins.flat())];
  const missing = out.find((axis) => !all.includes(axis));
  if (missing !== undefined)
    throw new IrError(`axes ${JSON.stringify(text)}`, `result axis ${missing} is in no operand`);
  const axes = { ins, out, reduced: all.filter((axis) => !out.includes(axis)) };
  if (cache.size > 10_000) cache.clear();
  cache.set(text, axes);
  return axes;
}

/** Prints what `parseAxes` reads. */
export function showAxes(axes: Pick<Axes, "ins" | "out">): string {
  return `${axes.ins.map((list) => list.join(" ")).join(", ")} -> ${axes.out.join(" ")}`.trim();
}

/** The size of every axis; throws where operands disagree about one or have another rank. */
export function axisSizes(text: string, ins: readonly TensorType[]): ReadonlyMap<string, number> {
  const axes = parseAxes(text);
  const where = `axes ${JSON.stringify(text)}`;
  if (axes.ins.length !== ins.length)
    throw new IrError(where, `expected ${axes.ins.length} operands, got ${ins.length}`);
  const sizes = new Map<string, number>();
  for (const [i, list] of axes.ins.entries()) {
    const { shape } = ins[i]!;
    if (shape.length !== list.length)
      throw new IrError(where, `operand ${i}: expected rank ${list.length}, got [${shape}]`);
    for (const [j, axis] of list.entries()) {
      const size = sizes.get(axis) ?? shape[j]!;
      if (size !== shape[j])
        throw new IrError(where, `axis ${axis}: expected size ${size}, got ${shape[j]} in operand ${i}`);
      sizes.set(axis, size);
    }
  }
  return sizes;
}
