/**
 * Conversions between f32 and the small float formats, by bits: IEEE binary16, bfloat16, OCP FP8 E4M3 (no infinity,
 * 0x7F and 0xFF are NaN) and E8M0 scales. By bits because `Float16Array` is missing from some supported runtimes.
 */

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** The f32 with these bits. */
export function f32FromBits(bits: number): number {
  word[0] = bits;
  return real[0]!;
}

/** The bits of `Math.fround(value)`. */
export function bitsFromF32(value: number): number {
  real[0] = value;
  return word[0]!;
}

const twoTo112 = 2 ** 112;

/** Exponent and fraction moved to where f32 has them read as the value times 2^-112; multiplying by 2^112 is exact. */
export function f16ToF32(bits: number): number {
  if ((bits & 0x7c00) === 0x7c00) {
    if ((bits & 0x3ff) !== 0) return Number.NaN;
    return bits & 0x8000 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }
  word[0] = ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13);
  return real[0]! * twoTo112;
}

/** Rounds to nearest, ties to even; overflow gives infinity. */
export function f32ToF16(value: number): number {
  const bits = bitsFromF32(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal in f16: the value in units of 2^-24, rounded to even.
    return sign | roundToEven(Math.abs(f32FromBits(magnitude)) * 2 ** 24);
  }
  const rebiased = magnitude - 0x38000000;
  return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
}

export function bf16ToF32(bits: number): number {
  return f32FromBits(bits << 16);
}

/** Rounds to nearest, ties to even; NaN stays NaN. */
export function f32ToBf16(value: number): number {
  const bits = bitsFromF32(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function f8e4m3ToF32(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 0xf;
  const fraction = bits & 7;
  if (exponent === 0xf && fraction === 7) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

/** Rounds to nearest, ties to even; values beyond 448 saturate (as the OCP specification's saturating mode). */
export function f32ToF8e4m3(value: number): number {
  if (Number.isNaN(value)) return 0x7f;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(value), 448);
  const exponent = Math.max(Math.floor(Math.log2(magnitude || 2 ** -20)), -6);
  // In units of the last place; a carry runs into the exponent field by itself.
  const units = roundToEven(magnitude * 2 ** (3 - exponent));
  return sign | Math.min(units + (exponent + 6) * 8, 0x7e);
}

export function f8e8m0ToF32(bits: number): number {
  return bits === 0xff ? Number.NaN : Math.fround(2 ** (bits - 127));
}

function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
