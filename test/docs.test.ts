/** The reference of the IR is up to date, and its examples are what it says they are. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { docsFile, renewed } from "../scripts/write-docs.ts";
import { parseModule } from "../src/ir/parse.ts";
import { printModule } from "../src/ir/print.ts";
import { verifyModule } from "../src/ir/verify.ts";

const text = readFileSync(docsFile, "utf8");

test("generated parts are up to date (npm run docs)", () => {
  expect(renewed(text)).toBe(text);
  expect(text.split("\n").length).toBeLessThanOrEqual(300);
});

test("the example is a module as it prints", () => {
  const example = /```\n(module[^`]*)```/.exec(text)![1]!;
  const module = parseModule(example);
  verifyModule(module);
  expect(printModule(module)).toBe(example);
});

test("parts need their markers", () => {
  expect(() => renewed(text.replace("<!-- generated: ops -->", ""))).toThrow('no markers for the part "ops"');
});
