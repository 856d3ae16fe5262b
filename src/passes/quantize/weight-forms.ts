/** Which weights a quantised program holds in which form, and what of the policy decided it: for reports. */
import { isOp, type Node, topoOrder } from "../../ir/graph.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { byteSize, type DType, isFloat } from "../../ir/types.ts";
import { isCoded, planWeight, type QuantizeOptions, shortName, type WeightFormat } from "./policy.ts";

/** Weights of which the same pattern decided, and that are held in the same form. */
export interface WeightForm {
  /** Of the policy's rules, or of the caller's overrides. */
  readonly pattern: string;
  readonly reason: string;
  /** As the policy calls it; `none` for weights that are kept. */
  readonly format: WeightFormat;
  /** What it is held as: dtypes of codes first, then of what goes with them. */
  readonly held: readonly string[];
  /** Names without `.weight`, with `{layer}` for a layer's number and `{0}` for an expert's. */
  readonly names: readonly string[];
  /** Tensors of the checkpoint. */
  readonly tensors: number;
  /** Bytes as stored, and as held. */
  readonly storedBytes: number;
  readonly heldBytes: number;
}

interface Weight {
  readonly name: string;
  readonly rank: number;
  readonly dtypes: Set<DType>;
  tensors: number;
  stored: number;
  held: number;
}

/** Those that take most bytes first. */
export function weightForms(plan: Plan, options: QuantizeOptions): WeightForm[] {
  const weights = new Map<string, Weight>();
  const visit = (func: FuncPlan): void => {
    addFunc(func, weights);
    for (const step of func.steps) if (step.step === "call") visit(plan.funcs.get(step.func)!);
  };
  visit(plan.funcs.get(plan.entry)!);
  const groups = new Map<string, Weight[]>();
  for (const weight of weights.values()) {
    const key = JSON.stringify([decisionOn(weight, options), heldAs(weight)]);
    groups.set(key, [...(groups.get(key) ?? []), weight]);
  }
  const forms = [...groups.values()].map((group): WeightForm => {
    const sum = (value: (weight: Weight) => number) => group.reduce((total, each) => total + value(each), 0);
    return {
      ...decisionOn(group[0]!, options),
      ...{ held: heldAs(group[0]!), names: group.map(({ name }) => name) },
      tensors: sum((each) => each.tensors),
      storedBytes: sum((each) => each.stored),
      heldBytes: sum((each) => each.held),
    };
  });
  return forms.sort((a, b) => b.storedBytes - a.storedBytes);
}

function decisionOn(
  { name, rank, dtypes }: Weight,
  options: QuantizeOptions,
): Pick<WeightForm, "pattern" | "reason" | "format"> {
  const { pattern, reason, format } = planWeight(name, options);
  const kept = [...dtypes].every(isFloat);
  if (kept && rank < 2) return { pattern: "of one axis", reason: "norms and biases: few bytes", format: "none" };
  if (kept && isCoded(format)) {
    return { pattern, reason: "computed with another that is kept, or not by a product", format: "none" };
  }
  return { pattern, reason, format };
}

function heldAs({ dtypes }: Weight): readonly DType[] {
  return [...dtypes].sort((a, b) => Number(isFloat(a)) - Number(isFloat(b)) || a.localeCompare(b));
}

/** One call of a function: bytes of an expression are divided over its weights by their elements. */
function addFunc(func: FuncPlan, weights: Map<string, Weight>): void {
  const seen = new Set<string>();
  for (const expr of func.weights) {
    const parts = topoOrder([expr]).filter((node) => isOp(node, "weight"));
    const all = parts.reduce((sum, { type }) => sum + byteSize(type), 0);
    for (const part of parts) {
      const name = shortName(part.attrs.name);
      const weight = weights.get(name) ?? weightOf(name, part);
      weights.set(name, weight);
      weight.dtypes.add(expr.type.dtype);
      weight.held += (byteSize(expr.type) * byteSize(part.type)) / all;
      if (seen.has(part.attrs.name)) continue;
      seen.add(part.attrs.name);
      weight.stored += byteSize(part.type);
      if (!part.attrs.name.endsWith("_scale_inv")) weight.tensors += tensorsOf(part);
    }
  }
}

function weightOf(name: string, { type, attrs }: Node<"weight">): Weight {
  const experts = /\{\d+\}/.test(attrs.name) ? 1 : 0;
  return { name, rank: type.shape.length - experts, dtypes: new Set(), tensors: 0, stored: 0, held: 0 };
}

/** An expert's name stands for all experts of a layer, the first axis. */
function tensorsOf({ type, attrs }: Node<"weight">): number {
  return /\{\d+\}/.test(attrs.name) ? type.shape[0]! : 1;
}
