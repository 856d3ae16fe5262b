/** Writes a generation to stdout as it comes, and says at the end how fast it was. */
import type { GenerationResult } from "../runtime/engine/generate.ts";
import type { Generation } from "../runtime/engine/generation.ts";

const dim = (text: string) => `\x1b[2m${text}\x1b[22m`;

/** Reasoning is shown dimmed on a terminal and left out of pipes, which get the answer alone. Gives the answer's text. */
export async function printAnswer(
  generation: Generation,
  stdout: NodeJS.WriteStream,
): Promise<{ text: string; result: GenerationResult }> {
  let text = "";
  let reasoned = false;
  for await (const part of generation) {
    if (part.kind === "reasoning") {
      if (stdout.isTTY) await write(stdout, dim(part.text));
      reasoned = true;
      continue;
    }
    // Models put empty lines between reasoning and answer; here the gap is ours.
    const shown = reasoned && text === "" ? part.text.trimStart() : part.text;
    if (reasoned && stdout.isTTY && text === "" && shown !== "") await write(stdout, "\n\n");
    text += shown;
    await write(stdout, shown);
  }
  if (!text.endsWith("\n")) await write(stdout, "\n");
  return { text, result: await generation.result };
}

/** Waits for a slow reader, so that output does not pile up in memory. */
export async function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  if (!stream.write(text)) await new Promise<void>((resolve) => stream.once("drain", () => resolve()));
}

/** `[42 tokens, 11.4 tokens/s, first after 1.5 s, seed 7]`. */
export function summary({ usage, timings, finishReason, seed }: GenerationResult): string {
  const { completionTokens: count } = usage;
  const rate = timings.tokensPerSecond;
  const parts = [
    `${count} ${count === 1 ? "token" : "tokens"}`,
    rate === null ? null : `${rate.toFixed(1)} tokens/s`,
    timings.firstTokenMs === null ? null : `first after ${(timings.firstTokenMs / 1000).toFixed(2)} s`,
    `seed ${seed}`,
    finishReason === "abort" ? "stopped" : null,
  ];
  return `[${parts.filter((part) => part !== null).join(", ")}]\n`;
}
