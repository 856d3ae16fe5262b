/**
 * Counter-based random numbers: the number for a seed and a counter is a pure function of both, so a sequence that is
 * preempted, replayed on another machine or batched with others draws the same numbers.
 */

const goldenGamma = 0x9e3779b97f4a7c15n;

/**
 * Element `counter` (from 0) of the SplitMix64 sequence that starts at `state`, 64 bits unsigned. The generator adds a constant and mixes, so
 * any element is as near as the first (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
 */
export function splitMix64(state: bigint, counter: number): bigint {
  let z = BigInt.asUintN(64, state + BigInt(counter + 1) * goldenGamma);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

/**
 * The number of a seed and a counter, in [0, 1) with 53 random bits. The state is itself a SplitMix64 output, because seeds used as states
 * would make the sequence of one seed a shift of another's. Both are safe integers; the seed may be negative.
 */
export function uniformAt(seed: number, counter: number): number {
  return Number(splitMix64(splitMix64(BigInt(seed), 0), counter) >> 11n) * 2 ** -53;
}

/** A seed for a request that names none: 53 bits from the platform's generator, so that the run can be repeated. */
export function randomSeed(): number {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Number(new DataView(bytes.buffer).getBigUint64(0) >> 11n);
}
