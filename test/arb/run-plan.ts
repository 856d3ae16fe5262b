/** Runs a plan whose entry calls nothing, with the kernels' runner of one's choice. Values of the arena do not share memory. */
import type { Kernel } from "../../src/ir/kernel/kernel.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { type Tensor, type TensorData, tensorFrom, zeros } from "../../src/ir/tensor.ts";

export function runPlan(
  plan: Plan,
  inputs: readonly Tensor[],
  run: (kernel: Kernel, data: readonly TensorData[]) => void,
): Tensor[] {
  const func = plan.funcs.get(plan.entry)!;
  const params = inputs.map(({ data }) => data.slice());
  const results = func.results.map(
    ({ type }, i) => params[func.donated[i] ?? -1] ?? zeros(type.dtype, type.shape).data,
  );
  const memory = func.locations.map(({ place, type, ...at }) => {
    if (place === "arena" || !("index" in at)) return zeros(type.dtype, type.shape).data;
    if (place === "weight") throw new Error("the plan has weights");
    return (place === "param" ? params : results)[at.index]!;
  });
  for (const step of func.steps) {
    if (step.step === "call") throw new Error("the plan calls a function");
    if (step.step === "copy") memory[step.to]!.set(memory[step.from]!);
    else {
      const data = step.args.map((i) => memory[i]!);
      run(plan.kernels[step.kernel]!, data);
    }
  }
  return func.results.map(({ type }, i) => tensorFrom(type, results[i]!));
}
