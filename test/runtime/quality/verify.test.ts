/** `verify` finds a device that computes wrongly, and switches off what it is wrong with. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compileToPlan, type Device, openDevice } from "../../../src/compile.ts";
import { globalBufs } from "../../../src/ir/kernel/walk.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import type { Model } from "../../../src/runtime/model.ts";
import { checkKernels } from "../../../src/runtime/quality/verify-kernels.ts";
import { verifyModel } from "../../../src/runtime/quality/verify-model.ts";
import type { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
import { moduleOf } from "../../arb/module-of.ts";

const folder = new URL("../../fixtures/goldens/v2-lite", import.meta.url).pathname;
let model: Model;
beforeAll(async () => {
  model = await loadModel(folder, { backend: "js", contextLength: 32, maxSequences: 1, maxBatchTokens: 16 });
});
afterAll(() => model.close());

/** A device whose kernels of this name add something to their first result where `wrong` says so. */
function spoiled(device: Device, name: string, wrong: () => boolean, by = 0.01): Device {
  const load: Device["load"] = (plan) => {
    const program = device.load(plan);
    const at = globalBufs(plan.kernels[0]!).findIndex(({ access }) => access !== "read");
    const hit = plan.kernels.length === 1 && plan.kernels[0]!.name === name && wrong();
    return {
      ...program,
      instantiate: (memory) => {
        const instance = program.instantiate(memory);
        const run = async () => {
          await instance.run();
          if (hit) for (let i = 0; i < instance.params[at]!.length; i++) instance.params[at]![i]! += by;
        };
        return { ...instance, run };
      },
    };
  };
  return { ...device, load };
}

describe("a model", () => {
  test("is right on a device that computes rightly, every kernel of it", async () => {
    const { kernels, fine, stepError, switchedOff } = await model.verify();
    expect(kernels.filter((each) => !each.fine)).toEqual([]);
    expect(kernels.length).toBeGreaterThanOrEqual(16);
    expect(kernels.filter(({ elements }) => elements === 0).map(({ kernel }) => kernel)).toEqual([]);
    expect(switchedOff).toEqual([]);
    expect(stepError).toBeLessThan(1e-5);
    expect(fine).toBe(true);
  });

  test("is not where a kernel is off by a hundredth", async () => {
    const runner = model.runner as ModelRunner; // of the js backend
    const device = spoiled(model.device!, "logits", () => true);
    const { kernels, fine } = await verifyModel(runner, device, false);
    expect(fine).toBe(false);
    expect([...new Set(kernels.filter((each) => !each.fine).map(({ kernel }) => kernel))]).toEqual(["logits"]);
  });

  test("loses what its kernels are wrong with, and nothing else", async () => {
    const off = new Set<string>();
    const variants = {
      names: () => ["harmless", "broken", "not asked"],
      use: (name: string, on: boolean) => void (on ? off.delete(name) : off.add(name)),
    };
    const device = { ...spoiled(model.device!, "logits", () => !off.has("broken")), variants };
    const { fine, switchedOff } = await verifyModel(model.runner as ModelRunner, device, false);
    expect([fine, switchedOff, [...off]]).toEqual([true, ["broken"], ["broken"]]);
    const { result } = await model.generate([1, 2], { temperature: 0, maxTokens: 3, ignoreEos: true }).collect();
    expect(result.tokens.length).toBe(3);
  });
});

test("codes may differ by one now and then, not always, and not by more", async () => {
  const module = moduleOf((m, p) => {
    const x = p("x", "f32", 64, 64);
    const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
    return [m.named("codes", m.quantizeGroups(x, [scales], "i8", 32))];
  });
  const device = openDevice("js");
  const { plan } = compileToPlan(module, device.target, { disabledPasses: ["merge-launches"] });
  const check = async (on: Device) => (await checkKernels(on, plan)).every(({ fine }) => fine);
  expect(await check(device)).toBe(true);
  expect(await check(spoiled(device, "codes", () => true, 1))).toBe(false);
});
