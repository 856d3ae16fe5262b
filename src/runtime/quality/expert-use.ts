/** How a model's gates use its routed experts on sample text. */
import type { ExpertUse } from "../../compile.ts";
import { InputError } from "../../ir/errors.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import { moeLayers } from "../../models/deepseek/pruned.ts";
import { runSamples, type SampleOptions, sampleChunk } from "../steps/run-samples.ts";
import type { WeightStore } from "../weights/weight-store.ts";

/** Counts over whole chunks of the sequences; see `runSamples`. */
export async function measureExperts(
  config: ModelConfig,
  weights: WeightStore,
  sequences: readonly ArrayLike<number>[],
  options: SampleOptions & { readonly build: BuildOptions },
): Promise<ExpertUse> {
  const layers = [...moeLayers(config)].map(([layer, { n_routed_experts }]) => {
    const zeros = () => new Array<number>(n_routed_experts).fill(0);
    return { layer, chosen: zeros(), weight: zeros() };
  });
  if (layers.length === 0) throw new InputError("prune", `${config.model_type} has no routed experts in any layer`);
  let tokens = 0;
  const build = { ...options.build, routing: true };
  await runSamples(
    (bucket) => buildModel(config, bucket, build),
    weights,
    sequences,
    options,
    (extra) => {
      tokens += sampleChunk;
      for (const [i, { chosen, weight }] of layers.entries()) {
        const [experts, shares] = [extra[2 * i]!, extra[2 * i + 1]!];
        for (let j = 0; j < experts.length; j++) {
          const expert = experts[j]!;
          chosen[expert]! += 1;
          weight[expert]! += shares[j]!;
        }
      }
    },
  );
  return { tokens, layers: Object.fromEntries(layers.map(({ layer, ...use }) => [layer, use])) };
}
