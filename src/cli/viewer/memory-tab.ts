/** The arena over the steps of each function: a rectangle for each value, from its first step to its last. */
import type { TracedFunc, TracedValue, TraceFile } from "../../trace-file.ts";
import { make, showBytes } from "./dom.ts";

/** A smaller share of the arena is not as high as a line of text. */
const leastNamed = 0.06;
/** More steps have no room for their names. */
const mostNamed = 24;

export function memoryTab(trace: TraceFile): Element {
  const { arena, weights, touched } = trace.bytes;
  const lead = `${showBytes(arena)} of arena for all values of a step, beside ${showBytes(weights)} of weights; kernels pass over ${showBytes(touched)} a step.`;
  const how = "Steps go from left to right, addresses from below. What lies side by side shares memory.";
  const funcs = trace.memory.filter(({ values }) => values.length > 0);
  return make(
    "div",
    { class: "memory" },
    make("p", {}, lead),
    make("p", { class: "dim" }, how),
    ...funcs.map(funcView),
  );
}

function funcView(func: TracedFunc): Element {
  const { name, calls, steps, bytes, values } = func;
  const about = make("p", { class: "dim about" }, "Point at a value.");
  const across = (step: number) => percent(step, steps.length);
  const boxes = values.map((value, i) => {
    const tell = (): void => about.replaceChildren(describe(value, steps));
    const place = {
      left: across(value.first),
      width: across(value.last - value.first + 1),
      bottom: percent(value.offset, bytes),
      height: percent(value.bytes, bytes),
    };
    const style = Object.entries(place).map(([side, size]) => `${side}:${size}`);
    const kind = value.name.startsWith("all values") ? "call" : `v${i % 6}`;
    const attributes = { class: `value ${kind}`, style: style.join(";"), tabindex: "0", title: describe(value, steps) };
    const name = value.bytes / bytes < leastNamed ? "" : (value.name.split(":")[0] ?? "");
    return make("div", { ...attributes, mouseenter: tell, focus: tell }, name);
  });
  const columns = steps.map((step, i) =>
    make("div", { class: "step", style: `left:${across(i)};width:${across(1)}`, title: `step ${i}: ${step}` }),
  );
  const [busiest, most] = peak(func);
  const text = `${steps.length} steps, ${showBytes(bytes)} of arena; most is alive in step ${busiest} (${steps[busiest] ?? ""}): ${showBytes(most)}, ${Math.round((100 * most) / Math.max(bytes, 1))} % of it`;
  const names = steps.length <= mostNamed ? steps : [`step 0 of ${steps.length}: ${steps[0] ?? ""}`];
  return make(
    "section",
    {},
    make("h3", {}, `@${name}${calls > 1 ? ` × ${calls}` : ""}`),
    make("p", { class: "dim" }, text),
    make("div", { class: "arena" }, ...columns, ...boxes),
    make("div", { class: "axis dim" }, ...names.map((step) => make("span", { title: step }, step))),
    about,
  );
}

function describe({ name, offset, bytes, first, last }: TracedValue, steps: readonly string[]): string {
  const when = first === last ? `step ${first}` : `steps ${first} to ${last}`;
  return `${name}, ${showBytes(bytes)} at ${offset}, ${when} (${steps[first] ?? ""}${first === last ? "" : ` to ${steps[last] ?? ""}`})`;
}

/** The step with most bytes alive. */
function peak({ steps, values }: TracedFunc): readonly [number, number] {
  let best: readonly [number, number] = [0, 0];
  for (const [at] of steps.entries()) {
    const alive = values.reduce((sum, { first, last, bytes }) => (first <= at && at <= last ? sum + bytes : sum), 0);
    if (alive > best[1]) best = [at, alive];
  }
  return best;
}

function percent(part: number, whole: number): string {
  return `${Number(((100 * part) / Math.max(whole, 1)).toFixed(2))}%`;
}
