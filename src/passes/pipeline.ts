/** The pipelines: which passes run, in which order, and why the order matters. */
import type { Kernel } from "../ir/kernel/kernel.ts";
import type { NarrowWeights, Target } from "../ir/target.ts";
import { type AbsorbOptions, absorb } from "./absorb.ts";
import { expand } from "./expand.ts";
import { holdNarrow } from "./hold-narrow.ts";
import { loadFours } from "./kernel/fours.ts";
import { hoistInvariants } from "./kernel/hoist.ts";
import { simplifyIndices } from "./kernel/indices.ts";
import { splitLoops } from "./kernel/split.ts";
import { vectorizeLoops } from "./kernel/vectorize.ts";
import { legalize } from "./legalize.ts";
import { mergeContracts, mergeContractsBy } from "./merge-contracts.ts";
import { orientWeights } from "./orient-weights.ts";
import { packDots, packDotsOf } from "./pack-dots.ts";
import type { Pass } from "./pass.ts";
import { observe } from "./quantize/observe.ts";
import { isMatrixOfLayers, planExpression, type QuantizeOptions, weightNames } from "./quantize/policy.ts";
import { quantize } from "./quantize/quantize.ts";
import { simplify } from "./simplify.ts";
import { splitAttention } from "./split-attention.ts";
import { unpackTables } from "./unpack-tables.ts";

export interface PipelineOptions {
  /** False leaves only what is needed to run at all. Default true. */
  readonly optimize?: boolean;
  readonly absorb?: AbsorbOptions;
  /** Left out, weights stay as they are stored. */
  readonly quantize?: QuantizeOptions;
  /** The matrices of layers are 0 but for two of each four in a row: their codes are stored so, where products take them. */
  readonly pairs?: boolean;
  /** Quantises nothing, but makes the program tell how large the inputs are that `quantize` asks calibrated scales for. */
  readonly observe?: boolean;
  /** Weights that stay as they are stored. Default: what the target says. */
  readonly narrow?: NarrowWeights | null;
}

const packPairs = packDotsOf({ arePairs: (codes) => weightNames(codes).every(isMatrixOfLayers) });
const packRows = packDotsOf({ order: "rows" });

/** For targets that multiply codes: an invocation of a workgroup multiplies a row's, lanes of vectors those of four. */
function packFor({ byteDots, workgroup }: Target, pairs = false): Pass[] {
  if (byteDots === null) return [];
  return [workgroup !== null ? packRows : pairs ? packPairs : packDots];
}

/** From the model's functions to functions of primitive ops and `attention` that the target can take. */
export function tensorPasses(target: Target, options: PipelineOptions = {}): Pass[] {
  const policy = options.quantize;
  const { narrow = target.narrowWeights ?? null } = options;
  // After merge-contracts, so that what is merged is quantised once. Each row of a weight is quantised on its own, so
  // merging changes no code.
  const quantized = policy === undefined ? [] : [options.observe ? observe(policy) : quantize(policy)];
  if (options.optimize === false) return [expand(), legalize(target), ...quantized];
  const merged =
    policy === undefined
      ? mergeContracts
      : mergeContractsBy((weight) => JSON.stringify(planExpression(weight, policy)));
  return [
    simplify(), // absorb matches values as simplify spells them
    absorb(options.absorb), // before expand, which takes rope and rmsNorm apart; needs `attention` whole
    expand({ keep: target.keeps }), // kernels: attention has one of its own
    legalize(target),
    merged, // after legalize, so that all weights of contractions are f32
    ...quantized,
    ...(target.level === "tensor" ? [unpackTables] : []), // what quantize made of chosen weights
    ...packFor(target, options.pairs), // what quantize made
    simplify(), // what absorb, expand, merge-contracts and quantize left
    ...(target.inputMajor ? [orientWeights] : []), // after simplify, which takes transposes into contractions
    ...(narrow === null ? [] : [holdNarrow(narrow, policy)]), // wants weights as they are read
    ...(target.workgroup === null ? [] : [splitAttention(target.workgroup)]), // after absorb, which knows attention whole
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
    // Wants quotients of loop variables, which "indices" leaves; "hoist" takes what it makes invariant out.
    ...(target.lanes === 4 ? [{ name: "split", run: splitLoops }] : []),
    { name: "hoist", run: hoistInvariants },
    { name: "indices", run: simplifyIndices }, // what is hoisted has a range of its own
    ...(target.lanes === 4
      ? [
          { name: "vectorize", run: vectorizeLoops }, // wants the plain indices that the others leave
          { name: "hoist", run: hoistInvariants }, // scalars that are now spread over lanes
        ]
      : []),
    ...(target.workgroup === null ? [] : [{ name: "fours", run: loadFours }]), // wants each element's index once
  ];
}

/** The name by which fusion, which is no pass of its own, can be disabled. */
export const fusePass = "fuse";

/** The name by which the merging of launches can be disabled. */
export const mergePass = "merge-launches";

/** Every name that can be disabled: tensor passes, fusion, merging, kernel passes. */
export function passNames(target: Target): string[] {
  const names = [...tensorPasses(target), { name: fusePass }, { name: mergePass }, ...kernelPasses(target)].map(
    ({ name }) => name,
  );
  return [...new Set(names)];
}
