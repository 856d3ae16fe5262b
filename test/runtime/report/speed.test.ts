/** The sentence about speed: what it says of memory, of launches, and of a backend that cannot measure. */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { showSpeed } from "../../../src/runtime/report/speed.ts";
import { tokenCost } from "../../../src/runtime/report/token-cost.ts";

const speed = { device: "D", tokensPerSecond: 10, weightBytes: 1e9, launches: 200, reading: 14e9 };

test("names what limits", () => {
  expect(showSpeed(speed)).toBe(
    "[D; a token reads 1000.0 MB of weights, 10.0 GB/s of the 14.0 GB/s at which it reads this memory: memory limits it]\n",
  );
  expect(showSpeed({ ...speed, weightBytes: 2e8 })).toBe(
    "[D; a token reads 200.0 MB of weights, 2.00 GB/s of the 14.0 GB/s at which it reads this memory: arithmetic and the 200 launches of a step, not memory, limit it]\n",
  );
  expect(showSpeed({ ...speed, reading: null })).toBe(
    "[D; a token reads 1000.0 MB of weights, 10.0 GB/s; arithmetic limits it]\n",
  );
});

test.each([1, 2])("on %i threads a token reads some of the weights, and memory a rate", async (threads) => {
  const demo = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
  const model = await loadModel(demo, { threads, contextLength: 64 });
  const { weightBytes, launches } = tokenCost(model.program.plan);
  // 4 of 16 experts and one row of the embedding: less than all, more than the head alone.
  expect(weightBytes).toBeLessThan(0.7 * model.memory.weights);
  expect(weightBytes).toBeGreaterThan(4 * 2 ** 20);
  expect(launches).toBe(model.program.report.launches);
  const rate = await model.device!.measureReading!();
  expect(rate).toBeGreaterThan(1e8);
  expect(rate).toBeLessThan(1e13);
  await model.close();
});
