/**
 * Counter-based random numbers: the number for a seed and a counter is a pure function of both, so a sequence that is
 * preempted, replayed on another machine or batched with others draws the same numbers.
 */

const goldenGamma = 0x9e3779b97f4a7c15n;

/** 64-bit finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014; variant 13 of Stafford's mixers). */
function mix64(value: bigint): bigint {
  let z = BigInt.asUintN(64, value);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

/**
 * Element `counter` of the SplitMix64 stream whose state starts at mix64(seed), as a number in [0, 1) with 53 random bits.
 * The seed is mixed first because neighbouring raw states would make the stream of one seed a shift of another's.
 * Both arguments are safe integers; the seed may be negative.
 */
export function uniformAt(seed: number, counter: number): number {
  const state = mix64(BigInt(seed)) + BigInt(counter + 1) * goldenGamma;
  return Number(mix64(state) >> 11n) * 2 ** -53;
}

/** A seed for a request that names none: 53 bits from the platform's generator, so that the run can be repeated. */
export function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return (words[0]! & 0x1fffff) * 2 ** 32 + words[1]!;
}
