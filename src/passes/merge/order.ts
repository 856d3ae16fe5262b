/**
 * The order of a GPU's workgroups where each of several tokens chose its weights, as of a mixture's experts: those that
 * compute the same part of every pick follow one another, so that weights which several tokens chose are read from memory once and
 * from a cache after that. In the order of the result all of an expert's weights would be read for one token, and have left the
 * cache before the next token needs them.
 */
import type { Node } from "../../ir/graph.ts";
import { ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { bind, loop } from "../../ir/kernel/stmt.ts";
import { namesOf } from "../../ir/kernel/walk.ts";
import { opDef } from "../../ir/ops/all.ts";
import type { Target } from "../../ir/target.ts";
import { byteSize, type Shape, sizeOf } from "../../ir/types.ts";
import { flatten } from "../lower/index-math.ts";
import { type LoweredKernel, resultsOf } from "../lower/lower.ts";
import { largeOperand, problemOf } from "./merge-pair.ts";
import { extentOf, freshName, iterationOf, nestOf } from "./nest.ts";
import { teamOf } from "./together.ts";

/** The kernel with its workgroups in such an order, where a pick is so many workgroups' and the tokens are several. */
export function orderByPart(lowered: LoweredKernel, { workgroup }: Target): LoweredKernel {
  const { kernel } = lowered;
  const picks = workgroup === null ? [] : picksOf(lowered);
  const count = sizeOf(picks);
  if (count === 1) return lowered;
  const nest = nestOf(kernel);
  const extent = extentOf(nest);
  const parts = extent / count;
  if (!Number.isInteger(parts) || parts === 1 || teamOf(nest).kind !== "together") return lowered;
  const names = new Set([...namesOf(kernel), ...reservedWords]);
  const fresh = (base: string) => {
    const name = freshName(names, base);
    names.add(name);
    return name;
  };
  const part = fresh("part");
  const pick = picks.map(() => fresh("pick"));
  const i = fresh("i");
  const own = flatten(
    [...pick, part].map((name) => ref(name)),
    [...picks, parts],
  );
  const body = [bind(i, own), ...iterationOf(nest, extent, ref(i))];
  const ofPart = picks.reduceRight((inner, size, axis) => [loop(pick[axis]!, 0, size, inner, "grid")], body as Stmt[]);
  const ordered = { ...kernel, body: [loop(part, 0, parts, ofPart, "grid")] };
  return problemOf(ordered) === undefined ? { ...lowered, kernel: ordered } : lowered;
}

/** The shape of the choices by which a kernel finds rows of a large table for several tokens; empty where there are none. */
function picksOf(lowered: LoweredKernel): Shape {
  const stored = new Set(lowered.args);
  const seen = new Set<Node>();
  const stack = [...resultsOf(lowered)];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    const [table, index] = node.ins;
    const chooses = opDef(node.op).view === true && index !== undefined && table !== undefined && stored.has(table);
    const several = chooses && sizeOf(index.type.shape.slice(0, -1)) > 1;
    if (several && byteSize(table.type) >= largeOperand) return index.type.shape;
    stack.push(...node.ins.filter((each) => !stored.has(each)));
  }
  return [];
}
