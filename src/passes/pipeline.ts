/** The pipelines: which passes run, in which order, and why the order matters. */
import type { Kernel } from "../ir/kernel/kernel.ts";
import type { Target } from "../ir/target.ts";
import { expand } from "./expand.ts";
import { hoistInvariants } from "./kernel/hoist.ts";
import { simplifyIndices } from "./kernel/indices.ts";
import { legalize } from "./legalize.ts";
import type { Pass } from "./pass.ts";
import { simplify } from "./simplify.ts";

export interface PipelineOptions {
  /** False: only what is needed to run at all. */
  readonly optimize: boolean;
}

/** From the model as it was written to what fusion and lowering take. */
export function tensorPasses(target: Target, { optimize }: PipelineOptions): readonly Pass[] {
  if (!optimize) return [expand(), legalize(target)];
  return [
    simplify(),
    // Attention is lowered whole, to a kernel that never stores its scores.
    expand({ keep: ["attention"] }),
    legalize(target),
    simplify(),
  ];
}

export interface KernelPass {
  readonly name: string;
  readonly run: (kernel: Kernel) => Kernel;
}

/** From generic loops to loops that do nothing twice. */
export function kernelPasses(_target: Target, { optimize }: PipelineOptions): readonly KernelPass[] {
  if (!optimize) return [];
  return [
    // Smaller index expressions have more parts that do not vary.
    { name: "indices", run: simplifyIndices },
    { name: "hoist", run: hoistInvariants },
    { name: "indices", run: simplifyIndices },
  ];
}
