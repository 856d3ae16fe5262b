/** What `ciuic bench` prints. */
import { showBytes, showCount, showRate, showSeconds } from "../plan/show.ts";
import type { BenchReport, Spread } from "../runtime/report/bench-model.ts";
import { showKernelTimes } from "../runtime/report/kernel-profile.ts";
import type { Limits } from "../runtime/report/limits-of-token.ts";
import { type StepProfile, showSides } from "../runtime/report/profile-step.ts";

/** The report with what the command measured around it: seconds of loading, bytes of the whole process. */
export interface BenchOutput extends BenchReport {
  readonly loadSeconds: number;
  readonly residentBytes: number;
}

const mostKernels = 24;

export function showBench(report: BenchOutput): string {
  const { model, backend, device, lossy, request, firstToken, prompt, decode, memory, limits, profile } = report;
  const { promptTokens, tokens, rounds } = request;
  const values = memory.values === null ? "" : `, ${showBytes(memory.values)} of values of a step`;
  const held = memory.device === null ? "" : `; ${showBytes(memory.device)} on the device`;
  const compiles = memory.values === null ? "" : ", which compiles the prompt's steps";
  const rows: [string, string][] = [
    ["model", model],
    ["backend", `${backend}: ${device}`],
    ...lossy.map((each): [string, string] => ["changed", each]),
    ["load", showSeconds(report.loadSeconds)],
    [
      "first token",
      `after ${showSeconds(firstToken.warm.median)}; ${showSeconds(firstToken.cold)} in the first request${compiles}`,
    ],
    ["prompt", `${spread(prompt)} tokens/s, ${promptTokens} tokens`],
    [
      "decode",
      `${spread(decode)} tokens/s, ${tokens} tokens after them; medians of ${rounds} rounds [and their range]`,
    ],
    [
      "memory",
      `${showBytes(memory.weights)} of weights, ${showBytes(memory.caches)} of caches${values}${held}; the process ${showBytes(report.residentBytes)}`,
    ],
    ...(profile?.missing == null ? [] : [["profile", `none: ${profile.missing}`] as [string, string]]),
    ...(limits === null ? [] : limitLines(limits).map((line, i): [string, string] => [i === 0 ? "limits" : "", line])),
  ];
  const lines = rows.map(([name, text]) => `${name.padEnd(13)}${text}`.trimEnd());
  const steps = profile === null || profile.missing !== null ? [] : [profile.prompt, profile.decode];
  const tables = steps.flatMap((step) => ["", ...profileLines(step)]);
  return `${[...lines, ...tables].join("\n")}\n`;
}

function spread({ median, least, most }: Spread): string {
  return `${showRate(median)} [${showRate(least)} to ${showRate(most)}]`;
}

/** What a token reads, computes and launches, each against what was measured of this machine. */
function limitLines({ speed, expected, shares, by }: Limits): string[] {
  const { weightBytes, launches, tokensPerSecond, reading, ofOps } = speed;
  const of = (share: number | null) => (share === null ? "" : `, ${(100 * share).toFixed(0)} % of a token's time`);
  const per = (amount: number) => ((amount * tokensPerSecond) / 1e9).toPrecision(3);
  const measured = reading === null ? "" : ` of the ${(reading / 1e9).toPrecision(3)} GB/s at which it reads`;
  return [
    `a token reads ${showBytes(weightBytes)} of weights, ${per(weightBytes)} GB/s${measured}${of(shares.memory)}`,
    ...(expected === null
      ? [`it makes ${launches} ${ofOps ? "ops" : "launches"}; ciuic probe has no figures of this backend`]
      : [
          `takes ${showCount(expected.operations)} operations, ${per(expected.operations)} G/s${of(shares.arithmetic)} at the rate that was probed`,
          `and makes ${launches} launches${of(shares.launches)}; by these figures ${showRate(expected.decode)} tokens/s are expected`,
        ]),
    by === "unknown"
      ? "what limits it is not known"
      : by === "other work"
        ? "none of these is a third of the time: work between and around the products limits it"
        : `${by} ${by === "launches" ? "limit" : "limits"} it most`,
  ];
}

function profileLines(step: StepProfile): string[] {
  const { tokens, after, how, kernels, sides } = step;
  const what = tokens === 1 ? `a token after ${after}` : `a prompt's ${tokens} tokens after ${after}`;
  return [
    `where the time of ${what} goes (${how}):`,
    ...(sides === null ? [] : [showSides(sides)]),
    showKernelTimes(kernels, { most: mostKernels }),
  ];
}
