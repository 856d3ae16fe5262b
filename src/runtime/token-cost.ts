/** What a step of one token costs, counted from its plan: how much of the weights it reads, how often it launches, how much it computes. */
import { workOf } from "../ir/kernel/work.ts";
import type { FuncPlan, Plan } from "../ir/plan.ts";

export interface TokenCost {
  /** Bytes of weights that kernels read: of experts and of tables only the rows that are used. */
  readonly weightBytes: number;
  readonly launches: number;
  /** Operations, loads and stores, at most; see `Work`. */
  readonly operations: number;
}

export function tokenCost(plan: Plan): TokenCost {
  const ofFunc = (func: FuncPlan): TokenCost => {
    let [weightBytes, launches, operations] = [0, 0, 0];
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
