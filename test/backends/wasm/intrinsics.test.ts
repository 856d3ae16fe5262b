/** Intrinsics on each instruction set against the executor, over all bytes; what the probe found; text and checks. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { probe, rulesFor } from "../../../src/backends/wasm/probe.ts";
import { UnsupportedError } from "../../../src/ir/errors.ts";
import { f32ToF16 } from "../../../src/ir/half.ts";
import { biased } from "../../../src/ir/kernel/intrinsics.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { compileKernel } from "./run-kernel.ts";

const bytes = (min: number, max: number, length: number) =>
  fc.array(fc.oneof(fc.constantFrom(min, max, 0, 1), fc.integer({ min, max })), {
    minLength: length,
    maxLength: length,
  });
const tiers = ["relaxed", "pairs", "quads", "simd"] as const;

const dots = parseKernel(`kernel dots {
  read a: i8[16]
  read half: u8[16]
  read u: u8[16]
  read s: i8[16]
  read acc: i32[4]
  write y: i32[24]
  let x = a[0]:i8x16
  y[0] = dot4i8(acc[0]:4, x, half[0]:u8x16)
  y[4] = dot4u8(acc[0]:4, x, u[0]:u8x16)
  y[8] = dot4s8(acc[0]:4, x, s[0]:i8x16)
  y[12] = dot4i8(acc[0]:4, x, low4(u[0]:u8x16))
  y[16] = dot4i8(acc[0]:4, x, high4(u[0]:u8x16))
  y[20] = dot4s8(acc[0]:4, repeat4(a[4]:i8x4), s[0]:i8x16)
}
`);

describe.each(tiers)("on %s", (tier) => {
  const rules = rulesFor(tier);

  test("products of bytes are exact for all operands they take", () => {
    const compiled = compileKernel(dots, rules);
    const uses = compiled.source.includes("relaxed_dot");
    expect(uses).toBe(tier !== "simd");
    fc.assert(
      fc.property(
        bytes(-128, 127, 16),
        bytes(0, 127, 16),
        bytes(0, 255, 16),
        bytes(-128, 127, 16),
        bytes(-(2 ** 31), 2 ** 31 - 1, 4),
        (a, half, u, s, acc) => {
          const data = () => [
            Int8Array.from(a),
            Uint8Array.from(half),
            Uint8Array.from(u),
            Int8Array.from(s),
            Int32Array.from(acc),
            new Int32Array(24),
          ];
          const [want, got] = [data(), data()];
          runKernel(dots, want);
          compiled.run(got);
          expect([...got[5]!]).toEqual([...want[5]!]);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("pairs of products, halves of bytes and sums of neighbours are exact", () => {
    const kernel = parseKernel(`kernel pairs {
  read a: i8[16]
  read half: u8[16]
  read u: u8[16]
  write y: i32[56]
  let p = dot2i8(a[0]:i8x16, half[0]:u8x16)
  var sum: i16x8 = add16(p, p)
  sum = add16(sum, p)
  y[0] = sum2(sum)
  y[4] = sum2(widen8(u[0]:u8x16))
  y[8] = sum2(widen8(a[8]:i8x8))
  y[12] = sum2(widen8(repeat4(a[4]:i8x4)))
  y[16] = dot2i16(evens(a[0]:i8x16), evens(u[0]:u8x16))
  y[20] = dot2i16(odds(a[0]:i8x16), odds(u[0]:u8x16))
  y[24] = join2(sum2(p), dot2i16(p, p))
  y[28] = dot2i16(widen8(less128(u[0]:u8x16)), widen8(spread4(a[0]:i8x16, 3)))
  y[32] = dot4u8(splat4(0), spread4(a[0]:i8x16, 1), u[0]:u8x16)
  y[36] = dot4u8(splat4(0), spread4(a[0]:i8x16, 0), spread4(u[0]:u8x16, 2))
  y[40] = sum2(widen8(u[8]:u8x8))
  y[44] = dot2i16(asWords(asBytes(odds(a[0]:i8x16))), evens(a[0]:i8x16))
  y[48] = sum2(asWords(repeat4(u[4]:u8x4)))
  y[52] = sum2(dot2u8(flipped(u[0]:u8x16, flips(a[0]:i8x16)), magnitudes(a[0]:i8x16)))
}
`);
    verifyKernel(kernel);
    const compiled = compileKernel(kernel, rules);
    expect(compiled.source.includes("i16x8.relaxed_dot")).toBe(tier !== "simd");
    fc.assert(
      fc.property(bytes(-128, 127, 16), bytes(0, 127, 16), bytes(0, 255, 16), (a, half, u) => {
        const data = () => [Int8Array.from(a), Uint8Array.from(half), Uint8Array.from(u), new Int32Array(56)];
        const [want, got] = [data(), data()];
        runKernel(kernel, want);
        compiled.run(got);
        expect([...got[3]!]).toEqual([...want[3]!]);
      }),
      { numRuns: 2000 },
    );
  });

  test("numbers come back from the bits of a large f32, and bytes are stored as they are", () => {
    const kernel = parseKernel(`kernel k {
  read n: i32[4]
  read u: u8[16]
  read a: i8[16]
  scratch readwrite panel: u8[32]
  write y: f32[4]
  write z: i32[4]
  write b: i8[16]
  y[0] = unbiased(n[0]:4 + splat4(${biased}))
  panel[16] = high4(u[0]:u8x16)
  b[0] = a[0]:i8x16
  z[0] = dot4i8(splat4(0), a[0]:i8x16, panel[16]:u8x16)
}
`);
    verifyKernel(kernel);
    const compiled = compileKernel(kernel, rules);
    const limit = 2 ** 22;
    fc.assert(
      fc.property(bytes(-limit, limit - 1, 4), bytes(0, 255, 16), bytes(-128, 127, 16), (n, u, a) => {
        const outs = [new Float32Array(4), new Int32Array(4), new Int8Array(16)] as const;
        const data = () => [Int32Array.from(n), Uint8Array.from(u), Int8Array.from(a), ...outs.map((x) => x.slice())];
        const [want, got] = [data(), data()];
        runKernel(kernel, want);
        compiled.run(got);
        expect(got).toEqual(want);
        expect([...want[3]!]).toEqual(n.map((x) => x + 0)); // -0 is no integer
      }),
    );
  });

  test("finite f16 widen by their bits, subnormal too", () => {
    const kernel = parseKernel("kernel k {\n  read h: f16[4]\n  write y: f32[4]\n  y[0] = finite(h[0]:4)\n}\n");
    const compiled = compileKernel(kernel, rules);
    const all = Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
    for (let i = 0; i < all.length; i += 4) {
      const data = () => [Uint16Array.from(all.slice(i, i + 4)), new Float32Array(4)];
      const [want, got] = [data(), data()];
      runKernel(kernel, want);
      compiled.run(got);
      if (got[1]!.some((x, lane) => !Object.is(x, want[1]![lane]))) expect([...got[1]!]).toEqual([...want[1]!]);
    }
  }, 20_000);

  test("f16 widen by their bits, subnormal, infinite and NaN", () => {
    const kernel = parseKernel(
      "kernel k {\n  read b: u8[8]\n  read h: f16[4]\n  write y: f32[8]\n  y[0] = f16s(b[0]:u8x8)\n  y[4] = h[0]:4\n}\n",
    );
    const compiled = compileKernel(kernel, rules);
    const all = Array.from({ length: 65536 }, (_, i) => i);
    for (let i = 0; i < all.length; i += 4) {
      const halves = Uint16Array.from(all.slice(i, i + 4));
      const data = () => [new Uint8Array(halves.slice().buffer), halves.slice(), new Float32Array(8)];
      const got = data();
      compiled.run(got);
      if (i % 64 !== 0) continue;
      const want = data();
      runKernel(kernel, want);
      expect([...got[2]!]).toEqual([...want[2]!]);
    }
  }, 20_000);

  test("fma is rounded once or twice", () => {
    const kernel = parseKernel(
      "kernel k {\n  read x: f32[12]\n  write y: f32[4]\n  y[0] = fma(x[0]:4, x[4]:4, x[8]:4)\n}\n",
    );
    const compiled = compileKernel(kernel, rules);
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 12, maxLength: 12 }), (x) => {
        const data = [Float32Array.from(x), new Float32Array(4)];
        compiled.run(data);
        data[1]!.forEach((y, i) => {
          const [a, b, c] = [x[i]!, x[i + 4]!, x[i + 8]!];
          expect([Math.fround(a * b + c), Math.fround(Math.fround(a * b) + c)]).toContain(y);
        });
      }),
    );
  });

  test("four rows of int4 weights times int8 activations with f16 scales, as quantised kernels want", () => {
    // Per group of 32 and 4 rows: 4 scales in f16, then 4 x 16 bytes; byte 4r + i of word j has rows r, k = 4j + i and 16 + 4j + i.
    const groups = 3;
    const text = `kernel q4 {
  read w: u8[${groups * 72}]
  read x: i8[${groups * 32}]
  read sums: i32[${groups}]
  read scale: f32[${groups}]
  write y: f32[4]
  var total: f32x4 = splat4(0.0)
  for g in 0 .. ${groups} {
    var acc: i32x4 = splat4(sums[g])
    for j in 0 .. 4 {
      let v = w[g * 72 + 8 + j * 16]:u8x16
      acc = dot4i8(acc, repeat4(x[g * 32 + j * 4]:i8x4), low4(v))
      acc = dot4i8(acc, repeat4(x[g * 32 + 16 + j * 4]:i8x4), high4(v))
    }
    total = fma(f32(acc), f16s(w[g * 72]:u8x8) * splat4(scale[g]), total)
  }
  y[0] = total
}
`;
    const kernel = parseKernel(text);
    verifyKernel(kernel);
    expect(printKernel(kernel)).toBe(text);
    const compiled = compileKernel(kernel, rules);
    const codes = bytes(0, 15, groups * 128);
    fc.assert(
      fc.property(codes, bytes(-127, 127, groups * 32), bytes(1, 100, groups * 4), (q, x, scales) => {
        const w = new Uint8Array(groups * 72);
        const expected = [0, 0, 0, 0];
        for (let g = 0; g < groups; g++) {
          for (let r = 0; r < 4; r++) {
            new DataView(w.buffer).setUint16(g * 72 + 2 * r, f32ToF16(scales[g * 4 + r]! / 64), true);
            for (let k = 0; k < 32; k++) {
              const code = q[(g * 4 + r) * 32 + k]!;
              w[g * 72 + 8 + ((k >> 2) & 3) * 16 + r * 4 + (k & 3)]! |= k < 16 ? code : code << 4;
              expected[r]! += (code - 8) * x[g * 32 + k]! * (scales[g * 4 + r]! / 64) * 0.01;
            }
          }
        }
        const sums = Int32Array.from(
          { length: groups },
          (_, g) => -8 * x.slice(g * 32, g * 32 + 32).reduce((a, b) => a + b, 0),
        );
        const data = [w, Int8Array.from(x), sums, new Float32Array(groups).fill(0.01), new Float32Array(4)];
        compiled.run(data);
        // Integers are exact; the scaled sum of 3 groups is rounded a few times, relative to its largest term.
        data[4]!.forEach((y, r) => {
          expect(Math.abs(y - expected[r]!)).toBeLessThan(1e-2);
        });
        const other = data.map((each) => each.slice());
        runKernel(kernel, other);
        data[4]!.forEach((y, r) => {
          expect(Math.abs(y - other[4]![r]!)).toBeLessThan(1e-3);
        });
      }),
      { numRuns: 50 },
    );
  });
});

test("the probe finds this engine's instruction set, and an unknown one is refused", () => {
  const { tier, dotExact, fused } = probe();
  expect(tier).toBe("relaxed");
  expect(dotExact).toBe(true);
  expect(typeof fused).toBe("boolean");
  expect(() => rulesFor("avx")).toThrow(UnsupportedError);
  expect(() => rulesFor("none")).toThrow("It has relaxed, simd");
  // One instruction that is exact for bytes beyond 127 is one of four products, not two of two.
  const { byteDots, dotUnsigned, dotSigned } = rulesFor();
  expect(byteDots.small === "quads").toBe(dotUnsigned || dotSigned || !probe().dotPairs);
});

test.each([
  ["y[0] = dot4i8(splat4(0), b[0]:u8x16, b[0]:u8x16)", "dot4i8: expected"],
  ["y[0] = dot4i8(splat4(0.0), a[0]:i8x16, b[0]:u8x16)", "dot4i8: expected"],
  ["y[0] = sum(fma(splat4(1), splat4(1), splat4(1)))", "fma: expected"],
  ["y[0] = sum2(dot2i8(b[0]:u8x16, b[0]:u8x16))", "dot2i8: expected"],
  ["y[0] = sum2(add16(a[0]:i8x16, a[0]:i8x16))", "add16: expected"],
  ["let v = widen8(a[0]:i8x8) + widen8(a[0]:i8x8)", "bytes take intrinsics only"],
  ["y[0] = a[0]:u8x16", "a does not hold u8"],
  ["let v = a[0]:i8x16 + a[0]:i8x16", "bytes take intrinsics only"],
])("ill-typed intrinsics are refused: %s", (line, what) => {
  expect(() =>
    parseKernel(`kernel k {\n  read a: i8[16]\n  read b: u8[16]\n  write y: i32[4]\n  ${line}\n}\n`),
  ).toThrow(what);
});

test("bytes beyond the buffer are found", () => {
  const kernel = parseKernel(
    "kernel k {\n  read a: i8[16]\n  write y: i32[4]\n  y[0] = dot4s8(splat4(0), a[1]:i8x16, a[0]:i8x16)\n}\n",
  );
  expect(() => verifyKernel(kernel)).toThrow("K5");
});

test.each(tiers)("inputs are chosen by places of two bits, %s", (tier) => {
  const steps = [0, 1, 2, 3].map((i) => `  y[${16 * i}] = choose16(x[0]:i8x16, places16(p[0]:u8x16, ${i}))`);
  const kernel = parseKernel(
    `kernel pairs {\n  read x: i8[16]\n  read p: u8[16]\n  write y: i8[64]\n${steps.join("\n")}\n}\n`,
  );
  const compiled = compileKernel(kernel, rulesFor(tier));
  fc.assert(
    fc.property(bytes(-128, 127, 16), bytes(0, 255, 16), (x, places) => {
      const data = () => [Int8Array.from(x), Uint8Array.from(places), new Int8Array(64)];
      const [expected, found] = [data(), data()];
      runKernel(kernel, expected);
      compiled.run(found);
      expect(found[2]).toEqual(expected[2]);
      for (const i of [0, 22, 43, 61]) {
        const [step, lane] = [i >> 4, i & 15];
        const place = (places[lane]! >> (2 * step)) & 3;
        expect(found[2]![i]).toBe(x[8 * (step & 1) + 4 * ((lane >> 1) & 1) + place]);
      }
    }),
    { numRuns: 40 },
  );
});
