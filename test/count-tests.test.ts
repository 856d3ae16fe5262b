/** The last line of .ci/run counts what vitest reported, no more and no less. */
import { expect, it } from "vitest";
import { countTests } from "../scripts/count-tests.ts";

const file = (status: string, ...tests: readonly string[]) => ({
  name: "a.test.ts",
  status,
  assertionResults: tests.map((test) => ({ fullName: "adds", status: test })),
});

it("counts every test once", () => {
  const report = { testResults: [file("passed", "passed", "passed", "skipped"), file("failed", "failed", "passed")] };
  expect(countTests(report)).toEqual({
    notes: ["skipped: a.test.ts > adds", "failed: a.test.ts > adds"],
    passed: 3,
    failed: 1,
    skipped: 1,
  });
});

it.for([
  [file("failed"), "could not be loaded"],
  [file("failed", "passed"), "failed after its tests"],
  [file("passed"), "holds no test"],
] as const)("a file fails that $1", ([broken]) => {
  expect(countTests({ testResults: [broken] }).failed).toBe(1);
});

it.for(["pending", "todo", "disabled", "skipped"])("a test that is %s is skipped, not passed", (status) => {
  expect(countTests({ testResults: [file("passed", status)] })).toMatchObject({ passed: 0, failed: 0, skipped: 1 });
});
