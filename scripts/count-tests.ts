/** `node scripts/count-tests.ts REPORT.json`: names what failed or was skipped in vitest's report, then counts. */
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

/** The part of vitest's JSON report that is read here. */
export interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

export interface Count {
  /** What a reader must not miss, one line each. */
  readonly notes: readonly string[];
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** A file that could not be run, or holds no test, is one failure: its tests would otherwise be missing silently. */
export function countTests(report: Report): Count {
  const notes: string[] = [];
  const count = { passed: 0, failed: 0, skipped: 0 };
  const add = (as: "failed" | "skipped", what: string) => {
    count[as] += 1;
    notes.push(`${as}: ${what}`);
  };
  for (const file of report.testResults) {
    const broken = file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed");
    if (broken || file.assertionResults.length === 0)
      add("failed", `${file.name} (the file itself) ${file.message ?? ""}`);
    for (const test of file.assertionResults) {
      if (test.status === "passed") count.passed += 1;
      else add(test.status === "failed" ? "failed" : "skipped", `${file.name} > ${test.fullName}`);
    }
  }
  return { notes, ...count };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  // The report was just written by vitest.
  const report = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Report;
  const { notes, passed, failed, skipped } = countTests(report);
  for (const note of notes) console.log(note);
  if (skipped > 0) console.log(`${skipped} skipped`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}
