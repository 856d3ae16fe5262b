/**
 * The main bench, `npm run bench [-- --json]`: the demo model's decode after a prompt of 32 tokens and its prefill of 128,
 * for every candidate; tokens per second, and ratios to tfjs where it is installed.
 */
import type { Candidate } from "./candidates/candidate.ts";
import { installCommand, isTfjsInstalled, tfjs } from "./candidates/tfjs.ts";
import { decodeRun, decodeTokens, prefillRun, prefillTokens, promptTokens } from "./decode-runs.ts";
import { printReports, runInterleaved } from "./run-interleaved.ts";

const candidates: Candidate[] = [];
if (isTfjsInstalled()) candidates.push(tfjs);
else console.error(`\n*** tfjs-cpu is SKIPPED: it is not installed. To compare with it: ${installCommand} ***\n`);

if (candidates.length === 0) {
  console.error("decode.bench: nothing to time: no candidate is installed");
  process.exit(1);
}

const sessions: { readonly name: string; readonly session: Awaited<ReturnType<Candidate["setup"]>> }[] = [];
for (const { name, setup } of candidates) sessions.push({ name, session: await setup() });

const baseline = sessions.find(({ name }) => name === tfjs.name)?.name ?? sessions[0]!.name;
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
]);
