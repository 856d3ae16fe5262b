/** Parsing of options and token ids, and the texts of help, progress and errors, without a process. */
import { describe, expect, it } from "vitest";
import { commands } from "../../src/cli/dispatch.ts";
import { commandHelp, overallHelp } from "../../src/cli/help.ts";
import { parseBucket } from "../../src/cli/inspect.ts";
import { choosePasses, namedPasses, opt } from "../../src/cli/opt.ts";
import { type OptionTable, parseOptions } from "../../src/cli/options.ts";
import { progressLine } from "../../src/cli/progress.ts";
import { reportError } from "../../src/cli/report.ts";
import { run } from "../../src/cli/run.ts";
import { parseMessages } from "../../src/cli/tokenize.ts";
import { InputError, InternalError, IrError } from "../../src/ir/errors.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";

const table = {
  prompt: { kind: "text", value: "TEXT", short: "p", doc: "" },
  stop: { kind: "texts", value: "TEXT", doc: "" },
  top: { kind: "number", value: "X", doc: "" },
  seed: { kind: "whole", value: "N", doc: "" },
  greedy: { kind: "flag", doc: "" },
} as const satisfies OptionTable;

describe("options", () => {
  const parse = (...argv: string[]) => parseOptions("run", table, argv);

  it("reads every form that getopt does", () => {
    expect(parse("m", "--prompt=a b", "--top", "0.5", "--greedy", "--", "--seed")).toEqual({
      values: { prompt: "a b", top: 0.5, greedy: true },
      positionals: ["m", "--seed"],
    });
    expect(parse("-p", "x").values).toEqual({ prompt: "x" });
    expect(parse("--stop", "a", "--stop", "b").values).toEqual({ stop: ["a", "b"] });
  });

  it("takes values that begin with a dash", () => {
    expect(parse("--prompt", "- a list", "--seed", "-3").values).toEqual({ prompt: "- a list", seed: -3 });
  });

  it.each([
    [["--seed", "1.5"], 'run --seed: expected a whole number, got "1.5"'],
    [["--seed", ""], 'run --seed: expected a whole number, got ""'],
    [["--top", "Infinity"], 'run --top: expected a number, got "Infinity"'],
    [["--greedy=1"], 'run --greedy: takes no value, got "1"'],
    [["--__proto__", "1"], "run --__proto__: unknown option"],
    [["--constructor"], "run --constructor: unknown option"],
    [["-x"], "run -x: unknown option"],
  ])("refuses %j", (argv, message) => {
    expect(() => parse(...argv)).toThrow(message);
  });
});

describe("errors", () => {
  it("are one line for the user's, with options called as on the command line", () => {
    const error = new InputError("maxTokens", "too many", { hint: "Take fewer.\nOr none." });
    expect(reportError(error, ["run"], run)).toEqual({
      text: "ciuic: --max-tokens: too many. Take fewer. Or none.\n",
      code: 2,
    });
  });

  it("say everything for ours", () => {
    const { text, code } = reportError(new InternalError("pass x", "broke"), ["run", "-p", "it's"], run);
    expect(code).toBe(1);
    expect(text).toContain("text.test.ts"); // the stack
    expect(text).toContain("ciuic run -p 'it'\\''s'\n");
    expect(reportError("thrown text", []).text).toContain("thrown text");
  });

  it("about IR are the user's only where the user wrote it", () => {
    const error = new IrError("line 1", "unknown op");
    expect(reportError(error, ["opt"], opt).code).toBe(2);
    expect(reportError(error, ["run"], run).code).toBe(1);
  });
});

describe("texts", () => {
  it("show progress", () => {
    expect(progressLine({ phase: "weights", done: 5e6, total: 2e7 })).toBe(
      "loading weights ██████░░░░░░░░░░░░░░░░░░ 25%  5.0 of 20.0 MB",
    );
    expect(progressLine({ phase: "compile", done: 0, total: 0 })).toContain("100%");
  });

  it("give buckets", () => {
    const config = { max_position_embeddings: 2048 };
    expect(parseBucket("8,2,100", config)).toMatchObject({
      tokens: 8,
      sequences: 2,
      blocks: 7,
      outputs: 2,
      slots: 224,
    });
    expect(parseBucket("1", config)).toMatchObject({ tokens: 1, sequences: 1, ropeRows: 2048 });
    for (const text of ["", "0,1", "1,2", "1,1,4096", "1,1,1,1", "a", "1e3", "-1", "1.5"]) {
      expect(() => parseBucket(text, config), text).toThrow(InputError);
    }
  });

  it("keep every field of a message, __proto__ among them", () => {
    const [message] = parseMessages('[{"role": "user", "content": [{"__proto__": 1}], "name": null}]', "m");
    expect(JSON.stringify(message)).toBe('{"role":"user","content":[{"__proto__":1}],"name":null}');
  });
});

describe("help", () => {
  it.each(commands)("teaches $name with examples", (command) => {
    const text = commandHelp(command);
    expect(text).toContain(`Usage: ciuic ${command.name} `);
    expect(text).toMatch(/\nExamples:\n {2}.*ciuic /);
    expect(overallHelp(commands)).toContain(`  ${command.name} `);
    for (const line of text.split("\nExamples:")[0]!.split("\n")) expect(line.length).toBeLessThanOrEqual(110);
  });

  it("gives no option two letters, and no letter two options", () => {
    for (const { options } of commands) {
      const letters = Object.values(options).flatMap(({ short }) => short ?? []);
      expect(new Set(letters).size).toBe(letters.length);
    }
  });
});

describe("opt", () => {
  it("knows all passes of the pipeline by name", () => {
    for (const { name } of tensorPasses(jsTarget)) expect(Object.keys(namedPasses)).toContain(name);
    expect(choosePasses(" simplify, legalize ,", jsTarget).map(({ name }) => name)).toEqual(["simplify", "legalize"]);
    expect(() => choosePasses("toString", jsTarget)).toThrow("there is no pass");
  });
});
