/** What `npm run size` counts. */
import { expect, it } from "vitest";
import { debugVariables, linesByFolder, longFunctions } from "../scripts/size.ts";
import { readSources } from "../scripts/sources.ts";
import { variables } from "../src/env.ts";

const body = "\n  x();\n  if (y) {\n  }\n";

it.for([
  [`function f() {${body}}`, "f"],
  [`export async function* f<T>(a: T): AsyncGenerator<T> {${body}}`, "f"],
  [`const f = (a: number): number => {${body}};`, "f"],
  [`const f = async (\n  a: number,\n): Promise<void> => {${body}};`, "f"],
  [`class A {\n  #f(a: { b: number }) {${body.replaceAll("\n", "\n  ")}}\n}`, "#f"],
  [`const table = {\n  f: (a) => {${body.replaceAll("\n", "\n  ")}},\n};`, "f"],
])("finds a function of 5 lines or more: %s", ([text, name]) => {
  const source = { path: "a.ts", text: `${text}\n` };
  expect(longFunctions(source, 4)).toMatchObject([{ name }]);
  expect(longFunctions(source, 8)).toEqual([]);
});

it.for([
  `if (a) {${body}}`,
  `const a = f(b) + {${body}};`,
  `const a = (b: number) =>\n  b;\n${body}`,
  `/*\nf() {${body}}\n*/`,
])("takes nothing else for one: %s", (text) => {
  expect(longFunctions({ path: "a.ts", text: `${text}\n` }, 1)).toEqual([]);
});

it("adds up lines by folder", () => {
  const sources = ["a/b/x.ts", "a/b/y.ts", "a/z.ts"].map((path) => ({ path, text: "1\n2\n" }));
  expect(Object.fromEntries(linesByFolder(sources))).toEqual({ "a/b": 4, a: 2 });
});

it("counts the debug variables", () => {
  expect(debugVariables(readSources(".", ["src"]))).toBe(Object.keys(variables).length);
});
