/** Parts written in any order, at any element, leave the tensor in words. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FilledWords } from "../../../src/backends/webgpu/filled-words.ts";
import { reader, type TensorData, tensorOf, viewOf, zeros } from "../../../src/ir/tensor.ts";
import { byteSize, type DType, tensorType } from "../../../src/ir/types.ts";

const arbParts = fc.record({
  dtype: fc.constantFrom("i4", "u4", "i8", "u8", "f16", "bf16", "f32", "i32"),
  lengths: fc.array(fc.integer({ min: 1, max: 19 }), { minLength: 1, maxLength: 6 }),
  order: fc.array(fc.nat(), { minLength: 6, maxLength: 6 }),
  /** As results of threads are. */
  sharedMemory: fc.boolean(),
});

test("parts of a tensor as words", () => {
  fc.assert(
    fc.property(arbParts, ({ dtype, lengths, order, sharedMemory }) => {
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const values = Array.from({ length: total }, (_, i) => (i * 5 + 3) % 8);
      const whole = tensorOf(dtype, [total], values);
      const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
      const words = new FilledWords(whole.type);
      const memory = new Uint8Array(4 * Math.ceil(byteSize(whole.type) / 4));
      const places = [...lengths.keys()].sort((a, b) => order[a]! - order[b]! || a - b);
      for (const i of places) {
        const [at, count] = [starts[i]!, lengths[i]!];
        const part = tensorOf(dtype, [count], values.slice(at, at + count)).data;
        const { word, content } = words.put(at, sharedMemory ? shared(dtype, part) : part, count);
        memory.set(content, 4 * word);
      }
      const { data } = zeros(dtype, [total]);
      new Uint8Array(data.buffer).set(memory.subarray(0, data.byteLength));
      const read = reader({ type: tensorType(dtype, [total]), data });
      expect(values.map((_, i) => read(i))).toEqual(values);
    }),
  );
});

function shared(dtype: DType, part: TensorData): TensorData {
  const buffer = new SharedArrayBuffer(part.byteLength);
  new Uint8Array(buffer).set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  return viewOf(dtype, buffer, 0, part.length);
}
