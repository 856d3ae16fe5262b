/** What the engine offers, and the instructions that stand for an intrinsic where it lacks one. */
export type Tier = "relaxed" | "simd";

export interface Rules {
  readonly tier: Tier;
}

export const rulesOf: Readonly<Record<Tier, Rules>> = { relaxed: { tier: "relaxed" }, simd: { tier: "simd" } };
