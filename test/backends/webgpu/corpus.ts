/** Every kernel of the test corpus for WebGPU: of the op cases, as optimised and not, and of the golden models. */
import { readFileSync } from "node:fs";
import { type CompileOptions, compileToPlan } from "../../../src/compile.ts";
import type { Kernel, Stmt } from "../../../src/ir/kernel/kernel.ts";
import { eachStmt } from "../../../src/ir/kernel/walk.ts";
import { leastWebGpu, type Target, webgpuTarget, webgpuTargetOf } from "../../../src/ir/target.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import type { goldenNames } from "../../models/read-golden.ts";
import { expertsModule, type Product, productModule } from "../../passes/lower/products.ts";
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

/** Products that fill the memory of a workgroup: of many groups, for many tokens and for those that chose an expert. */
export function longProductKernels(): readonly NamedKernel[] {
  const forms = ([4, 8] as const).flatMap((bits) => [false, true].map((affine) => ({ bits, affine })));
  return forms.flatMap(({ bits, affine }) => {
    const shape: Product = { lead: [200], blocks: 40, groups: 280, bits, affine, epilogue: false };
    return [productModule(shape), expertsModule({ ...shape, lead: [512] })].flatMap((module, i) =>
      compileToPlan(module, webgpuTarget).plan.kernels.map((kernel) => ({
        name: `${i === 0 ? "tokens" : "experts"} at ${bits} bits${affine ? ", affine" : ""}`,
        kernel,
      })),
    );
  });
}

/** Kernels that multiply by matrix units, for a GPU that lists what NVIDIA's do. */
export function unitKernels(): readonly NamedKernel[] {
  const matrices = { subgroup: 32, sizes: [{ m: 16, n: 16, k: 32 }] };
  const target = webgpuTargetOf({ ...leastWebGpu, matrices });
  const shape: Product = { lead: [64], blocks: 9, groups: 3, bits: 4, affine: false, epilogue: true };
  const modules = [productModule(shape), productModule({ ...shape, lead: [17], bits: 8, affine: true })];
  const kernels = modules.flatMap((module) => compileToPlan(module, target).plan.kernels);
  return kernels.filter(({ body }) => multiplies(body)).map((kernel) => ({ name: "matrix units", kernel }));
}

function multiplies(body: readonly Stmt[]): boolean {
  let found = false;
  eachStmt(body, ({ k }) => {
    if (k === "multiply") found = true;
  });
  return found;
}
