/** The device's allocator against a list of what is allocated. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { DeviceMemory } from "../../../src/backends/wasm/memory.ts";
import { InternalError, UnsupportedError } from "../../../src/ir/errors.ts";
import { tensorType } from "../../../src/ir/types.ts";

test("allocations never overlap, are zero, and their views survive growth", () => {
  const sizes = fc.array(fc.record({ size: fc.oneof(fc.nat(300), fc.nat(2_000_000)), release: fc.nat(5) }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(sizes, (steps) => {
      const memory = new DeviceMemory();
      const live: { at: number; view: Uint8Array; mark: number }[] = [];
      for (const [i, { size, release }] of steps.entries()) {
        const at = memory.allocate(size, () => "a test");
        const view = new Uint8Array(memory.memory.buffer, at, size);
        expect(at % 64).toBe(0);
        expect(view.every((byte) => byte === 0)).toBe(true);
        const mark = (i % 255) + 1;
        view.fill(mark);
        live.push({ at, view, mark });
        if (release < 3 && live.length > 1) memory.free(live.splice(release % live.length, 1)[0]!.at);
      }
      for (const { view, mark } of live) expect(view.every((byte) => byte === mark)).toBe(true);
      for (const { at } of live) memory.free(at);
      expect(memory.bytes).toBe(0);
    }),
    { numRuns: 20 },
  );
});

test("what does not fit says what and how much, and strange arrays are refused", () => {
  const memory = new DeviceMemory();
  expect(() => memory.tensor(tensorType("f32", [2 ** 30]))).toThrow(UnsupportedError);
  expect(() => memory.tensor(tensorType("f32", [2 ** 30]))).toThrow(
    "f32[1073741824] does not fit: 4294968320 bytes are needed in all, a memory of 32-bit addresses holds at most 4294967296",
  );
  expect(() => memory.addressOf(new Float32Array(4), () => "x")).toThrow("x: the array is not in the device's memory");
  expect(() => memory.free(12345)).toThrow(InternalError);
});
