/** The table of variables: agrees with its documentation, refuses nonsense, and needs no process. */
import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { readEnv, variables } from "../src/env.ts";
import { InputError } from "../src/ir/errors.ts";

test("docs/env.md has one row for each variable, in order, with the same words", () => {
  const text = readFileSync(new URL("../docs/env.md", import.meta.url), "utf8");
  const rows = text.split("\n").filter((line) => line.startsWith("| `"));
  const expected = Object.entries(variables).map(([name, { values, doc }]) => `| \`${name}\` | ${values} | ${doc} |`);
  expect(rows).toEqual(expected);
});

test("defaults", () => {
  const { DUMP_PASS, ...rest } = readEnv({});
  expect(DUMP_PASS.test("anything")).toBe(true);
  expect(rest).toEqual({
    DEBUG: 0,
    VERIFY: 1,
    DUMP: "",
    DISABLE_PASS: [],
    DISABLE_RULE: [],
    NOOPT: false,
    TRACE: "",
    SEED: 1,
    CIUIC_CACHE: "",
  });
});

test("values", () => {
  const env = readEnv({
    DEBUG: "5",
    VERIFY: "0",
    DISABLE_PASS: "fuse, simplify,",
    NOOPT: "1",
    SEED: "42",
    DUMP_PASS: "^f",
  });
  expect(env).toMatchObject({ DEBUG: 5, VERIFY: 0, DISABLE_PASS: ["fuse", "simplify"], NOOPT: true, SEED: 42 });
  expect(env.DUMP_PASS.test("simplify")).toBe(false);
});

test.each([
  ["DEBUG", "6"],
  ["DEBUG", "-1"],
  ["DEBUG", "1.5"],
  ["VERIFY", "yes"],
  ["VERIFY", "Infinity"],
  ["DUMP_PASS", "("],
  ["NOOPT", "true"],
  ["SEED", "0x10"],
  ["SEED", "99999999999"],
])("%s=%s is refused by name", (name, text) => {
  expect(() => readEnv({ [name]: text })).toThrow(InputError);
  expect(() => readEnv({ [name]: text })).toThrow(name);
});

test("without a process all defaults hold", () => {
  vi.stubGlobal("process", undefined);
  try {
    expect(readEnv().VERIFY).toBe(1);
  } finally {
    vi.unstubAllGlobals();
  }
});
