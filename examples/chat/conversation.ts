/** The messages on the page: questions, and answers that grow while they come, with the reasoning apart. */
import type { ChatMessage, GeneratedPart, GenerationResult } from "../../src/browser.ts";
import { find, make } from "./elements.ts";
import { count, milliseconds } from "./format.ts";

/** An answer on the page, while it is written. */
export interface AnswerView {
  readonly add: (part: GeneratedPart) => void;
  /** Ends it; gives the answer's text, without the reasoning. */
  readonly finish: (result: GenerationResult) => string;
  readonly fail: (message: string) => void;
}

const log = find("log", HTMLElement);
const scroller = find("scroller", HTMLElement);

/** Removes all messages. */
export function clearMessages(): void {
  for (const message of log.querySelectorAll(".message")) message.remove();
}

export function showQuestion({ content }: ChatMessage & { readonly content: string }): void {
  const text = make("p", { class: "text" }, content);
  log.append(make("article", { class: "message question", "aria-label": "You" }, text));
  scroller.scrollTop = scroller.scrollHeight;
}

export function showAnswer(): AnswerView {
  const text = make("p", { class: "text" });
  const thought = make("p");
  const heading = make("summary", {}, "Reasoning");
  const reasoning = make("details", { class: "reasoning", open: true, hidden: true }, heading, thought);
  const footer = make("footer");
  const article = make("article", { class: "message answer writing", "aria-label": "Answer" }, reasoning, text, footer);
  keepInView(() => log.append(article));
  log.setAttribute("aria-busy", "true");
  const began = performance.now();
  let reasoned: number | null = null;

  const end = () => {
    article.classList.remove("writing");
    log.setAttribute("aria-busy", "false");
    if (reasoned === null && !reasoning.hidden) heading.textContent = "Reasoning, cut off";
  };
  return {
    add: (part) =>
      keepInView(() => {
        if (part.kind === "reasoning") {
          const shown = thought.textContent === "" ? part.text.trimStart() : part.text;
          thought.append(shown);
          reasoning.hidden = thought.textContent === "";
          return;
        }
        // Models put empty lines between reasoning and answer.
        const shown = text.textContent === "" ? part.text.trimStart() : part.text;
        if (shown === "") return;
        if (reasoned === null && !reasoning.hidden) {
          reasoned = performance.now() - began;
          heading.textContent = `Reasoned for ${milliseconds(reasoned)}`;
        }
        text.append(shown);
      }),
    finish: (result) => {
      end();
      thought.textContent = thought.textContent.trimEnd();
      keepInView(() => footer.append(...facts(result).map((fact) => make("span", {}, fact))));
      return text.textContent.trim();
    },
    fail: (message) => {
      end();
      article.classList.add("failed");
      footer.append(make("span", { role: "alert" }, message));
      scroller.scrollTop = scroller.scrollHeight;
    },
  };
}

/** Changes something and then scrolls to the end, if the end was in view before. */
function keepInView(change: () => void): void {
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  change();
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
}

function facts({ usage, timings, finishReason }: GenerationResult): string[] {
  const { tokensPerSecond, firstTokenMs } = timings;
  const ending = { stop: null, length: "longest answer reached", abort: "stopped" }[finishReason];
  return [
    count(usage.completionTokens, "token"),
    tokensPerSecond === null ? null : `${tokensPerSecond.toFixed(1)} tokens/s`,
    firstTokenMs === null ? null : `first after ${milliseconds(firstTokenMs)}`,
    ending,
  ].filter((fact) => fact !== null);
}
