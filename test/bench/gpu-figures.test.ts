/** The table with which the GPU benchmark ends. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { readFigures, recordFigures, showRatios } from "../../bench/gpu/figures.ts";

test("figures are passed on by a file, and ratios say how many times as fast ours is", () => {
  const file = `${mkdtempSync(`${tmpdir()}/figures-`)}/all`;
  expect(readFigures(file)).toEqual([]);
  recordFigures(undefined, { engine: "none", ours: true, decode: 1, prefill: 1 });
  recordFigures(file, { engine: "ciuic int4", ours: true, decode: 300, prefill: 5000 });
  recordFigures(file, { engine: "llama.cpp q4_0", ours: false, decode: 200, prefill: 20000 });
  expect(showRatios(readFigures(file))).toMatchInlineSnapshot(`
    "| engine | decode tok/s | prefill tok/s | ciuic int4 / it: decode | prefill |
    | --- | --- | --- | --- | --- |
    | ciuic int4 | 300.0 | 5000 |  |  |
    | llama.cpp q4_0 | 200.0 | 20000 | 1.50 | 0.25 |"
  `);
});
