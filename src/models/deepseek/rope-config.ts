/**
 * The rotary-embedding part of `config.json`: `rope_theta` with `rope_scaling` (published spelling) or
 * `rope_parameters` (newer spelling), read into one tagged record.
 */
import {
  boolField,
  choiceField,
  type Fields,
  fieldsOf,
  numberField,
  optionalNumberField,
  type Range,
  rawField,
  unsupportedValue,
  wrongValue,
} from "./fields.ts";

/** How frequencies are stretched beyond the trained context; field names as Hugging Face spells them. */
export type RopeScaling =
  | { readonly rope_type: "default" }
  | { readonly rope_type: "linear"; readonly factor: number }
  | {
      readonly rope_type: "llama3";
      readonly factor: number;
      readonly low_freq_factor: number;
      readonly high_freq_factor: number;
      readonly original_max_position_embeddings: number;
    }
  | YarnScaling;

export interface YarnScaling {
  readonly rope_type: "yarn";
  readonly factor: number;
  readonly original_max_position_embeddings: number;
  readonly beta_fast: number;
  readonly beta_slow: number;
  /** DeepSeek's pair; null where the config does not say. */
  readonly mscale: number | null;
  readonly mscale_all_dim: number | null;
  /** Overrides the factor on cos and sin when not null. */
  readonly attention_factor: number | null;
  /**
   * A key of R1-0528-Qwen3-8B that Hugging Face ignores (it reads `attention_factor`) and other engines multiply into
   * the YaRN factor, which makes that factor 1. Recorded, not used: `RopeConfig.attention_factor` is what is computed.
   */
  readonly attn_factor: number | null;
  /** Whether the ends of the ramp are rounded to whole dimensions. */
  readonly truncate: boolean;
}

export interface RopeConfig {
  readonly rope_theta: number;
  /** Rotated dimensions of a head, even. */
  readonly dim: number;
  /** `half`: pairs (i, i + dim/2). `interleaved`: pairs (2i, 2i + 1). */
  readonly layout: "half" | "interleaved";
  readonly scaling: RopeScaling;
  /** Multiplies cos and sin. 1 except for YaRN. */
  readonly attention_factor: number;
}

const ropeTypes = ["default", "linear", "llama3", "yarn"] as const;

const thetas: Range = { min: 1.001, max: 1e12 };
const factors: Range = { min: 1, max: 65536 };
const positions: Range = { min: 1, max: 2 ** 24 };
const mscales: Range = { min: 0, max: 1000 };

/** Reads `rope_theta` and the scaling; where both spellings are present the newer one wins. */
export function readRope(
  config: Fields,
  maxPositions: number,
): { readonly rope_theta: number; readonly scaling: RopeScaling } {
  const newer = rawField(config, "rope_parameters");
  const older = rawField(config, "rope_scaling");
  const name = newer === undefined ? "rope_scaling" : "rope_parameters";
  const fields = fieldsOf(newer ?? older ?? {}, `${config.where} ${name}`);
  const thetaFields = rawField(fields, "rope_theta") === undefined ? config : fields;
  const partial = numberField(fields, "partial_rotary_factor", { min: 0, max: 1 }, 1);
  if (partial !== 1) throw unsupportedValue(fields, "partial_rotary_factor", "1", partial);
  return {
    rope_theta: numberField(thetaFields, "rope_theta", thetas, 10000),
    scaling: readScaling(fields, maxPositions),
  };
}

function readScaling(fields: Fields, maxPositions: number): RopeScaling {
  const key =
    rawField(fields, "rope_type") === undefined && rawField(fields, "type") !== undefined ? "type" : "rope_type";
  // A record with a factor but no type would silently lose its scaling.
  const rope_type = choiceField(
    fields,
    key,
    ropeTypes,
    rawField(fields, "factor") === undefined ? "default" : undefined,
  );
  switch (rope_type) {
    case "default":
      return { rope_type };
    case "linear":
      return { rope_type, factor: numberField(fields, "factor", factors) };
    case "llama3":
      return readLlama3(fields);
    case "yarn":
      return readYarn(fields, maxPositions);
  }
}

function readLlama3(fields: Fields): RopeScaling {
  const low_freq_factor = numberField(fields, "low_freq_factor", { min: 1e-3, max: 1e4 });
  const high_freq_factor = numberField(fields, "high_freq_factor", { min: 1e-3, max: 1e4 });
  if (high_freq_factor <= low_freq_factor) {
    throw wrongValue(fields, "high_freq_factor", `more than low_freq_factor ${low_freq_factor}`, high_freq_factor);
  }
  return {
    rope_type: "llama3",
    factor: numberField(fields, "factor", factors),
    low_freq_factor,
    high_freq_factor,
    original_max_position_embeddings: numberField(fields, "original_max_position_embeddings", positions),
  };
}

function readYarn(fields: Fields, maxPositions: number): YarnScaling {
  const beta_fast = numberField(fields, "beta_fast", { min: 1e-3, max: 1e6 }, 32);
  const beta_slow = numberField(fields, "beta_slow", { min: 1e-3, max: 1e6 }, 1);
  if (beta_fast < beta_slow) throw wrongValue(fields, "beta_fast", `at least beta_slow ${beta_slow}`, beta_fast);
  return {
    rope_type: "yarn",
    factor: numberField(fields, "factor", factors),
    original_max_position_embeddings: numberField(fields, "original_max_position_embeddings", positions, maxPositions),
    beta_fast,
    beta_slow,
    mscale: optionalNumberField(fields, "mscale", mscales),
    mscale_all_dim: optionalNumberField(fields, "mscale_all_dim", mscales),
    attention_factor: optionalNumberField(fields, "attention_factor", { min: 1e-3, max: 1000 }),
    attn_factor: optionalNumberField(fields, "attn_factor", { min: 1e-3, max: 1000 }),
    truncate: boolField(fields, "truncate", true),
  };
}
