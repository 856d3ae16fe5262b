/** The debug variables as options: what each changes, and that misspelt names are refused. */
import { describe, expect, it } from "vitest";
import { compileToPlan } from "../src/compile.ts";
import { compileOptionsFromEnv } from "../src/compile-options.ts";
import { readEnv } from "../src/env.ts";
import { InputError } from "../src/ir/errors.ts";
import { parseModule } from "../src/ir/parse.ts";
import { jsTarget } from "../src/ir/target.ts";

const text = `module @m entry @f {
func @f(%x: f32[2,3], %w: f32[3]) {
  %y: f32[2,3] = rmsNorm %x, %w {eps=0.000001}
  return %y
}
}
`;

describe("compileOptionsFromEnv", () => {
  const written = new Map<string, string>();
  const compile = (variables: Record<string, string>) => {
    written.clear();
    const options = compileOptionsFromEnv((variable, path, content) => {
      written.set(`${variable} ${path}`, content);
    }, readEnv(variables));
    return { options, run: () => compileToPlan(parseModule(text), jsTarget, options) };
  };

  it("has the defaults of unset variables", () => {
    expect(compile({}).options).toEqual({ verify: 1, optimize: true, instruments: [], disabledRules: [], seed: 1 });
  });

  it("passes levels, seeds and rules on", () => {
    const { options } = compile({ VERIFY: "3", NOOPT: "1", SEED: "7", DISABLE_RULE: "mul_one" });
    expect(options).toMatchObject({ verify: 3, optimize: false, seed: 7, disabledRules: ["mul_one"] });
  });

  it("dumps every module compiled to a folder of its own, only the passes asked for", () => {
    const { run } = compile({ DUMP: "out", DUMP_PASS: "^expand$" });
    run();
    run();
    expect([...written.keys()]).toEqual([
      "DUMP out/00-input.ir",
      expect.stringMatching(/^DUMP out\/\d\d-expand\.after\.ir$/),
      "DUMP out/2/00-input.ir",
      expect.stringMatching(/^DUMP out\/2\/\d\d-expand\.after\.ir$/),
    ]);
    expect(parseModule(written.get("DUMP out/00-input.ir")!).name).toBe("m");
  });

  it("traces passes as JSON", () => {
    compile({ TRACE: "t.json" }).run();
    const trace: unknown = JSON.parse(written.get("TRACE t.json")!);
    expect(trace).toMatchObject({ passes: expect.arrayContaining([expect.objectContaining({ name: "simplify" })]) });
  });

  it("refuses passes and rules that do not exist, with the nearest", () => {
    expect(() => compile({ DISABLE_PASS: "absrob" })).toThrow('Did you mean "absorb"?');
    expect(() => compile({ DISABLE_RULE: "nothing_like_it" })).toThrow(InputError);
  });

  it("leaves out a disabled pass", () => {
    const names = (variables: Record<string, string>) => {
      compile({ ...variables, DUMP: "o" }).run();
      return [...written.keys()].join();
    };
    expect(names({})).toContain("-absorb.after.ir");
    expect(names({ DISABLE_PASS: "absorb" })).not.toContain("-absorb.after.ir");
  });
});
