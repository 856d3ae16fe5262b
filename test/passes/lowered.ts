/** Runs the kernels of a lowered function one by one, in the checked executor and as emitted JavaScript. */
import { compileKernel } from "../../src/backends/js/emit.ts";
import { getFunc, type Module, type Node } from "../../src/ir/graph.ts";
import type { Kernel } from "../../src/ir/kernel/kernel.ts";
import { runKernel } from "../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../src/ir/kernel/verify.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { type Tensor, type TensorData, tensorFrom, zeros } from "../../src/ir/tensor.ts";
import { type LoweredKernel, lowerFunc, resultsOf } from "../../src/passes/lower/lower.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { kernelPasses, tensorPasses } from "../../src/passes/pipeline.ts";

export interface LowerOptions {
  readonly fuse?: boolean;
  /** Whether the tensor and kernel passes that only optimise run. Default true. */
  readonly optimize?: boolean;
}

/** The verified kernels of a module's entry, which calls nothing and reads no weights. */
export function lowerModule(module: Module, { fuse = true, optimize = true }: LowerOptions = {}) {
  const passed = runPasses(module, tensorPasses(jsTarget, { optimize }), jsTarget);
  const func = getFunc(passed, passed.entry);
  const kernels = lowerFunc(func, jsTarget, { enabled: fuse, weights: new Set() }).map((each): LoweredKernel => {
    verifyKernel(each.kernel, { scratchBytes: jsTarget.scratchBytes });
    const kernel = kernelPasses(jsTarget, { optimize }).reduce((now, pass) => pass.run(now), each.kernel);
    verifyKernel(kernel, { scratchBytes: jsTarget.scratchBytes });
    return { ...each, kernel };
  });
  return { func, kernels };
}

type Run = (kernel: Kernel, data: readonly TensorData[]) => void;
export const runners: Record<"executor" | "emitted", Run> = {
  executor: runKernel,
  emitted: (kernel, data) => compileKernel(kernel).run(data),
};

export interface LoweredRun {
  readonly results: readonly Tensor[];
  /** How often elements of each parameter were loaded. */
  readonly loads: ReadonlyMap<string, number>;
  readonly kernels: readonly LoweredKernel[];
}

/** Runs the entry; every kernel gets memory of its own to write to. */
export function runLowered(
  module: Module,
  inputs: readonly Tensor[],
  options?: LowerOptions,
  run: Run = runKernel,
): LoweredRun {
  const { func, kernels } = lowerModule(module, options);
  const loads = new Map<string, number>();
  const values = new Map<Node, TensorData>();
  for (const [i, param] of func.params.entries()) {
    loads.set(param.attrs.name, 0);
    const count = () => loads.set(param.attrs.name, loads.get(param.attrs.name)! + 1);
    values.set(param, run === runKernel ? counted(inputs[i]!.data, count) : inputs[i]!.data.slice());
  }
  for (const lowered of kernels) {
    const { kernel, args, replaces } = lowered;
    for (const node of resultsOf(lowered)) {
      const out = zeros(node.type.dtype, node.type.shape).data;
      const old = replaces.get(node);
      if (old !== undefined) out.set(values.get(old)!);
      values.set(node, out);
    }
    run(
      kernel,
      args.map((node) => values.get(node)!),
    );
  }
  return { results: func.outs.map((out) => tensorFrom(out.type, values.get(out)!)), loads, kernels };
}

/** The same memory, with a call of `count` whenever an element is read. */
function counted(data: TensorData, count: () => void): TensorData {
  return new Proxy(data, {
    get: (target, key) => {
      if (typeof key === "string" && /^\d+$/.test(key)) count();
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" && key !== "constructor" ? value.bind(target) : value;
    },
  });
}
