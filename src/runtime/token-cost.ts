/** What a step of one token costs, counted from its plan: how much of the weights it reads, and how often it launches. */
import { workOf } from "../ir/kernel/work.ts";
import type { FuncPlan, Plan } from "../ir/plan.ts";

export interface TokenCost {
  /** Bytes of weights that kernels read: of experts and of tables only the rows that are used. */
  readonly weightBytes: number;
  readonly launches: number;
}

export function tokenCost(plan: Plan): TokenCost {
  const ofFunc = (func: FuncPlan): TokenCost => {
    let [weightBytes, launches] = [0, 0];
    for (const step of func.steps) {
      if (step.step === "call") {
        const callee = ofFunc(plan.funcs.get(step.func)!);
        weightBytes += callee.weightBytes;
        launches += callee.launches;
      } else if (step.step === "launch") {
        launches++;
        const kernel = plan.kernels[step.kernel]!;
        const { bytesRead } = workOf(kernel);
        const bufs = kernel.bufs.filter(({ space }) => space === "global");
        for (const [i, at] of step.args.entries()) {
          if (func.locations[at]!.place === "weight") weightBytes += bytesRead.get(bufs[i]!.name) ?? 0;
        }
      }
    }
    return { weightBytes, launches };
  };
  return ofFunc(plan.funcs.get(plan.entry)!);
}
