/** Compares the tensors of a checkpoint with the weights a config needs, before anything is loaded. */
import { InputError, nearestName } from "../../ir/errors.ts";
import { isFloat, type Shape, sameShape, showType } from "../../ir/types.ts";
import type { ModelConfig } from "./config.ts";
import { type CheckpointHeaders, namesOf, scaleShape, scaleSuffix, type WeightSpec, weightSpecs } from "./weights.ts";

const shownProblems = 5;
/** Counting stops here, so that a config with millions of experts cannot make a long loop out of a small checkpoint. */
const maxProblems = 1000;

/**
 * Throws one InputError naming the first few weights that are missing or have the wrong shape or dtype.
 * Returns the names of tensors that no part of the model asks for, without those that checkpoints are known to carry:
 * multi-token-prediction layers, rope tables (`rotary_emb.inv_freq`) and the head of a model with tied embeddings.
 */
export function checkWeights(
  config: ModelConfig,
  headers: CheckpointHeaders,
  where = "checkpoint",
): { readonly unexpected: readonly string[] } {
  const known = new Set<string>();
  const problems: string[] = [];
  const specs = weightSpecs(config);
  for (const spec of specs) {
    for (const name of namesOf(spec)) {
      if (problems.length >= maxProblems) break;
      known.add(name);
      const problem = weightProblem(config, headers, name, spec, known);
      if (problem === undefined) continue;
      // Looking for a near name is slow; only problems that will be shown deserve it.
      problems.push(problems.length < shownProblems ? problem + nearHint(specs, headers, problem) : problem);
    }
  }
  if (problems.length > 0) throw weightsError(where, config, problems);
  return { unexpected: [...headers.keys()].filter((name) => !known.has(name) && !isToleratedExtra(config, name)) };
}

/** What is wrong with one weight, or undefined. The name of its scales is added to `known`. */
function weightProblem(
  config: ModelConfig,
  headers: CheckpointHeaders,
  name: string,
  spec: WeightSpec,
  known: Set<string>,
): string | undefined {
  const found = headers.get(name);
  if (found === undefined) return missing(name, spec.shape);
  if (!sameShape(found.shape, spec.shape)) return `${name}: expected shape ${show(spec.shape)}, got ${showType(found)}`;
  if (found.dtype !== "f8e4m3") {
    const plain = isFloat(found.dtype) && found.dtype !== "f8e8m0";
    return plain ? undefined : `${name}: expected f32, f16 or bf16, got ${showType(found)}`;
  }
  if (!spec.quantized || config.quantization === null) {
    return `${name}: expected f32, f16 or bf16 (quantization_config does not cover it), got ${showType(found)}`;
  }
  const scaleName = name + scaleSuffix;
  known.add(scaleName);
  const scales = headers.get(scaleName);
  const expected = scaleShape(spec.shape, config.quantization.weight_block_size);
  if (scales === undefined) return missing(scaleName, expected);
  const fits = scales.dtype === "f32" && sameShape(scales.shape, expected);
  return fits ? undefined : `${scaleName}: expected f32${show(expected)}, got ${showType(scales)}`;
}

function missing(name: string, shape: Shape): string {
  return `${name}: missing, expected shape ${show(shape)}`;
}

/** The nearest name in the same layer that nothing else in the model asks for. */
function nearHint(specs: readonly WeightSpec[], headers: CheckpointHeaders, problem: string): string {
  const name = /^(\S+): missing/.exec(problem)?.[1];
  if (name === undefined) return "";
  const near = nearestName(name, spareNames(specs, headers, /^model\.layers\.\d+\./.exec(name)?.[0] ?? ""));
  return near === undefined ? "" : ` (did you mean ${near}?)`;
}

/** At most 2000 tensors below `prefix` whose name fits no spec. */
function* spareNames(specs: readonly WeightSpec[], headers: CheckpointHeaders, prefix: string): Generator<string> {
  const wanted = new Set(specs.map((spec) => spec.name));
  let left = 2000;
  for (const name of headers.keys()) {
    const pattern = name.replace(/^model\.layers\.\d+\./, "model.layers.{layer}.");
    if (!name.startsWith(prefix) || wanted.has(pattern.replace(/\.experts\.\d+\./, ".experts.{expert}."))) continue;
    yield name;
    if (--left === 0) return;
  }
}

function weightsError(where: string, config: ModelConfig, problems: readonly string[]): InputError {
  const count = problems.length >= maxProblems ? `${maxProblems} or more` : String(problems.length);
  const shown = problems.slice(0, shownProblems).map((problem) => `  ${problem}`);
  const rest = problems.length > shownProblems ? [`  and ${problems.length - shownProblems} more`] : [];
  const noHead = problems.some((problem) => problem.startsWith("lm_head.weight: missing"));
  const hint = noHead
    ? "A checkpoint without lm_head.weight needs tie_word_embeddings true in its config."
    : "Check that config.json and the checkpoint are of the same model and that every shard is there.";
  return new InputError(
    where,
    `${count} ${problems.length === 1 ? "weight does" : "weights do"} not fit the ${config.model_type} config`,
    {
      text: [...shown, ...rest].join("\n"),
      hint,
    },
  );
}

function isToleratedExtra(config: ModelConfig, name: string): boolean {
  if (name.endsWith(".rotary_emb.inv_freq")) return true;
  if (name === "lm_head.weight") return config.tie_word_embeddings;
  const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
  const past = Number(layer ?? 0) - config.num_hidden_layers;
  return past >= 0 && past < Math.max(config.num_nextn_predict_layers, 1);
}

function show(shape: Shape): string {
  return `[${shape.join(",")}]`;
}
