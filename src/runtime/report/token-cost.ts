/** What a step of one token costs, counted from its plan: how much of the weights it reads, how often it launches, how much it computes. */
import { axisSizes } from "../../ir/axes.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { workOf } from "../../ir/kernel/work.ts";
import { opKind } from "../../ir/ops/all.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { byteSize, dtypeInfo, sizeOf } from "../../ir/types.ts";

export interface TokenCost {
  /** Bytes of weights that kernels read: of experts and of tables only the rows that are used. */
  readonly weightBytes: number;
  readonly launches: number;
  /** Operations, loads and stores, at most; see `Work`. */
  readonly operations: number;
}

export function tokenCost(plan: Plan): TokenCost {
  const ofFunc = (func: FuncPlan): TokenCost => {
    let { weightBytes, launches, operations } = opsCost(plan, func);
    for (const step of func.steps) {
      if (step.step === "call") {
        const callee = ofFunc(plan.funcs.get(step.func)!);
        weightBytes += callee.weightBytes;
        launches += callee.launches;
        operations += callee.operations;
      } else if (step.step === "launch") {
        launches++;
        const kernel = plan.kernels[step.kernel]!;
        const { bytesRead, operations: own } = workOf(kernel);
        operations += own;
        const bufs = kernel.bufs.filter(({ space }) => space === "global");
        for (const [i, at] of step.args.entries()) {
          if (func.locations[at]!.place === "weight") weightBytes += bytesRead.get(bufs[i]!.name) ?? 0;
        }
      }
    }
    return { weightBytes, launches, operations };
  };
  return ofFunc(plan.funcs.get(plan.entry)!);
}

/** Of a plan that runs ops as they are. */
function opsCost(plan: Plan, func: FuncPlan): TokenCost {
  const weights = new Set(func.weights);
  let [weightBytes, launches, operations] = [0, 0, 0];
  for (const node of plan.tensors?.get(func.name)?.order ?? []) {
    if (node.op === "call") continue;
    launches++;
    operations += operationsOf(node);
    for (const operand of node.ins) if (weights.has(operand)) weightBytes += bytesOf(operand, node);
  }
  return { weightBytes, launches, operations };
}

/** What only moves elements reads those that it gives. */
function bytesOf(weight: Node, reader: Node): number {
  const whole = byteSize(weight.type);
  if (opKind(reader.op) !== "injective") return whole;
  return Math.min(whole, (sizeOf(reader.type.shape) * dtypeInfo(weight.type.dtype).bits) / 8);
}

function operationsOf(node: Node): number {
  if (opKind(node.op) !== "contract") return sizeOf(node.type.shape);
  const types = node.ins.map((x) => x.type);
  return 2 * sizeOf([...axisSizes(String(attrsOf(node).axes), types).values()]);
}
