/** input_scales.json: what is read, and that nothing else is taken. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { InputError } from "../../../src/ir/errors.ts";
import { valuesOf } from "../../../src/ir/tensor.ts";
import { checkInputScales, inputScaleWeight, readInputScales } from "../../../src/runtime/quality/input-scales.ts";
import type { ModelFolder } from "../../../src/runtime/weights/byte-source.ts";

/** A folder with that file alone, or empty. */
function folderOf(text: string | null): ModelFolder {
  const folder = { name: "m", has: async () => text !== null, readText: async () => text };
  return folder as unknown as ModelFolder; // all that is used
}

it("reads numbers by name", async () => {
  expect(await readInputScales(folderOf(null))).toBeNull();
  const scales = await readInputScales(folderOf('{"lm_head.input_scale": 0.25}'));
  expect(scales).toEqual({ "lm_head.input_scale": 0.25 });
  const weight = inputScaleWeight(scales, "lm_head.input_scale");
  expect([weight.type.dtype, ...valuesOf(weight)]).toEqual(["f16", 0.25]);
});

it("names what is missing", () => {
  expect(() => inputScaleWeight(null, "a.input_scale")).toThrow("inputScales a.input_scale: missing");
  expect(() => inputScaleWeight({ "b.input_scale": 1 }, "toString")).toThrow("missing");
});

it.each(["", "[]", "1", "null", '{"a": "1"}', '{"a": null}', '{"a": -1}', '{"a": 1e9}', '{"a": [1]}', '{"a": 1'])(
  "refuses %s",
  async (text) => {
    await expect(readInputScales(folderOf(text))).rejects.toThrow(InputError);
  },
);

it("refuses whatever is no number that f16 holds", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.anything()), (values) => {
      const good = Object.values(values).every((x) => typeof x === "number" && x >= 0 && x <= 65504);
      if (good) expect(checkInputScales(values)).toBe(values);
      else expect(() => checkInputScales(values)).toThrow(InputError);
    }),
  );
});
