/** The pipelines: which passes run, in which order, and why the order matters. */
import type { Kernel } from "../ir/kernel/kernel.ts";
import type { Target } from "../ir/target.ts";
import { type AbsorbOptions, absorb } from "./absorb.ts";
import { expand } from "./expand.ts";
import { hoistInvariants } from "./kernel/hoist.ts";
import { simplifyIndices } from "./kernel/indices.ts";
import { vectorizeLoops } from "./kernel/vectorize.ts";
import { legalize } from "./legalize.ts";
import { mergeContracts } from "./merge-contracts.ts";
import type { Pass } from "./pass.ts";
import { simplify } from "./simplify.ts";

export interface PipelineOptions {
  /** False leaves only what is needed to run at all. Default true. */
  readonly optimize?: boolean;
  readonly absorb?: AbsorbOptions;
}

/** From the model's functions to functions of primitive ops and `attention` that the target can take. */
export function tensorPasses(target: Target, options: PipelineOptions = {}): Pass[] {
  if (options.optimize === false) return [expand(), legalize(target)];
  return [
    simplify(), // absorb matches values as simplify spells them
    absorb(options.absorb), // before expand, which takes rope and rmsNorm apart; needs `attention` whole
    expand({ keep: ["attention"] }), // attention has a kernel of its own
    legalize(target),
    mergeContracts, // after legalize, so that all weights of contractions are f32
    simplify(), // what absorb, expand and merge-contracts left
  ];
}

export interface KernelPass {
  readonly name: string;
  readonly run: (kernel: Kernel) => Kernel;
}

/** From generic loops to loops that do nothing twice. */
export function kernelPasses(target: Target, options: PipelineOptions = {}): KernelPass[] {
  if (options.optimize === false) return [];
  return [
    { name: "indices", run: simplifyIndices }, // smaller index expressions have more parts that do not vary
    { name: "hoist", run: hoistInvariants },
    { name: "indices", run: simplifyIndices }, // what is hoisted has a range of its own
    ...(target.lanes === 4
      ? [
          { name: "vectorize", run: vectorizeLoops }, // wants the plain indices that the others leave
          { name: "hoist", run: hoistInvariants }, // scalars that are now spread over lanes
        ]
      : []),
  ];
}
