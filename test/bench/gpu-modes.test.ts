/** The GPU's benchmark does what its README says. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { flags, numbers, parseFlags, shapeOptions } from "../../bench/gpu/mode.ts";
import { modes } from "../../bench/gpu/modes.ts";

const readme = readFileSync(new URL("../../bench/gpu/README.md", import.meta.url), "utf8");

test("every mode has a line, every line is a mode", () => {
  const shown = [...readme.matchAll(/bundle\/run\.sh (\w+)/g)].map(([, name]) => name);
  expect(shown.toSorted()).toEqual(modes.map(({ name }) => name).toSorted());
});

test("every flag of the table is taken, and used by a mode", () => {
  const rows = readme.split("\n").filter((line) => line.startsWith("| `--"));
  const shown = rows.flatMap((row) => [...row.split("|")[1]!.matchAll(/--([\w-]+)/g)].map(([, name]) => name!));
  expect(shown.filter((name) => !Object.hasOwn(flags, name))).toEqual([]);
  const used = new Set<string>(modes.flatMap((mode) => mode.flags ?? []));
  expect(Object.keys(flags).filter((name) => !used.has(name))).toEqual([]);
});

test("flags are read, and others refused", () => {
  const values = parseFlags(["--layers", "4", "--tokens", "128", "--checked"]);
  expect(shapeOptions(values)).toMatchObject({ tokens: 128, prefill: 512, context: 128, figures: undefined });
  expect(shapeOptions(values).shape.key).not.toBe(shapeOptions(parseFlags([])).shape.key);
  expect([values.checked, values["matrix-units"]]).toEqual([true, false]);
  expect(numbers("")).toEqual([]);
  expect(numbers("0,1")).toEqual([0, 1]);
  expect(() => parseFlags(["--layer", "4"])).toThrow("--layer");
});
