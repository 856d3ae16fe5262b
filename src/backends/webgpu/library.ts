/** WGSL functions that emitted kernels call; a kernel's text contains those it needs. */

interface LibraryFunction {
  readonly text: string;
  readonly uses?: readonly LibraryName[];
}

/** A word of zeros, then the bits of 2/pi after the point. */
const twoOverPi = [0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab];

const library = {
  infinity: {
    // From a variable, because WGSL has no way to write it: a constant expression may not be infinite or NaN.
    text: `var<private> infinity_bits: u32 = 0x7f800000u;
fn infinity() -> f32 { return bitcast<f32>(infinity_bits); }`,
  },
  nan: {
    text: `var<private> nan_bits: u32 = 0x7fc00000u;
fn nan() -> f32 { return bitcast<f32>(nan_bits); }`,
  },
  is_nan: {
    // By its bits: devices may assume in comparisons that there is no NaN.
    text: "fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }",
  },
  f32_to_i32: {
    text: `fn f32_to_i32(x: f32) -> i32 {
  if (is_nan(x)) { return 0; }
  if (x >= 2147483648.0) { return 2147483647; }
  return select(i32(x), -2147483648, x <= -2147483648.0);
}`,
    uses: ["is_nan"],
  },
  small_to_i32: { text: "fn small_to_i32(x: f32) -> i32 { return select(i32(x), 0, is_nan(x)); }", uses: ["is_nan"] },
  f32_to_u32: {
    text: `fn f32_to_u32(x: f32) -> u32 {
  if (is_nan(x) || x <= 0.0) { return 0u; }
  return select(u32(x), 4294967295u, x >= 4294967296.0);
}`,
    uses: ["is_nan"],
  },
  quotient_i32: { text: "fn quotient_i32(a: i32, b: i32) -> i32 { return select(a / b, 0, b == 0); }" },
  quotient_u32: { text: "fn quotient_u32(a: u32, b: u32) -> u32 { return select(a / b, 0u, b == 0u); }" },
  remainder_i32: { text: "fn remainder_i32(a: i32, b: i32) -> i32 { return select(a % b, 0, b == 0); }" },
  remainder_u32: { text: "fn remainder_u32(a: u32, b: u32) -> u32 { return select(a % b, 0u, b == 0u); }" },
  remainder: {
    // Exact, by long division of the significands; WGSL's `%` rounds the quotient.
    text: `fn remainder(a: f32, b: f32) -> f32 {
  let a_bits = bitcast<u32>(a);
  let x = a_bits & 0x7fffffffu;
  let y = bitcast<u32>(b) & 0x7fffffffu;
  if (x >= 0x7f800000u || y > 0x7f800000u || y == 0u) { return nan(); }
  if (x < y) { return a; }
  var exponent = max(i32(x >> 23u), 1);
  let least = max(i32(y >> 23u), 1);
  var rest = select(x & 0x7fffffu, (x & 0x7fffffu) | 0x800000u, x >= 0x800000u);
  let divisor = select(y & 0x7fffffu, (y & 0x7fffffu) | 0x800000u, y >= 0x800000u);
  loop {
    if (rest >= divisor) { rest -= divisor; }
    if (exponent == least) { break; }
    rest <<= 1u;
    exponent -= 1;
  }
  if (rest == 0u) { return bitcast<f32>(a_bits & 0x80000000u); }
  let shift = min(i32(countLeadingZeros(rest)) - 8, exponent - 1);
  let significand = rest << u32(shift);
  let biased = select(0u, u32(exponent - shift) << 23u, significand >= 0x800000u);
  return bitcast<f32>((a_bits & 0x80000000u) | biased | (significand & 0x7fffffu));
}`,
    uses: ["nan"],
  },
  power: {
    // WGSL leaves powers of negative numbers undefined.
    text: `fn power(x: f32, y: f32) -> f32 {
  if (y == 0.0) { return 1.0; }
  if (is_nan(x) || is_nan(y)) { return nan(); }
  let whole = floor(y) == y;
  let odd = whole && abs(y) < 16777216.0 && (i32(y) & 1) != 0;
  let size = abs(x);
  if (size == 1.0 && abs(y) > 3.4e38) { return nan(); }
  if (x < 0.0 && !whole && bitcast<u32>(size) < 0x7f800000u) { return nan(); }
  var result = select(1.0, pow(size, y), size != 1.0);
  if (size == 0.0) { result = select(0.0, infinity(), y < 0.0); }
  return select(result, -result, odd && (bitcast<u32>(x) >> 31u) == 1u);
}`,
    uses: ["is_nan", "nan", "infinity"],
  },
  tanh_of: {
    // WGSL bounds the absolute error alone, so small results are computed by their series; beyond 10 the result is 1 in
    // f32, and powers of e may overflow.
    text: `fn tanh_of(x: f32) -> f32 {
  let s = x * x;
  let small = fma(fma(fma(fma(s, 0.02186949, -0.05396825), s, 0.13333334), s, -0.33333334) * s, x, x);
  return select(tanh(clamp(x, -10.0, 10.0)), small, s < 0.0625);
}`,
  },
  turned: {
    // WGSL bounds errors of sin and cos only between -pi and pi. x = significand * 2^e, so of 2/pi only the 96 bits
    // matter that are left when those that add whole turns are skipped.
    text: `struct Turned { quarters: u32, angle: f32 }
const two_over_pi = array<u32, ${twoOverPi.length}>(${twoOverPi.map((word) => `0x${word.toString(16)}u`).join(", ")});
fn high_product(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}
fn turned(size: f32) -> Turned {
  if (size < 0.75) { return Turned(0u, size); }
  let significand = (bitcast<u32>(size) & 0x7fffffu) | 0x800000u;
  let skipped = (bitcast<u32>(size) >> 23u) - 120u;
  let first = skipped >> 5u;
  let by = skipped & 31u;
  var bits = vec3u(two_over_pi[first], two_over_pi[first + 1u], two_over_pi[first + 2u]);
  if (by != 0u) {
    bits = (bits << vec3u(by)) | (vec3u(bits.yz, two_over_pi[first + 3u]) >> vec3u(32u - by));
  }
  let low = high_product(significand, bits.z);
  let middle = significand * bits.y + low;
  let top = significand * bits.x + high_product(significand, bits.y) + select(0u, 1u, middle < low);
  let fraction = (top << 2u) | (middle >> 30u);
  // To the nearest quarter turn, as the fraction read as a signed number is.
  return Turned((top >> 30u) + (fraction >> 31u), f32(bitcast<i32>(fraction)) * 3.6572951981e-10);
}
fn sin_small(x: f32) -> f32 {
  let s = x * x;
  return fma(fma(fma(s, -1.9515295891e-4, 8.3321608736e-3), s, -1.6666654611e-1) * s, x, x);
}
fn cos_small(x: f32) -> f32 {
  let s = x * x;
  return fma(fma(fma(s, 2.443315711809948e-5, -1.388731625493765e-3), s, 4.166664568298827e-2), s * s, fma(s, -0.5, 1.0));
}`,
  },
  sin_of: {
    text: `fn sin_of(x: f32) -> f32 {
  let t = turned(abs(x));
  let size = select(sin_small(t.angle), cos_small(t.angle), (t.quarters & 1u) == 1u);
  return select(size, -size, ((t.quarters >> 1u) & 1u) != (bitcast<u32>(x) >> 31u));
}`,
    uses: ["turned"],
  },
  cos_of: {
    text: `fn cos_of(x: f32) -> f32 {
  let t = turned(abs(x));
  let size = select(cos_small(t.angle), sin_small(t.angle), (t.quarters & 1u) == 1u);
  return select(size, -size, ((t.quarters + 1u) & 2u) != 0u);
}`,
    uses: ["turned"],
  },
  f16_bits: {
    // By bits: WGSL lets pack2x16float round either way, and gives no value beyond the range.
    text: `fn f16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return sign | 0x7e00u; }
  if (size >= 0x47800000u) { return sign | 0x7c00u; }
  if (size < 0x38800000u) { return sign | u32(round(abs(x) * 16777216.0)); }
  let moved = size - 0x38000000u;
  return sign | ((moved + 0xfffu + ((moved >> 13u) & 1u)) >> 13u);
}`,
  },
  f16_value: {
    // By bits: WGSL lets unpack2x16float flush small numbers and says nothing of infinities and NaN.
    text: `fn f16_value(bits: u32) -> f32 {
  let size = (bits & 0x7fffu) << 13u;
  let sign = (bits & 0x8000u) << 16u;
  if (size < 0x800000u) { return bitcast<f32>(sign | bitcast<u32>(f32(bits & 0x3ffu) * 5.9604644775390625e-8)); }
  return bitcast<f32>(sign | (size + select(0x38000000u, 0x70000000u, size >= 0xf800000u)));
}`,
  },
  f16_rounded: {
    text: "fn f16_rounded(x: f32) -> f32 { return f16_value(f16_bits(x)); }",
    uses: ["f16_bits", "f16_value"],
  },
  bf16_bits: {
    text: `fn bf16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return ((bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u) & 0xffffu;
}`,
  },
  f8e4m3_value: {
    text: `fn f8e4m3_value(bits: u32) -> f32 {
  let size = bits & 0x7fu;
  if (size == 0x7fu) { return nan(); }
  let value = select(bitcast<f32>((size << 20u) + 0x3c000000u), f32(size) * 0.001953125, size < 8u);
  return select(value, -value, (bits & 0x80u) != 0u);
}`,
    uses: ["nan"],
  },
  f8e4m3_bits: {
    text: `fn f8e4m3_bits(x: f32) -> u32 {
  if (is_nan(x)) { return 0x7fu; }
  let sign = (bitcast<u32>(x) >> 24u) & 0x80u;
  let size = min(abs(x), 448.0);
  if (size < 0.015625) { return sign | u32(round(size * 512.0)); }
  let bits = bitcast<u32>(size);
  return sign | min(((bits + 0x7ffffu + ((bits >> 20u) & 1u)) >> 20u) - 960u, 0x7eu);
}`,
    uses: ["is_nan"],
  },
  f8e8m0_value: {
    text: `fn f8e8m0_value(bits: u32) -> f32 {
  if (bits == 255u) { return nan(); }
  return bitcast<f32>(select(bits << 23u, 0x400000u, bits == 0u));
}`,
    uses: ["nan"],
  },
  f8e8m0_bits: {
    // The exponent, rounded up from sqrt(2) on.
    text: `fn f8e8m0_bits(x: f32) -> u32 {
  if (is_nan(x) || x < 0.0) { return 255u; }
  let bits = bitcast<u32>(x);
  return min((bits >> 23u) + select(0u, 1u, (bits & 0x7fffffu) > 0x3504f3u), 254u);
}`,
    uses: ["is_nan"],
  },
  four_halves: {
    text: "fn four_halves(bits: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)); }",
  },
  four_bf16: {
    text: "fn four_bf16(bits: vec2<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(bits.x << 16u, bits.x & 0xffff0000u, bits.y << 16u, bits.y & 0xffff0000u)); }",
  },
  dot4s8: {
    text: `fn dot4s8(sum: vec4<i32>, a: vec4<u32>, b: vec4<u32>) -> vec4<i32> {
  return sum + vec4<i32>(dot4I8Packed(a.x, b.x), dot4I8Packed(a.y, b.y), dot4I8Packed(a.z, b.z), dot4I8Packed(a.w, b.w));
}`,
  },
  /** The same function for devices whose packed products are wrong. */
  dot4s8_by_parts: {
    text: `fn bytes_of(word: u32) -> vec4<i32> {
  return bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
}
fn dot4s8(sum: vec4<i32>, a: vec4<u32>, b: vec4<u32>) -> vec4<i32> {
  return sum + vec4<i32>(
    dot(bytes_of(a.x), bytes_of(b.x)), dot(bytes_of(a.y), bytes_of(b.y)),
    dot(bytes_of(a.z), bytes_of(b.z)), dot(bytes_of(a.w), bytes_of(b.w)));
}`,
  },
} as const satisfies Record<string, { readonly text: string; readonly uses?: readonly string[] }>;

export type LibraryName = keyof typeof library;

/** The texts of these functions and of those they call, callees first. */
export function libraryText(names: Iterable<LibraryName>): string[] {
  const texts = new Map<LibraryName, string>();
  const add = (name: LibraryName): void => {
    if (texts.has(name)) return;
    const { text, uses }: LibraryFunction = library[name];
    for (const each of uses ?? []) add(each);
    texts.set(name, text);
  };
  for (const name of names) add(name);
  return [...texts.values()];
}

/** Names that the library declares, which a kernel's own must not take. */
export const libraryWords: ReadonlySet<string> = new Set(
  Object.values(library).flatMap(({ text }) =>
    [...text.matchAll(/\b(?:fn|struct|const|var<private>) (\w+)/g)].map((match) => match[1]!),
  ),
);
