/**
 * Rotary position embedding: the frequency of each pair of dimensions under each scaling, the factor on cos and sin,
 * and the factor on attention scores. Angles are position * frequency, in radians.
 */
import type { RopeConfig, RopeScaling, YarnScaling } from "./rope-config.ts";

type RopeFrequencies = Pick<RopeConfig, "rope_theta" | "dim" | "scaling">;

/** Radians per position of pair i, for i in 0..dim/2-1. Unscaled: theta^(-2i/dim). */
export function inverseFrequencies({ rope_theta, dim, scaling }: RopeFrequencies): Float64Array {
  const base = Float64Array.from({ length: dim / 2 }, (_, i) => rope_theta ** ((-2 * i) / dim));
  switch (scaling.rope_type) {
    case "default":
      return base;
    case "linear":
      return base.map((f) => f / scaling.factor);
    case "llama3":
      return base.map((f) => llama3Frequency(f, scaling));
    case "yarn": {
      const [low, high] = yarnRamp(rope_theta, dim, scaling);
      return base.map((f, i) => {
        const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
        return (f / scaling.factor) * ramp + f * (1 - ramp);
      });
    }
  }
}

/**
 * Llama 3: wavelengths above original/low_freq_factor are stretched by `factor`, those below
 * original/high_freq_factor are kept, and between them the two are mixed linearly in 1/wavelength.
 */
function llama3Frequency(f: number, scaling: Extract<RopeScaling, { rope_type: "llama3" }>): number {
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = scaling;
  const turns = (original_max_position_embeddings * f) / (2 * Math.PI); // rotations over the trained context
  const keep = Math.min(Math.max((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0), 1);
  return (1 - keep) * (f / factor) + keep * f;
}

/** The pairs between which YaRN moves from kept to stretched frequencies: those that turn beta times in the context. */
export function yarnRamp(theta: number, dim: number, scaling: YarnScaling): readonly [low: number, high: number] {
  const pairTurning = (beta: number) =>
    (dim * Math.log(scaling.original_max_position_embeddings / (beta * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = pairTurning(scaling.beta_fast);
  const high = pairTurning(scaling.beta_slow);
  const first = Math.max(scaling.truncate ? Math.floor(low) : low, 0);
  const last = Math.min(scaling.truncate ? Math.ceil(high) : high, dim - 1);
  return [first, first === last ? last + 0.001 : last]; // a ramp of width 0 would divide by 0
}

/** YaRN's magnitude correction, 0.1 * mscale * ln(factor) + 1. */
export function yarnMscale(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** The factor on cos and sin: 1 except for YaRN, where DeepSeek's mscale pair gives a quotient. */
export function attentionFactor(scaling: RopeScaling): number {
  if (scaling.rope_type !== "yarn") return 1;
  const { factor, mscale, mscale_all_dim } = scaling;
  if (scaling.attention_factor !== null) return scaling.attention_factor;
  if (mscale && mscale_all_dim) return yarnMscale(factor, mscale) / yarnMscale(factor, mscale_all_dim);
  return yarnMscale(factor);
}

/** Scores of MLA are multiplied by headDim^(-1/2), and under YaRN by mscale(mscale_all_dim)^2 as well. */
export function mlaSoftmaxScale(qkHeadDim: number, scaling: RopeScaling): number {
  const mscale =
    scaling.rope_type === "yarn" && scaling.mscale_all_dim ? yarnMscale(scaling.factor, scaling.mscale_all_dim) : 1;
  return (mscale * mscale) / Math.sqrt(qkHeadDim);
}
