/**
 * Rewrites what the target's kernels cannot take. Two things: contractions and composite ops work on f32, so other
 * operands are cast; and values of a dtype that the target cannot store are widened to f32 as soon as they are read.
 * A cast of a weight belongs to its weight expression, so it happens at load time.
 *
 * Widening moves casts towards the weights: `cast(gather(w, i))` becomes `gather(cast(w), i)` where the target cannot store
 * w or a contraction reads it, which is exact because
 * ops that only move elements commute with a cast, and f32 holds every value of the formats of 16 bits and fewer.
 */
import { maths } from "../ir/build.ts";
import { UnsupportedError } from "../ir/errors.ts";
import { attrsOf, type Builder, type Func, type Module, type Node, rebuild, topoOrder } from "../ir/graph.ts";
import { type Invariant, Violation } from "../ir/invariants.ts";
import { opDef, opKind } from "../ir/ops/all.ts";
import { keepName } from "../ir/rewrite.ts";
import type { Target } from "../ir/target.ts";
import { dtypeInfo, isFloat, showType } from "../ir/types.ts";
import { isFoldable } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

export function legalize(target: Target): Pass {
  return {
    name: "legalize",
    level: "tensor",
    exact: true,
    gives: [legal(target)],
    run: (module, { builder }) => mapOuts(module, (func) => legalizeFunc(func, target, builder)),
  };
}

function legalizeFunc(func: Func, target: Target, builder: Builder): readonly Node[] {
  const { cast } = maths(builder);
  /** The f32 copy of each run-time value that only moves elements of a dtype the target cannot store. */
  const moved = new Map<Node, Node>();
  const widen = (node: Node): Node => {
    if (node.op === "param" && !stores(target, node)) throw unsupported(node, target);
    return moved.get(node) ?? cast(node, "f32");
  };
  /** Chosen rows of a weight are chosen from the widened weight, so that no step has to widen them again. */
  const widenWeights = (node: Node): Node => {
    if (isFoldable(node) || node.type.dtype === "f32" || !movesWeights(node)) return widen(node);
    const ins = node.ins.map((x) => (x.type.dtype === node.type.dtype ? widenWeights(x) : x));
    return builder.make(node.op, ins, node.attrs);
  };
  const change = (node: Node): Node => {
    if (isFoldable(node) || node.op === "param") return node;
    if (isExchange(node)) return ofOneDevice(node, target);
    if (movesElements(node)) {
      if (stores(target, node) || dtypeInfo(node.type.dtype).bits > 16) return node;
      // Index operands keep their dtype; those of the result's dtype are what is moved.
      const ins = node.ins.map((x) => (x.type.dtype === node.type.dtype ? widen(x) : x));
      moved.set(node, keepName(node, builder.make(node.op, ins, node.attrs)));
      return node;
    }
    if (node.op === "cast") return node.type.dtype === "f32" ? keepName(node, widen(node.ins[0]!)) : node;
    // Codes and scales made in a step; there is no wider form of them.
    if (!stores(target, node)) throw unsupported(node, target);
    // Codes, and what is handed to a function, are read as they are.
    const asIs = opKind(node.op) === "dot" || opDef(node.op).unpacks === true || node.op === "call";
    // Only narrow floats can be widened.
    const lost = node.ins.find((x) => !stores(target, x) && (asIs || !isFloat(x.type.dtype)));
    if (lost !== undefined) throw unsupported(lost, target);
    const takesF32 = opKind(node.op) === "contract" || opKind(node.op) === "composite";
    const wide = (x: Node) => isFloat(x.type.dtype) && (takesF32 || !stores(target, x));
    return builder.withIns(
      node,
      node.ins.map((x) => (wide(x) ? (takesF32 ? widenWeights(x) : widen(x)) : x)),
    );
  };
  const { roots } = rebuild(func.outs, builder, change);
  for (const out of roots) if (!stores(target, out)) throw unsupported(out, target);
  return roots;
}

function isExchange(node: Node): boolean {
  return opKind(node.op) === "collective" || opDef(node.op).transfer !== undefined;
}

/** A group of one needs no exchange; other groups need a target that leaves them to whoever drives its devices. */
function ofOneDevice(node: Node, target: Target): Node {
  const [operand] = node.ins;
  if (operand !== undefined && attrsOf(node).parts === 1) return operand;
  if (target.collectives) return node;
  throw new UnsupportedError(`target ${target.name}`, `cannot run ${node.op}, which needs other devices`, {
    hint: "Divided programs run in the interpreter (interpretSharded), all ranks in step.",
  });
}

/** Whether every element of the result is an element of an operand. */
function movesElements(node: Node): boolean {
  const kind = opKind(node.op);
  return (kind === "injective" || kind === "update") && node.ins[0]!.type.dtype === node.type.dtype;
}

/** Whether every element of the result is an element of a weight. */
function movesWeights(node: Node): boolean {
  const moved = (x: Node) => x.type.dtype !== node.type.dtype || isFoldable(x) || movesWeights(x);
  return movesElements(node) && node.ins.every(moved);
}

function stores(target: Target, node: Node): boolean {
  return target.storage.includes(node.type.dtype);
}

function unsupported(node: Node, target: Target): UnsupportedError {
  return new UnsupportedError(`target ${target.name}`, `cannot store a value of type ${showType(node.type)}`, {
    hint: `It stores ${target.storage.join(", ")}; cast the value to one of these.`,
  });
}

/**
 * Contractions and composites take f32, and what a step reads or writes is of a dtype the target stores. A cast may
 * read a cast to a narrow dtype, which rounds inside a kernel without storing.
 */
export function legal(target: Target): Invariant {
  const check = (module: Module) => {
    for (const func of module.funcs.values()) {
      for (const out of func.outs) {
        if (!stores(target, out)) throw new Violation(`@${func.name}`, unsupported(out, target).message, func, out);
      }
      for (const node of topoOrder(func.outs)) {
        if (isFoldable(node) || node.op === "cast") continue;
        const wrong = node.ins.find((x) => (node.op === "contract" ? x.type.dtype !== "f32" : !stores(target, x)));
        if (wrong !== undefined) {
          const what = `${node.op} reads ${showType(wrong.type)}, which ${target.name} cannot`;
          throw new Violation(`@${func.name}`, what, func, node);
        }
      }
    }
  };
  return { name: "legal", check };
}
