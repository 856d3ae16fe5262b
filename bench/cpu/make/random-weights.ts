/**
 * Random weights that cost no more than writing them: a pool of blocks of 256 numbers is made once, in every format, and
 * a tensor is runs of the pool's blocks that begin where a hash of its name says. So all files of a model hold the same
 * numbers, but for `q4_k`, whose blocks are random bytes with sensible scales.
 *
 * Numbers are even in +-0.035, a deviation of 0.02: with rows of a thousand or some thousands of them, activations keep
 * their size from layer to layer. None is so small that a product becomes denormal, which would cost time.
 */
import { f16ToF32, f32ToF16 } from "../../../src/ir/half.ts";

export const blockSize = 256;
export type WeightFormat = "bf16" | "f32" | "q8_0" | "q4_0" | "q4_k";

/** Bytes of a block of 256 weights. */
export const blockBytes: Readonly<Record<WeightFormat, number>> = {
  bf16: 512,
  f32: 1024,
  q8_0: 8 * 34,
  q4_0: 8 * 18,
  q4_k: 144,
};

/** A prime number, so that blocks fall out of step with rows. */
const poolBlocks = 16381;
/** Blocks written at once: 128 KiB of bf16. */
const runBlocks = 256;
const widest = 0.0346;

export class RandomPool {
  readonly #pools = new Map<WeightFormat, Uint8Array>();

  /** The blocks of a tensor, or of tensors one after another, as views of the pool. `count`: numbers of all of them. */
  *tensor(names: readonly string[], count: number, format: WeightFormat): Generator<Uint8Array> {
    const bytes = blockBytes[format];
    const pool = this.#pool(format);
    for (const name of names) {
      let state = hash(name);
      // A tensor whose size is no multiple of 256 ends inside a block; such tensors are not joined to others.
      for (let left = count / names.length; left > 0; left -= runBlocks * blockSize) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        const from = ((state >>> 0) % (poolBlocks - runBlocks)) * bytes;
        const blocks = Math.min(left / blockSize, runBlocks);
        yield pool.subarray(from, from + blocks * bytes);
      }
    }
  }

  #pool(format: WeightFormat): Uint8Array {
    let pool = this.#pools.get(format);
    if (pool === undefined) {
      pool = new Uint8Array(poolBlocks * blockBytes[format]);
      if (format === "q4_k") fillQ4K(pool);
      else fill(pool, format);
      this.#pools.set(format, pool);
    }
    return pool;
  }
}

function fill(pool: Uint8Array, format: Exclude<WeightFormat, "q4_k">): void {
  const next = numbers(1);
  const view = new DataView(pool.buffer);
  const group = new Float32Array(32);
  const bits = new Uint32Array(group.buffer);
  for (let g = 0; g < poolBlocks * 8; g++) {
    for (let i = 0; i < 32; i++) {
      group[i] = (2 * next() - 1) * widest;
      bits[i]! &= 0xffff0000; // the nearest bf16 towards zero
    }
    if (format === "bf16") for (let i = 0; i < 32; i++) view.setUint16((g * 32 + i) * 2, bits[i]! >>> 16, true);
    else if (format === "f32") for (let i = 0; i < 32; i++) view.setUint32((g * 32 + i) * 4, bits[i]!, true);
    else if (format === "q8_0") writeQ8(view, g * 34, group);
    else writeQ4(view, g * 18, group);
  }
}

/** An f16 scale, then 32 signed bytes. */
function writeQ8(view: DataView, at: number, group: Float32Array): void {
  const most = group.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const scale = f32ToF16(most / 127);
  view.setUint16(at, scale, true);
  for (let i = 0; i < 32; i++) view.setInt8(at + 2 + i, clamp(Math.round(group[i]! / f16ToF32(scale)), -127, 127));
}

/** An f16 scale, then 16 bytes: weight i in the low half of byte i, weight i + 16 in its high half, both plus 8. */
function writeQ4(view: DataView, at: number, group: Float32Array): void {
  const most = group.reduce((found, value) => (Math.abs(value) > Math.abs(found) ? value : found), 0);
  const scale = f32ToF16(most / -8);
  view.setUint16(at, scale, true);
  const code = (value: number) => clamp(Math.round(value / f16ToF32(scale)) + 8, 0, 15);
  for (let i = 0; i < 16; i++) view.setUint8(at + 2 + i, code(group[i]!) | (code(group[i + 16]!) << 4));
}

/**
 * Two f16 factors, twelve bytes of 6-bit scales and minima, 128 bytes of codes. A weight is scale * code - minimum, so
 * with minima that mirror the scales and factors 1 to 7.5 the codes 0 to 15 spread evenly around zero.
 */
function fillQ4K(pool: Uint8Array): void {
  const next = numbers(2);
  const view = new DataView(pool.buffer);
  for (let block = 0; block < poolBlocks; block++) {
    const at = block * 144;
    for (let i = 0; i < 144; i++) pool[at + i] = next() * 256;
    view.setUint16(at, f32ToF16(9e-5), true);
    view.setUint16(at + 2, f32ToF16(7.5 * 9e-5), true);
    // Scales 0 to 3 and minima 0 to 3 lie in the low 6 bits of bytes 0 to 3 and 4 to 7; the rest is spread over all.
    for (let i = 0; i < 4; i++) {
      const [low, high] = [32 + Math.floor(next() * 32), 32 + Math.floor(next() * 32)];
      pool[at + 4 + i] = low | ((high >> 4) << 6);
      pool[at + 8 + i] = low | ((high >> 4) << 6);
      pool[at + 12 + i] = (high & 15) | ((high & 15) << 4);
    }
  }
}

/** Uniform numbers in [0, 1), the same every time. */
function numbers(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** FNV-1a, never 0. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return state === 0 ? 1 : state;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
