/** The models that the CPU bench makes: all formats hold the same numbers, and sizes add up. */
import { describe, expect, test } from "vitest";
import { formatIn, type GgufFormat } from "../../bench/cpu/make/make-models.ts";
import { blockBytes, RandomPool } from "../../bench/cpu/make/random-weights.ts";
import { checkpointTensors, ggufTensors, shapeNames, shapeOf } from "../../bench/cpu/make/shapes.ts";
import { isClean } from "../../bench/cpu/measure.ts";
import { bf16ToF32, f16ToF32 } from "../../src/ir/half.ts";

const count = 256 * 11;
const pool = new RandomPool();
const widest = 0.0346;

function bytesOf(format: "bf16" | "q8_0" | "q4_0" | "q4_k", names = ["some.weight"]): Uint8Array {
  return Uint8Array.from([...pool.tensor(names, count, format)].flatMap((piece) => [...piece]));
}

/** The values of blocks as llama.cpp reads them. */
function decode(format: "q8_0" | "q4_0", bytes: Uint8Array): number[] {
  const size = format === "q8_0" ? 34 : 18;
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => {
    const [at, lane] = [Math.floor(i / 32) * size, i % 32];
    const scale = f16ToF32(view.getUint16(at, true));
    if (format === "q8_0") return scale * view.getInt8(at + 2 + lane);
    const byte = view.getUint8(at + 2 + (lane % 16));
    return scale * ((lane < 16 ? byte & 15 : byte >> 4) - 8);
  });
}

describe("random weights", () => {
  const bytes = bytesOf("bf16");
  const view = new DataView(bytes.buffer);
  const values = Array.from({ length: count }, (_, i) => bf16ToF32(view.getUint16(2 * i, true)));

  test.each([
    // Half a step of a scale that reaches the largest value; in 4 bits the far end is one step short.
    ["q8_0", widest / 127],
    ["q4_0", widest / 8],
  ] as const)("%s holds the numbers of bf16", (format, step) => {
    const decoded = decode(format, bytesOf(format));
    const worst = Math.max(...decoded.map((value, i) => Math.abs(value - values[i]!)));
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(format === "q8_0" ? 0.51 * step : 1.01 * step);
  });

  test("spread evenly, other for another name", () => {
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / count);
    // Standard errors for 2816 numbers are 0.0004 and 0.0002.
    expect(Math.abs(mean)).toBeLessThan(0.002);
    expect(deviation).toBeCloseTo(0.02, 3);
    expect(bytesOf("bf16", ["other.weight"])).not.toEqual(bytes);
  });

  test("tensors joined are their blocks one after another", () => {
    const joined = Uint8Array.from([...pool.tensor(["a", "b"], 2 * count, "q4_0")].flatMap((piece) => [...piece]));
    const apart = ["a", "b"].flatMap((name) => [...bytesOf("q4_0", [name])]);
    expect([...joined]).toEqual(apart);
  });
});

describe.each(shapeNames)("%s", (name) => {
  const shape = shapeOf(name, 2);
  const sizes = (dims: readonly number[]) => dims.reduce((all, dim) => all * dim, 1);

  test("both files hold as many numbers", () => {
    const hf = checkpointTensors(shape).reduce((sum, tensor) => sum + sizes(tensor.shape), 0);
    const gguf = ggufTensors(shape).reduce((sum, { dims }) => sum + sizes(dims), 0);
    expect(gguf).toBe(hf);
  });

  test.each<GgufFormat>(["q8_0", "q4_0", "q4_k"])("rows are whole blocks of %s", (wanted) => {
    for (const tensor of ggufTensors(shape)) {
      const format = formatIn(tensor, wanted);
      expect(tensor.dims[0]! % (format === "q4_k" ? 256 : format === "f32" ? 1 : 32), tensor.name).toBe(0);
      if (tensor.kind === "matrix") expect((sizes(tensor.dims) * blockBytes[format]) % 256).toBe(0);
    }
  });
});

test("a sample whose threads waited for a processor is not clean", () => {
  expect(isClean({ ms: 100, delayMs: 2.9, value: null })).toBe(true);
  expect(isClean({ ms: 100, delayMs: 3.1, value: null })).toBe(false);
});
