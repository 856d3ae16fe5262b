/** The arena over the steps of each function: a rectangle for each value, from its first step to its last. */
import type { TracedFunc, TracedValue, TraceFile } from "../../trace-file.ts";
import { draw, make, showBytes } from "./dom.ts";

const [width, height] = [1000, 300];

export function memoryTab(trace: TraceFile): Element {
  const { arena, weights, touched } = trace.bytes;
  const lead = `${showBytes(arena)} of arena for all values of a step, beside ${showBytes(weights)} of weights; kernels pass over ${showBytes(touched)} a step.`;
  const funcs = trace.memory.filter(({ values }) => values.length > 0);
  return make("div", { class: "memory" }, make("p", {}, lead), ...funcs.map(funcView));
}

function funcView(func: TracedFunc): Element {
  const { name, calls, steps, bytes, values } = func;
  const about = make("p", { class: "dim about" }, "Point at a value.");
  const each = width / Math.max(steps.length, 1);
  const scale = height / Math.max(bytes, 1);
  const boxes = values.map((value, i) => {
    const tell = (): void => about.replaceChildren(describe(value, steps));
    return draw(
      "rect",
      {
        x: String(value.first * each),
        y: String(height - (value.offset + value.bytes) * scale),
        width: String(Math.max((value.last - value.first + 1) * each - 1, 1)),
        height: String(Math.max(value.bytes * scale - 0.5, 1)),
        class: value.name.startsWith("all values") ? "call" : `value v${i % 6}`,
        tabindex: "0",
        mouseenter: tell,
        focus: tell,
      },
      draw("title", {}, describe(value, steps)),
    );
  });
  const ticks = steps.map((step, i) =>
    draw(
      "rect",
      { x: String(i * each), y: "0", width: String(each), height: String(height), class: "step" },
      draw("title", {}, `step ${i}: ${step}`),
    ),
  );
  const [busiest, most] = peak(func);
  const text = `${steps.length} steps, ${showBytes(bytes)} of arena; most is alive in step ${busiest} (${steps[busiest] ?? ""}): ${showBytes(most)}, ${percent(most, bytes)} of it`;
  return make(
    "section",
    {},
    make("h3", {}, `@${name}${calls > 1 ? ` × ${calls}` : ""}`),
    make("p", { class: "dim" }, text),
    draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" }, ...ticks, ...boxes),
    make("p", { class: "axis dim" }, make("span", {}, "step 0"), make("span", {}, `step ${steps.length - 1}`)),
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
  return `${((100 * part) / Math.max(whole, 1)).toFixed(0)} %`;
}
