/** `ciuic bench`: how fast a model is here, what limits it, and where a step's time goes. */
import { InputError } from "../ir/errors.ts";
import { probe } from "../runtime/probe/probe.ts";
import { benchModel, checkBench } from "../runtime/report/bench-model.ts";
import { write } from "./answer.ts";
import { showBench } from "./bench-text.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { catchInterrupt } from "./interrupt.ts";
import { modelFlags, modelOptions } from "./model-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable } from "./options.ts";

const options = {
  profile: { kind: "flag", doc: "Also time every kernel, and show where the time of a step goes." },
  "prompt-tokens": { kind: "whole", value: "N", doc: "Tokens of the prompt. Default: 128." },
  tokens: { kind: "whole", value: "N", doc: "Tokens of the answer. Default: 64." },
  rounds: { kind: "whole", value: "N", doc: "How often both are measured. Default: 5." },
  json: { kind: "flag", doc: "Print the report as JSON." },
  ...modelOptions,
} as const satisfies OptionTable;

export const bench = defineCommand({
  name: "bench",
  usage: ["[MODEL] [--profile] [--prompt-tokens N] [--tokens N] [--backend NAME] [OPTIONS]"],
  summary: "Measure how fast a model is here, and say what limits it.",
  details: [
    "Tokens per second of a prompt and of an answer of one sequence, greedy, through all of the runtime: the median of some rounds and their range, after a second of rounds that do not count. Then loading, the first token, memory, and what a token reads, computes and launches against what this machine can do (ciuic probe, which runs for three seconds if it never did).",
    "With --profile kernels are timed too, in runs of their own: on WebAssembly and JavaScript each launch on one thread by the clock, on a GPU by its timestamps. Bytes are those that a kernel reads and writes, at most; a rate beyond that of memory says that caches hold them.",
  ],
  options,
  examples: [
    "ciuic bench",
    "ciuic bench --profile --quantize int4+int8",
    "ciuic bench --backend js --rounds 2 --tokens 16 --json",
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const { promptTokens, tokens, rounds } = checkBench({ ...values, promptTokens: values["prompt-tokens"] });
    const needed = promptTokens + tokens;
    const { context, threads, profile } = values;
    if (context !== undefined && context < needed) {
      const hint = "The prompt and the answer must fit.";
      throw new InputError("bench --context", `expected at least ${needed}, got ${context}`, { hint });
    }
    const interrupt = catchInterrupt();
    try {
      const { signal } = interrupt;
      const load = { ...(await modelFlags("bench", values)), maxSequences: 1, signal };
      const started = performance.now();
      const report = await withModel(
        positionals[0],
        { ...load, ...(needed > 4096 && { contextLength: context ?? needed }) },
        async (model) => {
          const loadSeconds = (performance.now() - started) / 1000;
          const probes = async () => (await probe({ packageFolder: values["package-folder"] })).probes;
          const found = await benchModel(model, { promptTokens, tokens, rounds, profile, probes, threads, signal });
          return { ...found, loadSeconds, residentBytes: process.memoryUsage.rss() };
        },
      );
      await write(process.stdout, values.json ? `${JSON.stringify(report, null, 2)}\n` : showBench(report));
    } catch (error) {
      if (!interrupt.signal.aborted) throw error;
    } finally {
      interrupt.release();
    }
    return interrupt.signal.aborted ? exitCodes.interrupted : exitCodes.done;
  },
});
