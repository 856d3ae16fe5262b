/** The bench harness: every candidate runs in every round, orders turn, results are counted and compared per round. */
import { expect, test } from "vitest";
import { runInterleaved, showReport } from "../../bench/run-interleaved.ts";

const options = { title: "t", unit: "thing", warmUps: 1, rounds: 4 };

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
  let [wall, cpu] = [0, 0];
  const clock = { wall: () => wall, cpu: () => cpu };
  const takes = (seconds: number) => () => {
    wall += seconds;
    cpu += seconds / 2;
    return 1;
  };
  const candidates = [
    { name: "slow", units: 1, run: takes(8) },
    { name: "fast", units: 2, run: takes(4) },
  ];
  const report = runInterleaved(candidates, { ...options, baseline: "slow" }, clock);
  const [slow, fast] = report.results;
  expect(slow).toMatchObject({ ratio: 1, median: 1 / 8, perCpuSecond: 1 / 4 });
  expect(fast).toMatchObject({ ratio: 4, median: 1 / 2, low: 1 / 2, high: 1 / 2, perCpuSecond: 1, cpuRatio: 4 });
  expect(showReport(report)).toContain(report.machine.node);
});

test("no candidates, or an unknown baseline, is an error", () => {
  expect(() => runInterleaved([], options)).toThrow("no candidate");
  expect(() => runInterleaved([{ name: "a", units: 1, run: () => 0 }], { ...options, baseline: "b" })).toThrow(
    "no candidate b",
  );
});
