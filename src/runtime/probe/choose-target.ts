/**
 * `chooseTarget(model, probes)`: which backend should compute a model, and why. First what fits: at the most precise form of
 * the weights in which any backend can hold the model. Of those the one that should be fastest, from bytes and operations
 * against measured figures: a prompt of 128 tokens and as many of an answer. What was measured goes before what was not,
 * but for a GPU that there was no time for: its driver's first compilation may have taken all of it.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { backendHoldings, memoryOn } from "../../plan/backend-memory.ts";
import { expectedSpeed } from "../../plan/expected-speed.ts";
import { problemsOf } from "../../plan/memory-table.ts";
import type { Precision } from "../../plan/model-memory.ts";
import { sizesOfConfig, type WeightSizes } from "../../plan/weight-groups.ts";
import { assumedFigures } from "./assumed-figures.ts";
import { type BackendProbe, noTime } from "./backend-probe.ts";
import { explainChoice } from "./explain-choice.ts";
import { type Refusal, runnableTargets, type TargetRow } from "./rank-targets.ts";
import type { TargetCandidate, TargetChoice, WantedTarget } from "./target-choice.ts";

const defaultContext = 4096;
const [promptTokens, answerTokens] = [128, 128];

/** @throws UnsupportedError where nothing that was asked for runs */
export function chooseTarget(
  config: ModelConfig,
  probes: readonly BackendProbe[],
  wanted: WantedTarget = {},
): TargetChoice {
  const sizes = sizesOfConfig(config);
  const { possible, refused } = runnableTargets(rowsOf(probes, wanted), wanted.backend);
  const candidates = possible.flatMap((row) => candidatesOf({ config, sizes }, row, wanted));
  if (candidates.length === 0) {
    throw new UnsupportedError(`backend ${wanted.backend}`, "it is not known how it holds weights", {
      hint: "Load with this backend by name: then nothing is chosen.",
    });
  }
  const order = precisionOrder(wanted, candidates);
  const fitting = candidates.filter(({ problems }) => problems.length === 0);
  const precision = order.find((each) => fitting.some((candidate) => candidate.precision === each));
  const ranked = fitting
    .filter((each) => each.precision === precision)
    .sort((a, b) => Number(b.known) - Number(a.known) || requestSeconds(a) - requestSeconds(b));
  const [chosen = nearest(candidates), ...others] = ranked;
  const unfit = unfitRows(candidates, [precision, order[0]]);
  const outcome = {
    chosen,
    others,
    refused: [...refused, ...unfit],
    fits: ranked.length > 0,
    wished: order[0] ?? chosen.precision,
  };
  return {
    backend: chosen.backend,
    threads: chosen.threads,
    precision: chosen.precision,
    fits: outcome.fits,
    ...explainChoice(outcome, wanted),
    chosen,
    others,
    refused: outcome.refused,
  };
}

/** Where nothing fits, what lacks least: its device says exactly what is missing. */
function nearest(candidates: readonly TargetCandidate[]): TargetCandidate {
  return candidates.reduce((least, each) => (each.memory.resident < least.memory.resident ? each : least));
}

/** Of what does not fit, what would have been taken: at the precision taken, or a better one. All where nothing fits. */
function unfitRows(candidates: readonly TargetCandidate[], precisions: readonly (Precision | undefined)[]): Refusal[] {
  const all = precisions.includes(undefined);
  return candidates
    .filter(({ problems, precision }) => problems.length > 0 && (all || precisions.includes(precision)))
    .map(({ label, precision, problems }) => ({ label: `${label}, ${precision}`, reason: problems.join(", and ") }));
}

/** Seconds of a prompt and an answer. */
export function requestSeconds({ speed }: Pick<TargetCandidate, "speed">): number {
  return promptTokens / speed.prefill + answerTokens / speed.decode;
}

interface Sized {
  readonly config: ModelConfig;
  readonly sizes: WeightSizes;
}

type Row = TargetRow & { readonly probe: BackendProbe };

/** Rows as they can be ranked: threads that were asked for instead of those that were probed. */
function rowsOf(probes: readonly BackendProbe[], { threads }: WantedTarget): Row[] {
  const rows = probes.map((probe): Row => {
    const { backend, label, software, missing } = probe;
    return { backend, label, threads: probe.threads, software, missing: missing?.reason ?? null, probe };
  });
  if (threads === undefined) return rows;
  const distance = (row: Row) => Math.abs((row.threads ?? 1) - threads);
  // Of a backend with threads the row that is nearest stands for the number asked for.
  return rows
    .filter(
      (row) =>
        row.threads === null ||
        rows.every((other) => other.backend !== row.backend || distance(row) <= distance(other)),
    )
    .map((row) => (row.threads === null ? row : { ...row, threads }));
}

function candidatesOf({ config, sizes }: Sized, row: Row, wanted: WantedTarget): TargetCandidate[] {
  const holding = backendHoldings.find(({ backend }) => backend === row.backend);
  if (holding === undefined) return [];
  const { probe } = row;
  const { context = Math.min(defaultContext, config.max_position_embeddings), sequences = 1 } = wanted;
  const figures = probe.figures ?? assumedFigures({ ...probe, threads: row.threads });
  // f32 is no more precise than what is stored, so that it is taken where it is asked for.
  const precisions = wanted.precisions ?? holding.precisions.filter((each) => each !== "f32");
  return precisions.map((precision) => {
    const memory = memoryOn(holding, precision, sizes, {
      ...{ context, sequences, tokens: 128 },
      threads: row.threads ?? 1,
    });
    const question = {
      ...{ config, precision, launching: holding.launching, narrow: holding.narrow, queues: holding.queues ?? false },
      attended: Math.min(context, 256),
    };
    return {
      backend: row.backend,
      label: row.threads === null ? probe.label : labelOf(row.backend, row.threads),
      threads: row.threads,
      precision,
      memory,
      problems: problemsOf(memory, probe),
      speed: expectedSpeed(question, figures),
      reading: figures.reading,
      measured: probe.figures !== null,
      known: probe.figures !== null || (probe.binding !== null && probe.unmeasured === noTime),
    };
  });
}

function labelOf(backend: string, threads: number): string {
  return `${backend} on ${threads === 1 ? "one thread" : `${threads} threads`}`;
}

/** Most precise first. */
function precisionOrder({ precisions }: WantedTarget, candidates: readonly TargetCandidate[]): Precision[] {
  const all: readonly Precision[] = ["f32", "stored", "int8", "int4"];
  return all.filter(
    (each) => (precisions ?? all).includes(each) && candidates.some(({ precision }) => precision === each),
  );
}
