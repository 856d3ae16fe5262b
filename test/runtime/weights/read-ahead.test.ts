/** Reading ahead: the order of items, how many are read at once, and that nothing is left behind after an error. */
import { expect, test } from "vitest";
import { ReadBuffers, readAhead } from "../../../src/runtime/weights/read-ahead.ts";

/** Reads that end out of order, and how many were open. */
function slowReader(fail?: number) {
  const state = { open: 0, most: 0 };
  const read = async (item: number): Promise<number> => {
    state.most = Math.max(state.most, ++state.open);
    for (let i = 0; i <= (item * 7) % 5; i++) await Promise.resolve();
    state.open--;
    if (item === fail) throw new Error(`item ${item}`);
    return 10 * item;
  };
  return { state, read };
}

const items = [1, 2, 3, 4, 5, 6, 7];

test("gives every item in order, with no more than the depth open", async () => {
  for (const depth of [1, 3, 20]) {
    const { state, read } = slowReader();
    const seen: number[] = [];
    for await (const { item, value } of readAhead(items, read, depth)) {
      expect(value).toBe(10 * item);
      seen.push(item);
    }
    expect(seen).toEqual(items);
    expect(state.most).toBeLessThanOrEqual(depth);
    expect(state.most).toBe(Math.min(depth, items.length));
  }
});

test("an error comes in its turn, and all reads have ended by then", async () => {
  const { state, read } = slowReader(3);
  const seen: number[] = [];
  const all = async () => {
    for await (const { item } of readAhead(items, read, 3)) seen.push(item);
  };
  await expect(all()).rejects.toThrow("item 3");
  expect([seen, state.open]).toEqual([[1, 2], 0]);
});

test("leaving early waits for what is under way, which may fail", async () => {
  const { state, read } = slowReader(2);
  for await (const { item } of readAhead(items, read, 4)) if (item === 1) break;
  expect(state.open).toBe(0);
});

test("buffers are used again and grow to the largest", () => {
  const buffers = new ReadBuffers();
  const small = buffers.take(8);
  buffers.give(small);
  expect(buffers.take(4)).toBe(small);
  buffers.give(small);
  const large = buffers.take(100);
  expect(large.byteLength).toBe(100);
  buffers.give(large);
  expect(buffers.take(50)).toBe(large);
});
