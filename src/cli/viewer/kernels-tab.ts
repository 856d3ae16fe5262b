/** The kernels of a trace: what each costs, the tensor ops it computes, its IR, and what was emitted for it. */
import type { TracedKernel, TraceFile } from "../../trace-file.ts";
import { choice, make, showBytes } from "./dom.ts";

interface Column {
  readonly title: string;
  readonly value: (kernel: TracedKernel) => number;
  readonly show: (kernel: TracedKernel) => string;
}

export function kernelsTab(trace: TraceFile): Element {
  const measured = trace.kernels.some(({ ms }) => ms !== null);
  const total = trace.kernels.reduce((sum, kernel) => sum + cost(kernel), 0);
  const columns: Column[] = [
    { title: "launches", value: ({ launches }) => launches, show: ({ launches }) => String(launches) },
    { title: "bytes", value: ({ bytes }) => bytes, show: ({ bytes }) => showBytes(bytes) },
    ...(measured
      ? [
          {
            title: "ms",
            value: (kernel: TracedKernel) => kernel.ms ?? 0,
            show: ({ ms }: TracedKernel) => (ms ?? 0).toFixed(3),
          },
          { title: "GB/s", value: rate, show: (kernel: TracedKernel) => rate(kernel).toPrecision(3) },
        ]
      : []),
  ];
  function cost({ ms, bytes }: TracedKernel): number {
    return measured ? (ms ?? 0) : bytes;
  }
  const body = make("tbody");
  const detail = make("section", { class: "wide detail" });
  let chosen = trace.kernels[0];
  const renderRows = (by: (kernel: TracedKernel) => number): void => {
    const sorted = [...trace.kernels].sort((a, b) => by(b) - by(a));
    body.replaceChildren(
      ...sorted.map((kernel) => {
        const share = total === 0 ? 0 : (100 * cost(kernel)) / total;
        const select = (): void => {
          chosen = kernel;
          for (const each of body.children) each.setAttribute("aria-selected", String(each === row));
          detail.replaceChildren(...kernelView(kernel));
        };
        const row = make(
          "tr",
          { click: select, "aria-selected": String(kernel === chosen) },
          make("td", {}, make("button", { type: "button", class: "link", click: select }, kernel.name)),
          make(
            "td",
            { class: "share" },
            make("span", { style: `width:${share.toFixed(1)}%` }),
            `${share.toFixed(1)} %`,
          ),
          ...columns.map(({ show }) => make("td", { class: "number" }, show(kernel))),
        );
        return row;
      }),
    );
  };
  const head = make(
    "tr",
    {},
    make("th", {}, "kernel"),
    make(
      "th",
      {},
      make(
        "button",
        { type: "button", class: "link", click: () => renderRows(cost) },
        measured ? "of the time" : "of the bytes",
      ),
    ),
    ...columns.map(({ title, value }) =>
      make(
        "th",
        { class: "number" },
        make("button", { type: "button", class: "link", click: () => renderRows(value) }, title),
      ),
    ),
  );
  chosen = [...trace.kernels].sort((a, b) => cost(b) - cost(a))[0];
  renderRows(cost);
  if (chosen !== undefined) detail.replaceChildren(...kernelView(chosen));
  const note = measured
    ? "Times are of one step, kernels run one after the other on one thread; bytes are of all their buffers."
    : "Not run: bytes are of all buffers of all launches of a step.";
  return make(
    "div",
    { class: "columns" },
    make(
      "section",
      { class: "table" },
      make("p", { class: "dim" }, note),
      make("table", {}, make("thead", {}, head), body),
    ),
    detail,
  );
}

/** Gigabytes per second. */
function rate({ bytes, ms }: TracedKernel): number {
  return ms === null || ms === 0 ? 0 : bytes / ms / 1e6;
}

function kernelView({ name, origin, ir, source }: TracedKernel): Element[] {
  const text = make("pre", { class: "code", tabindex: "0" });
  const texts = [source, ir, origin.join("\n")];
  return [
    make("h3", {}, name),
    make("p", { class: "dim" }, `from ${origin.length} tensor ops: ${opsOf(origin)}`),
    choice(["emitted source", "kernel IR", "tensor ops"], (index) => text.replaceChildren(texts[index] ?? "")),
    text,
  ];
}

/** "3 mul, add, rsqrt" of lines such as `q = mul f32[2,3]`. */
function opsOf(origin: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const line of origin) {
    const op = line.replace(/^.*= /, "").split(" ")[0] ?? "";
    counts.set(op, (counts.get(op) ?? 0) + 1);
  }
  return [...counts].map(([op, times]) => (times === 1 ? op : `${times} ${op}`)).join(", ");
}
