/**
 * A step that chooses the next token of every sequence itself: whoever drives it moves tokens and positions on, and needs
 * no logits for that. What `decode.ts` does in a row on one device, several devices do with this, step by step.
 *
 * Letters as in model.ts; n tokens are outputs all, and one of a sequence each.
 */
import { maths } from "../../ir/build.ts";
import { invariant } from "../../ir/errors.ts";
import { Builder, type Func, type Module, makeModule, type Node, rebuild } from "../../ir/graph.ts";
import { keepName } from "../../ir/rewrite.ts";
import { type SamplerKind, samplerColumns, sampleTokens } from "../sampling/sample.ts";
import { type Bucket, cacheSpecs } from "./bucket.ts";
import type { ModelConfig } from "./config.ts";
import { type BuildOptions, buildModel } from "./model.ts";

/**
 * The module whose entry is `sampled(tokens i32[n], positions i32[n], sequence i32[n], slots i32[n], blockTable i32[b, m],
 * outputs i32[n], uniforms f32[n], options f32[n, 4], ...caches) -> ids i32[n], ...caches'`. An id of -1 says that the
 * logits were no numbers.
 */
export function buildSampled(
  config: ModelConfig,
  bucket: Bucket & { readonly kind: SamplerKind },
  options: BuildOptions = {},
): Module {
  const model = buildModel(config, { ...bucket, outputs: bucket.tokens }, options);
  const { [model.entry]: step, ...others } = Object.fromEntries(model.funcs);
  invariant(step !== undefined, () => "a model without its entry");
  const builder = new Builder();
  const m = maths(builder);
  // Not a call: a pipeline divides what the entry does.
  const { roots, mapping } = rebuild(step.outs, builder, (node, original) => keepName(original, node));
  const [logits, ...newCaches] = roots;
  const params = step.params.map(
    (param) => mapping.get(param) ?? builder.make("param", [], param.attrs),
  ) as Node<"param">[]; // copies of such
  const inputs = params.length - cacheSpecs(config, bucket).length;
  const uniform = builder.param("uniforms", "f32", [bucket.tokens]);
  const choice = builder.param("options", "f32", [bucket.tokens, samplerColumns.length]);
  const ids = m.named("ids", sampleTokens(m, bucket.kind, { logits: logits!, uniform, options: choice }));
  const entry: Func = {
    name: "sampled",
    params: [...params.slice(0, inputs), uniform, choice, ...params.slice(inputs)],
    outs: [ids, ...newCaches],
  };
  return makeModule(model.name, [...Object.values(others), entry], entry.name);
}
