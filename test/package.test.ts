/** The package as npm would publish it works for a stranger: types, compiler, bundled model (scripts/check-package.ts). */
import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";

it("is packed, installed, type-checked and run", () => {
  const said = execFileSync(process.execPath, ["scripts/check-package.ts"], { encoding: "utf8" });
  expect(said).toMatch(/^5 tokens: \d+( \d+){4}$/m);
});
