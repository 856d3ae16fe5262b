/**
 * The policy of quantisation: which weights become which format, and which contractions get quantised activations.
 *
 * Weights are named by patterns as in `{ overrides: { "lm_head": "int8", "*.down_proj": "none" } }`: a checkpoint name
 * without `.weight`, in which `*` stands for anything. Layers share one function, so a pattern cannot single out a layer:
 * names have `{layer}` for its number and `{0}` for an expert's. What no override matches falls under `defaultRules`.
 */
import { didYouMean, InputError, showValue } from "../../ir/errors.ts";
import { isOp, type Node, topoOrder } from "../../ir/graph.ts";
import type { CodeDType, ScaleMethod } from "../../ir/ops/groups.ts";

/**
 * `none`: as stored, as far as the device reads that; `f32`: widened when they are loaded. `int4` is symmetric, 4.5 bits a
 * weight in groups of 32; `int4-affine` has a minimum beside the scale, 5 bits.
 */
export type WeightFormat = "f32" | "none" | "int8" | "int4" | "int4-affine";
/** `int8`: per group, by the scale of each at run time. `int8-static`: one calibrated scale per input of a layer. */
export type ActivationFormat = "none" | "int8" | "int8-static";

export interface QuantizeOptions {
  /** What weights of linear layers and experts become. */
  readonly weights: WeightFormat;
  /** What these layers' inputs become. Default `none`: weights alone are quantised. */
  readonly activations?: ActivationFormat;
  /** Elements that share a scale. Default 32. */
  readonly group?: number;
  /** How scales of 4-bit weights are found: `mse` (default) by least squared error, `range` from the largest element. */
  readonly method?: ScaleMethod;
  /** Formats by name pattern; the first that matches decides. */
  readonly overrides?: Readonly<Record<string, WeightFormat>>;
}

interface Rule {
  readonly pattern: string;
  /** Null: the format asked for. Otherwise this one, or a less precise one is never taken. */
  readonly least: "none" | "int8" | null;
  readonly activations: boolean;
  readonly reason: string;
}

/** In order; the first that matches decides. Tensors of one axis (norms, biases) are never quantised. */
export const defaultRules: readonly Rule[] = [
  { pattern: "rope.*", least: "none", activations: false, reason: "angles, not weights" },
  {
    pattern: "*.mlp.gate",
    least: "none",
    activations: false,
    reason: "the router: small, and a wrong expert costs more than its bytes",
  },
  {
    pattern: "*.kv_b_proj",
    least: "int8",
    activations: false,
    reason:
      "makes every key and value: in 4 bits it costs as much quality as all experts together; absorbed, it is summed along another axis than the one its scales run along, so its inputs stay as they are",
  },
  { pattern: "model.embed_tokens", least: "int8", activations: false, reason: "rows are copied, not summed over" },
  { pattern: "lm_head", least: "int8", activations: true, reason: "its error goes straight into the logits" },
  { pattern: "*", least: null, activations: true, reason: "linear layers and experts: nearly all bytes" },
];

export const weightFormats: readonly WeightFormat[] = ["f32", "none", "int8", "int4-affine", "int4"]; // most precise first

/** Whether a format is codes, which are weights rounded. */
export function isCoded(format: WeightFormat): format is CodedFormat {
  return format !== "none" && format !== "f32";
}

export type CodedFormat = Exclude<WeightFormat, "none" | "f32">;
export const activationFormats: readonly ActivationFormat[] = ["none", "int8", "int8-static"];

/** What to do with one weight. */
export interface WeightPlan {
  readonly format: WeightFormat;
  readonly activations: ActivationFormat;
}

/** The same with what decided it. */
export interface ReasonedPlan extends WeightPlan {
  /** Of `defaultRules`, or of the caller's overrides. */
  readonly pattern: string;
  readonly reason: string;
}

/** Codes of a format. */
export function codesOf(format: CodedFormat): CodeDType {
  return format === "int8" ? "i8" : format === "int4" ? "i4" : "u4";
}

/** The plan for a weight by its name, e.g. `model.layers.{layer}.mlp.experts.{0}.up_proj.weight`. */
export function planWeight(name: string, options: QuantizeOptions): ReasonedPlan {
  const short = shortName(name);
  const rule = defaultRules.find(({ pattern }) => matches(pattern, short))!; // the last rule matches everything
  const override = Object.entries(options.overrides ?? {}).find(([pattern]) => matches(pattern, short));
  const format = override?.[1] ?? morePrecise(rule.least ?? "int4", options.weights);
  const activations = rule.activations && isCoded(format) ? (options.activations ?? "none") : "none";
  const { pattern, reason } = override === undefined ? rule : { pattern: override[0], reason: "asked for" };
  return { format, activations, pattern, reason };
}

