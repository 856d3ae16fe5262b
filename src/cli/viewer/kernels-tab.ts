/** The kernels of a trace: what each costs, the tensor ops it computes, its IR, and what was emitted for it. */
import type { TracedKernel, TraceFile } from "../../trace-file.ts";
import { choice, make, showBytes } from "./dom.ts";

interface Column {
  readonly title: string;
  readonly value: (kernel: TracedKernel) => number;
  readonly show: (kernel: TracedKernel) => string;
}

type Measure = (kernel: TracedKernel) => number;

export function kernelsTab(trace: TraceFile): Element {
  const measured = trace.kernels.some(({ ms }) => ms !== null);
  const cost: Measure = ({ ms, bytes }) => (measured ? (ms ?? 0) : bytes);
  const columns = columnsOf(measured);
  const body = make("tbody");
  const detail = make("section", { class: "wide detail" });
  const sort = (by: Measure): void => {
    body.append(...[...rows].sort((a, b) => by(b.kernel) - by(a.kernel)).map(({ row }) => row));
  };
  const total = trace.kernels.reduce((sum, kernel) => sum + cost(kernel), 0);
  const rows = trace.kernels.map((kernel) => {
    const select = (): void => {
      for (const each of rows) each.row.setAttribute("aria-selected", String(each.kernel === kernel));
      detail.replaceChildren(...kernelView(kernel));
    };
    return { kernel, select, row: rowOf(kernel, total === 0 ? 0 : (100 * cost(kernel)) / total, columns, select) };
  });
  sort(cost);
  const [first, ...others] = rows;
  if (first !== undefined) others.reduce((a, b) => (cost(b.kernel) > cost(a.kernel) ? b : a), first).select();
  const note = measured
    ? "Times are of one step, each launch timed by itself; bytes are what launches read and write, at most."
    : "Not run. Bytes are what the launches of a step read and write, at most.";
  const shares = { title: measured ? "of the time" : "of the bytes", value: cost };
  const heads = [
    make("th", {}, "kernel"),
    make("th", {}, sortButton(shares, sort)),
    ...columns.map((column) => make("th", { class: "number" }, sortButton(column, sort))),
  ];
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  return make(
    "div",
    { class: "columns" },
    make("section", { class: "table" }, make("p", { class: "dim" }, note), table),
    detail,
  );
}

function columnsOf(measured: boolean): readonly Column[] {
  const counts: readonly Column[] = [
    { title: "launches", value: ({ launches }) => launches, show: ({ launches }) => String(launches) },
    { title: "bytes", value: ({ bytes }) => bytes, show: ({ bytes }) => showBytes(bytes) },
  ];
  const times: readonly Column[] = [
    { title: "time", value: ({ ms }) => ms ?? 0, show: ({ ms }) => showTime(ms ?? 0) },
    { title: "GB/s", value: rate, show: (kernel) => rate(kernel).toFixed(1) },
  ];
  return measured ? [...counts, ...times] : counts;
}

function sortButton({ title, value }: Pick<Column, "title" | "value">, sort: (by: Measure) => void): Element {
  return make("button", { type: "button", class: "link", click: () => sort(value) }, title);
}

/** `share` in percent. */
function rowOf(kernel: TracedKernel, share: number, columns: readonly Column[], select: () => void): Element {
  const percent = share.toFixed(1);
  return make(
    "tr",
    { click: select },
    make("td", {}, make("button", { type: "button", class: "link", click: select }, ...breakable(kernel.name))),
    make("td", { class: "share" }, make("span", { style: `width:${percent}%` }), `${percent} %`),
    ...columns.map(({ show }) => make("td", { class: "number" }, show(kernel))),
  );
}

/** A name that may go on in the next line after each `_`. */
function breakable(name: string): (Element | string)[] {
  return name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]);
}

function showTime(ms: number): string {
  return ms >= 1 ? `${ms.toPrecision(3)} ms` : `${(1000 * ms).toFixed(1)} us`;
}

/** Gigabytes per second. */
function rate({ bytes, ms }: TracedKernel): number {
  return ms === null || ms === 0 ? 0 : bytes / ms / 1e6;
}

function kernelView({ name, origin, ops, ir, source }: TracedKernel): Element[] {
  const text = make("pre", { class: "code", tabindex: "0" });
  const texts = [source, ir, origin.join("\n")];
  return [
    make("h3", {}, name),
    make("p", { class: "dim" }, `from ${origin.length} tensor ${origin.length === 1 ? "op" : "ops"}: ${ops}`),
    choice(["emitted source", "kernel IR", "tensor ops"], (index) => text.replaceChildren(texts[index] ?? "")),
    text,
  ];
}
