/**
 * The main bench, `npm run bench [-- --json]`: the demo model's decode after a prompt of 32 tokens and its prefill of 128,
 * for every candidate; tokens per second, and ratios to tfjs where it is installed.
 */
import type { Candidate } from "./candidates/candidate.ts";
import { compiled, interpreter } from "./candidates/ciuic.ts";
import { installCommand, isTfjsInstalled, tfjs } from "./candidates/tfjs.ts";
import { decodeRun, decodeTokens, prefillRun, prefillTokens, promptTokens } from "./decode-runs.ts";
import { printReports, runInterleaved } from "./run-interleaved.ts";

const lengths = [promptTokens, prefillTokens];
const fused = compiled("ciuic js", {}, lengths);
const unfused = compiled("ciuic js, no fusion", { fuse: false }, lengths);
const candidates: Candidate[] = [fused, unfused];
if (isTfjsInstalled()) candidates.unshift(tfjs);
else console.error(`\n*** tfjs-cpu is SKIPPED: it is not installed. To compare with it: ${installCommand} ***\n`);

const setUp = async ({ name, setup }: Candidate) => ({ name, session: await setup() });
const sessions = [];
for (const candidate of candidates) sessions.push(await setUp(candidate));
const slow = [await setUp(interpreter), sessions.find(({ name }) => name === fused.name)!];
const baseline = sessions[0]!.name;

printReports([
  runInterleaved(
    sessions.map(({ name, session }) => decodeRun(name, session)),
    {
      title: `decode, ${decodeTokens} tokens after a prompt of ${promptTokens}`,
      unit: "token",
      warmUps: 1,
      rounds: 7,
      baseline,
    },
  ),
  runInterleaved(
    sessions.map(({ name, session }) => prefillRun(name, session)),
    { title: `prefill of ${prefillTokens} tokens`, unit: "token", warmUps: 1, rounds: 5, baseline },
  ),
  // The interpreter is too slow for the same rounds; both do the same few tokens here.
  runInterleaved(
    slow.map(({ name, session }) => decodeRun(name, session, 4)),
    {
      title: `decode, 4 tokens after a prompt of ${promptTokens}`,
      unit: "token",
      warmUps: 1,
      rounds: 3,
      baseline: interpreter.name,
    },
  ),
]);
