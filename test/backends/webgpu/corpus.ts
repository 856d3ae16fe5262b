/** Every kernel of the test corpus for WebGPU: of the op cases, as optimised and not, and of the golden models. */
import { readFileSync } from "node:fs";
import { type CompileOptions, compileToPlan } from "../../../src/compile.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { type Target, webgpuTarget } from "../../../src/ir/target.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import type { goldenNames } from "../../models/read-golden.ts";
import { opCases } from "../cases.ts";

export interface NamedKernel {
  readonly name: string;
  readonly kernel: Kernel;
}

export function caseKernels(options: { readonly optimize?: boolean }): NamedKernel[] {
  return opCases.flatMap(({ name, module }) =>
    compileToPlan(module, webgpuTarget, options).plan.kernels.map((kernel) => ({ name, kernel })),
  );
}

export function goldenKernels(
  name: (typeof goldenNames)[number],
  tokens: number,
  { target = webgpuTarget, options = {} }: { readonly target?: Target; readonly options?: CompileOptions } = {},
): readonly Kernel[] {
  const file = new URL(`../../fixtures/goldens/${name}/config.json`, import.meta.url);
  const config = parseModelConfigText(readFileSync(file, "utf8"), name);
  const sizes = {
    tokens,
    sequences: Math.min(tokens, 2),
    blocks: 8,
    outputs: 1,
    blockSize: 16,
    slots: 256,
    ropeRows: 128,
  };
  return compileToPlan(buildModel(config, sizes, {}), target, options).plan.kernels;
}
