/** The texts of `--help`. */
import type { Command } from "./command.ts";
import type { OptionTable } from "./options.ts";

const width = 100;

/** All commands, and what to try first. */
export function overallHelp(commands: readonly Command[]): string {
  const widest = Math.max(...commands.map(({ name }) => name.length));
  return `ciuic: a tensor compiler that runs DeepSeek models.

Usage: ciuic COMMAND [MODEL] [OPTIONS]

MODEL is a Hugging Face folder (config.json, safetensors, tokenizer.json). Left out, it is the small model that
comes with ciuic, which tells stories and answers simple questions.

Commands:
${commands.map(({ name, summary }) => `  ${name.padEnd(widest)}  ${summary}`).join("\n")}

Try:
  ciuic run --prompt "Once upon a time, there was"
  ciuic chat --prompt "What is 27 + 15?"
  ciuic inspect
  ciuic COMMAND --help

Exit codes: 0 done, 1 nothing fits (plan, plan-memory), wrong results (verify) or a bug of ours, 2 wrong usage or bad input, 130 stopped by Ctrl-C.
Debugging: the variables DEBUG, VERIFY, DUMP, NOOPT and others are described in docs/env.md.
`;
}

/** One command: usage, options, examples. */
export function commandHelp(command: Command): string {
  const { name, usage, summary, details, options, examples } = command;
  const lead = usage.map((each, i) => `${i === 0 ? "Usage:" : "      "} ciuic ${name} ${each}`.trimEnd());
  return `${summary}

${lead.join("\n")}

${details.map((line) => wrap(line, "")).join("\n")}

Options:
${optionLines(options)}

Examples:
${examples.map((example) => `  ${example}`).join("\n")}
`;
}

function optionLines(options: OptionTable): string {
  const rows = Object.entries(options).map(([name, { value, short, doc }]) => {
    const dash = short === undefined ? "" : `-${short}, `;
    return { left: `  ${dash}--${name}${value === undefined ? "" : ` ${value}`}`, doc };
  });
  rows.push({ left: "  -h, --help", doc: "This text." });
  const column = Math.max(...rows.map(({ left }) => left.length)) + 2;
  return rows.map(({ left, doc }) => left.padEnd(column) + wrap(doc, " ".repeat(column)).trimStart()).join("\n");
}

/** Breaks between words so that lines with `indent` before them fit. */
function wrap(text: string, indent: string): string {
  const lines = [indent];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) ?? "";
    const empty = line === indent;
    if (empty || line.length + 1 + word.length <= width)
      lines[lines.length - 1] = empty ? line + word : `${line} ${word}`;
    else lines.push(indent + word);
  }
  return lines.join("\n");
}
