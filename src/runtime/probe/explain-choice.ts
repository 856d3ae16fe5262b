/** A choice of a backend in sentences, with the numbers it rests on. */
import { inPrecision, type Precision } from "../../plan/model-memory.ts";
import { showBytes, showCount, showRate, showSeconds } from "../../plan/show.ts";
import type { Refusal } from "./rank-targets.ts";
import type { TargetCandidate, WantedTarget } from "./target-choice.ts";

export interface Outcome {
  readonly chosen: TargetCandidate;
  readonly others: readonly TargetCandidate[];
  readonly refused: readonly Refusal[];
  readonly fits: boolean;
  /** The precision that would be best. */
  readonly wished: Precision;
}

export function explainChoice({ chosen, others, refused, fits, wished }: Outcome, wanted: WantedTarget) {
  const { label, precision, memory, speed, reading, measured, problems } = chosen;
  const { seconds, bytes, operations, launches } = speed;
  const next = others[0];
  const against = next === undefined ? "" : `, ${next.label} ${showRate(next.speed.decode)}${unmeasured(next)}`;
  const why = fits
    ? `${label}: about ${showRate(speed.decode)} tokens/s expected once warm${unmeasured(chosen)}${against}`
    : `${label}: nothing fits: ${problems.join(", and ")}`;
  const asked = [
    ...(wanted.backend === undefined ? [] : [`backend ${wanted.backend}`]),
    ...(wanted.threads === undefined ? [] : [`${wanted.threads} threads`]),
  ];
  const reasons = [
    ...(asked.length === 0 ? [] : [`Asked for: ${asked.join(", ")}.`]),
    fits
      ? `It fits: ${showBytes(memory.weights)} of weights ${inPrecision(precision)}, ${showBytes(memory.caches)} of caches, the largest buffer ${showBytes(memory.largest.bytes)}.`
      : `Nothing fits; ${label} lacks least: ${problems.join(", and ")}.`,
    ...(fits && precision !== wished ? [`Nothing fits ${inPrecision(wished)}.`] : []),
    `A token reads ${showBytes(bytes)} at ${showBytes(reading)}/s and computes ${showCount(operations)} operations at the same time, which takes ${showSeconds(seconds.weights)}, and ${launches} launches, which take ${showSeconds(seconds.launches)}: ${showRate(speed.decode)} tokens/s, prompts ${showRate(speed.prefill)}.`,
    ...(measured ? [] : [`Figures of ${label} were not measured here: those of an ordinary machine are used.`]),
    ...others.map(
      (each) =>
        `${each.label}: ${showRate(each.speed.decode)} tokens/s, prompts ${showRate(each.speed.prefill)}${unmeasured(each)}.`,
    ),
    ...refused.map((each) => `Not ${each.label}: ${each.reason}.`),
  ];
  return { why, reasons };
}

function unmeasured({ measured }: TargetCandidate): string {
  return measured ? "" : " (not measured)";
}
