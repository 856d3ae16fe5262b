/** The passes of a trace: a list, a slider over all rewrites and passes, and what the chosen one changed in the IR. */
import type { TraceFile } from "../../trace-file.ts";
import type { TraceSources } from "../rule-sources.ts";
import { type DiffLine, diffLines } from "./diff.ts";
import { choice, make } from "./dom.ts";
import { rewriteLines } from "./rewrite-lines.ts";
import { rulesView } from "./rules-view.ts";

interface PassView {
  readonly name: string;
  readonly ms: number;
  readonly lines: readonly DiffLine[];
  readonly matches: TraceFile["passes"][number]["matches"];
}

/** Where the slider can be: each match of a pass in turn, then all that the pass changed. */
interface Place {
  readonly pass: number;
  readonly match: number | null;
}

/** Unchanged lines shown around changes. */
const context = 2;
/** Fewer lines are not worth a click. */
const leastHidden = 3;

export function passesTab(trace: TraceFile, sources: TraceSources): Element {
  const views = viewsOf(trace);
  const places = views.flatMap(({ matches }, pass): Place[] => [
    ...matches.map((_, match) => ({ pass, match })),
    { pass, match: null },
  ]);
  const at = ({ pass, match }: Place) => places.findIndex((each) => each.pass === pass && each.match === match);
  const diff = make("pre", { class: "code diff", tabindex: "0" });
  const rules = make("div", { class: "rules" });
  const label = make("output");
  let shown = 0;
  let whole = false;
  const rows = views.map((view, pass) =>
    make("button", { type: "button", class: "pass", click: () => show(at({ pass, match: null })) }, ...passRow(view)),
  );
  const show = (index: number): void => {
    const { pass, match } = places[index]!;
    const view = views[pass]!;
    shown = index;
    slider.value = String(index);
    for (const [i, row] of rows.entries()) row.setAttribute("aria-pressed", String(i === pass));
    label.replaceChildren(labelOf(view, match));
    diff.replaceChildren(...(match === null ? diffView(view.lines, whole) : matchView(trace, view.matches[match]!)));
    const choose = (next: number) => show(at({ pass, match: next }));
    rules.replaceChildren(
      ...rulesView(trace, sources, { pass: view.name, matches: view.matches, shown: match, choose }),
    );
  };
  const { slider, bar } = sliderBar(places.length, show);
  const extent = choice(["changes", "whole text"], (index) => {
    whole = index === 1;
    if (places.length > 0) show(shown);
  });
  shown = Math.max(at({ pass: views.findIndex(isChange), match: null }), 0);
  const middle = make("section", { class: "wide" }, bar, make("div", { class: "bar" }, extent, label), diff);
  return make("div", { class: "columns" }, make("nav", {}, ...rows), middle, make("aside", {}, rules));
}

/** A slider over so many places, with buttons; the arrow keys move it wherever they do nothing else. */
function sliderBar(count: number, show: (index: number) => void): { slider: HTMLInputElement; bar: Element } {
  const slider = make("input", {
    ...{ type: "range", min: "0", max: String(count - 1), "aria-label": "rewrites and passes" },
    input: () => show(Number(slider.value)),
  }) as HTMLInputElement; // by its tag
  const step = (by: number): void => {
    const next = Number(slider.value) + by;
    if (next >= 0 && next < count) show(next);
  };
  const button = (by: number, text: string, title: string) =>
    make("button", { type: "button", class: "step-by", title, click: () => step(by) }, text);
  const bar = make("div", { class: "bar steps" }, button(-1, "‹", "one back: ←"), slider, button(1, "›", "one on: →"));
  document.addEventListener("keydown", ({ key, target }) => {
    const by = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
    // The slider moves by itself, and texts scroll.
    const taken = target === slider || (target instanceof Element && target.closest("pre") !== null);
    if (by !== 0 && bar.isConnected && !taken) step(by);
  });
  return { slider, bar };
}

function labelOf({ name, matches }: PassView, match: number | null): string {
  if (match === null) return `${name}: all that it changed`;
  return `${name}, match ${match + 1} of ${matches.length}: ${matches[match]!.rule}`;
}

/** One rewrite, whatever became of it later. */
function matchView(trace: TraceFile, { before, after }: PassView["matches"][number]): Element[] {
  return rewriteLines(trace, before, after).map(lineView);
}

function isChange({ lines }: PassView): boolean {
  return lines.some(({ kind }) => kind !== "same");
}

/** Each pass compared with the one before it. */
function viewsOf(trace: TraceFile): PassView[] {
  let text = trace.input;
  return trace.passes.map(({ name, ms, text: after, matches }) => {
    const lines = diffLines(text.split("\n"), (after ?? text).split("\n"));
    text = after ?? text;
    return { name, ms, lines, matches };
  });
}

function passRow({ name, ms, lines, matches }: PassView): (Element | string)[] {
  const count = (wanted: DiffLine["kind"]) => lines.filter(({ kind }) => kind === wanted).length;
  const [added, removed] = [count("added"), count("removed")];
  const changed = added + removed > 0;
  return [
    make("b", {}, name),
    make("span", { class: "dim" }, `${ms.toFixed(1)} ms`),
    changed
      ? make("span", {}, make("i", { class: "plus" }, `+${added}`), " ", make("i", { class: "minus" }, `−${removed}`))
      : make("span", { class: "dim" }, "no change"),
    make("span", { class: "dim" }, matches.length === 0 ? "" : `${matches.length} matches`),
  ];
}

function diffView(lines: readonly DiffLine[], whole: boolean): Element[] {
  if (!whole && lines.every(({ kind }) => kind === "same"))
    return [make("div", { class: "dim" }, "This pass changed nothing.")];
  const near = lines.map((_, i) =>
    lines.slice(Math.max(0, i - context), i + context + 1).some(({ kind }) => kind !== "same"),
  );
  const shown: Element[] = [];
  let hidden: DiffLine[] = [];
  const fold = (): void => {
    if (hidden.length === 0) return;
    const inside = hidden;
    hidden = [];
    if (inside.length <= leastHidden) {
      shown.push(...inside.map(lineView));
      return;
    }
    const button = make(
      "button",
      { type: "button", class: "fold", click: () => button.replaceWith(...inside.map(lineView)) },
      `${inside.length} lines as before`,
    );
    shown.push(button);
  };
  for (const [i, line] of lines.entries()) {
    // The head of a function says where the changes below it are.
    if (whole || near[i] || line.text.startsWith("func ")) {
      fold();
      shown.push(lineView(line));
    } else hidden.push(line);
  }
  fold();
  return shown;
}

function lineView({ kind, text }: DiffLine): Element {
  const sign = kind === "added" ? "+" : kind === "removed" ? "−" : " ";
  return make("div", { class: kind }, make("span", { class: "sign" }, sign), text === "" ? " " : text);
}