/** The plan for a weight expression: the most precise of what its weights ask for. */
export function planExpression(expr: Node, options: QuantizeOptions): WeightPlan {
  const plans = weightNames(expr).map((name) => planWeight(name, options));
  const format = plans.reduce<WeightFormat>((found, plan) => morePrecise(found, plan.format), "int4");
  const weightOnly = plans.length === 0 || plans.some(({ activations }) => activations === "none");
  return { format: plans.length === 0 ? "none" : format, activations: weightOnly ? "none" : plans[0]!.activations };
}

/** Names of the weights in an expression. */
export function weightNames(expr: Node): string[] {
  return topoOrder([expr])
    .filter((node) => isOp(node, "weight"))
    .map((node) => node.attrs.name);
}

/**
 * Whether a weight, by its name in the checkpoint, is a matrix of a linear layer or an expert: what may be pruned by
 * magnitude. What `defaultRules` keeps more precise is left as it is there too.
 */
export function isMatrixOfLayers(name: string): boolean {
  return name.endsWith(".weight") && planWeight(name, { weights: "int4" }).format === "int4";
}

/** "weights rounded to int4, layer inputs to int8"; nothing where nothing is rounded. */
export function quantizeSentences(options: QuantizeOptions | undefined): string[] {
  const { weights = "none", activations = "none", overrides = {} } = options ?? {};
  if (![weights, ...Object.values(overrides)].some(isCoded)) return [];
  const inputs = activations === "none" ? "" : `, layer inputs to ${activations}`;
  const others = Object.entries(overrides).map(([pattern, format]) => `, ${pattern} ${format}`);
  return [`weights rounded to ${weights}${inputs}${others.join("")}`];
}

/** Elements that share a scale; 1 where nothing has scales. */
export function scaleGroup(options: QuantizeOptions | undefined): number {
  return quantizeSentences(options).length === 0 ? 1 : (options?.group ?? 32);
}

/** A name as patterns have it; parts of divided models count layers from their first. */
export function shortName(name: string): string {
  return name.replace(/\.weight(_scale_inv)?$/, "").replace(/\blayers\.(\{\+\d+\}|\d+)\./, "layers.{layer}.");
}

function morePrecise(a: WeightFormat, b: WeightFormat): WeightFormat {
  return weightFormats.indexOf(a) < weightFormats.indexOf(b) ? a : b;
}

function matches(pattern: string, name: string): boolean {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(name);
}

/** @throws InputError for a format or option that does not exist; `where` names the options in messages. */
export function checkQuantizeOptions(options: QuantizeOptions, where = "quantize"): void {
  if (typeof options !== "object" || options === null) {
    throw new InputError(where, `expected options such as { weights: "int8" }, got ${showValue(options)}`);
  }
  const known = ["weights", "activations", "group", "method", "overrides"];
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const hint = didYouMean(name, known) ?? `Options: ${known.join(", ")}.`;
    throw new InputError(`${where} ${name}`, "unknown option", { hint });
  }
  const { activations = "none", group = 32, method = "mse", overrides = {} } = options;
  oneOf(`${where} weights`, options.weights, weightFormats);
  oneOf(`${where} activations`, activations, activationFormats);
  oneOf(`${where} method`, method, ["mse", "range"]);
  if (!Number.isInteger(group) || group < 1) {
    throw new InputError(`${where} group`, `expected a whole number of elements above 0, got ${group}`);
  }
  for (const [pattern, format] of Object.entries(overrides)) {
    oneOf(`${where} overrides ${JSON.stringify(pattern)}`, format, weightFormats);
  }
}

/** The options for a part of a model with these weights: without overrides that match none of them. */
export function overridesFor(names: readonly string[], options: QuantizeOptions): QuantizeOptions {
  if (options.overrides === undefined) return options;
  const short = names.map(shortName);
  const found = Object.entries(options.overrides).filter(([pattern]) => short.some((name) => matches(pattern, name)));
  return { ...options, overrides: Object.fromEntries(found) };
}

/** @throws InputError for an override that matches none of the model's weights. */
export function checkOverrides(names: readonly string[], options: QuantizeOptions): void {
  const short = names.map(shortName);
  for (const pattern of Object.keys(options.overrides ?? {})) {
    if (short.some((name) => matches(pattern, name))) continue;
    const hint = didYouMean(pattern, short) ?? `Weights are called like ${short.slice(-3).join(", ")}.`;
    throw new InputError(`quantize overrides ${JSON.stringify(pattern)}`, "matches no weight", { hint });
  }
}

function oneOf(where: string, value: unknown, allowed: readonly string[]): void {
  if (typeof value === "string" && allowed.includes(value)) return;
  const hint = typeof value === "string" ? didYouMean(value, [...allowed]) : undefined;
  const what = `expected ${allowed.join(" or ")}, got ${JSON.stringify(value)}`;
  throw new InputError(where, what, hint === undefined ? {} : { hint });
}
