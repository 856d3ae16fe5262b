/** Measures every target that runs here on one model, in turn, and compares them with what was expected; see choice.bench.ts. */
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseModelConfigText } from "../src/models/deepseek/config.ts";
import type { Precision } from "../src/plan/model-memory.ts";
import { type LoadOptions, loadModel } from "../src/runtime/load-model.ts";
import type { Model } from "../src/runtime/model.ts";
import { chooseTarget, requestSeconds } from "../src/runtime/probe/choose-target.ts";
import { probe } from "../src/runtime/probe/probe.ts";
import type { TargetCandidate } from "../src/runtime/probe/target-choice.ts";
import { makeCheckpoint } from "./cpu/make/make-models.ts";
import { shapeOf } from "./cpu/make/shapes.ts";
import { promptIds } from "./decode-runs.ts";
import { describeMachine } from "./run-interleaved.ts";

/** Milliseconds in which a target answers again and again before it is another's turn. */
const turnMs = 600;

interface Run {
  readonly candidate: TargetCandidate;
  readonly model: Model;
  /** Of each answer: seconds of the prompt and of the answer's other tokens. */
  readonly prompts: number[];
  readonly answers: number[];
}

/** Prints a table. Gives whether the choice is at most a tenth slower than the fastest. */
export async function measureChoice(args: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: "string", default: "models/tiny-deepseek" },
      layers: { type: "string" },
      cache: { type: "string", default: tmpdir() },
      quantize: { type: "string" },
      rounds: { type: "string", default: "5" },
      prompt: { type: "string", default: "128" },
      tokens: { type: "string", default: "128" },
      backends: { type: "string" },
      software: { type: "boolean", default: false },
      "package-folder": { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const tokens = Number(values.tokens);
  const ids = promptIds(Number(values.prompt));
  const folder =
    values.layers === undefined
      ? values.folder
      : makeCheckpoint(shapeOf("qwen", Number(values.layers)), "bf16", values.cache, console.error);
  const precision: Precision = values.quantize === "int8" || values.quantize === "int4" ? values.quantize : "stored";
  const quantize =
    precision === "int8" || precision === "int4"
      ? { quantize: { weights: precision, activations: "int8" as const } }
      : {};
  const size = { contextLength: ids.length + tokens + 8, maxSequences: 1 };

  const packageFolder = values["package-folder"];
  for (const quick of [false, true]) await showProbeTime({ quick, packageFolder });
  const report = await probe({ fresh: true, milliseconds: 10_000, packageFolder });
  const probes = report.probes
    .map((each) => (values.software ? { ...each, software: false } : each))
    .filter(({ backend }) => values.backends === undefined || values.backends.split(",").includes(backend));
  const config = parseModelConfigText(readFileSync(join(folder, "config.json"), "utf8"), folder);
  const choice = chooseTarget(config, probes, { precisions: [precision], context: size.contextLength });
  let seed = 0;
  const runs: Run[] = [];
  for (const candidate of [choice.chosen, ...choice.others]) {
    const threads = candidate.threads === null ? {} : { threads: candidate.threads };
    runs.push({ candidate, model: await open({ backend: candidate.backend, ...threads }), prompts: [], answers: [] });
  }
  for (let round = -1; round < Number(values.rounds); round++) {
    for (let turn = 0; turn < runs.length; turn++) {
      const { model, prompts, answers } = runs[(turn + round + 1) % runs.length]!;
      // Another beginning each time, so that no prompt is in the cache already.
      const prompt = [...ids];
      prompt[1] = 100 + round;
      // A GPU that waited while the others computed lets its clocks fall, and takes some tenths of a second to raise them.
      const end = performance.now() + turnMs;
      do {
        prompt[2] = 100 + (seed++ % 3000);
        const { timings } = await model.generate(prompt, { maxTokens: tokens, ignoreEos: true, temperature: 0 }).result;
        if (round < 0) continue;
        prompts.push(timings.firstTokenMs! / 1000);
        answers.push((tokens - 1) / timings.tokensPerSecond!);
      } while (performance.now() < end);
    }
  }
  const rows = runs.map(({ candidate, prompts, answers }) => ({
    label: `${candidate.backend}${candidate.threads === null ? "" : ` ${candidate.threads}`}`,
    prefill: ids.length / Math.min(...prompts),
    decode: (tokens - 1) / Math.min(...answers),
    seconds: Math.min(...prompts) + Math.min(...answers),
    expectedPrefill: candidate.speed.prefill,
    expectedDecode: candidate.speed.decode,
    expectedSeconds: requestSeconds(candidate),
  }));
  for (const { model } of runs) await model.close();
  const fastest = rows.reduce((best, each) => (each.seconds < best.seconds ? each : best));
  const right = rows[0]!.seconds <= 1.1 * fastest.seconds;
  if (values.json) {
    console.log(
      JSON.stringify(
        { machine: describeMachine(), folder, precision, why: choice.why, rows, fastest: fastest.label, right },
        null,
        2,
      ),
    );
  } else {
    const { cpu, cores, node, load } = describeMachine();
    console.log(`${folder}, ${precision}; ${cpu}, ${cores} cores, node ${node}, load ${load.toFixed(1)}`);
    console.log(`fastest of ${values.rounds} interleaved rounds: a prompt of ${ids.length} tokens, then ${tokens}\n`);
    console.log("| target | prompt tokens/s | expected | answer tokens/s | expected | seconds | expected |");
    console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (const each of rows) {
      const cells = [
        each.prefill,
        each.expectedPrefill,
        each.decode,
        each.expectedDecode,
        each.seconds,
        each.expectedSeconds,
      ];
      console.log(`| ${each.label} | ${cells.map((value) => value.toPrecision(3)).join(" | ")} |`);
    }
    console.log(
      `\nchosen: ${choice.why}\nfastest measured: ${fastest.label}: the choice is ${right ? "right" : "WRONG"}`,
    );
  }
  return right;

  function open(on: Pick<LoadOptions, "backend" | "threads">): Promise<Model> {
    return loadModel(folder, { ...size, ...quantize, ...on, packageFolder });
  }
}

/** What a user waits for, with the time that a probe usually has. */
async function showProbeTime(options: { readonly quick: boolean; readonly packageFolder: string | undefined }) {
  const start = performance.now();
  const { probes } = await probe({ fresh: true, folder: null, ...options });
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  const said = probes
    .filter(({ missing }) => missing === null)
    .map(({ backend, threads, unmeasured }) => `${backend} ${threads ?? ""} ${unmeasured ?? "measured"}`);
  console.log(`a ${options.quick ? "quick " : ""}probe takes ${seconds} s: ${said.join("; ")}`);
}
