/** The bench harness: every candidate runs in every round, orders turn, results are counted and compared per round. */
import { expect, test } from "vitest";
import { runInterleaved, showReport } from "../../bench/run-interleaved.ts";

const options = { title: "t", unit: "thing", warmUps: 1, rounds: 4 };

function spin(ms: number): number {
  const end = performance.now() + ms;
  let turns = 0;
  while (performance.now() < end) turns++;
  return turns > 0 ? 1 : 0;
}

test("rounds are interleaved, the first candidate changing, and prepared each time", () => {
  const order: string[] = [];
  const named = (name: string) => ({
    name,
    units: 1,
    prepare: () => order.push(`(${name}`),
    run: () => (order.push(`${name})`) > 0 ? 1 : 0),
  });
  const { results } = runInterleaved([named("a"), named("b")], options);
  expect(order.join("")).toBe(`${"(aa)(bb)(bb)(aa)".repeat(2)}(aa)(bb)`);
  expect(results.map(({ checksum }) => checksum)).toEqual([5, 5]); // warm-up's results count as used too
});

test("ratios are to the baseline, per unit of work", () => {
  const candidates = [
    { name: "slow", units: 1, run: () => spin(8) },
    { name: "fast", units: 2, run: () => spin(4) },
  ];
  const report = runInterleaved(candidates, { ...options, baseline: "slow" });
  const [slow, fast] = report.results;
  expect(slow!.ratio).toBe(1);
  expect(fast!.ratio).toBeGreaterThan(2); // 4 on an idle machine
  expect(fast!.low).toBeLessThanOrEqual(fast!.median);
  expect(fast!.high).toBeGreaterThanOrEqual(fast!.median);
  expect(showReport(report)).toContain(report.machine.node);
});

test("no candidates, or an unknown baseline, is an error", () => {
  expect(() => runInterleaved([], options)).toThrow("no candidate");
  expect(() => runInterleaved([{ name: "a", units: 1, run: () => 0 }], { ...options, baseline: "b" })).toThrow(
    "no candidate b",
  );
});
