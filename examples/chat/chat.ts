/** The page: loads the model, sends what is asked, and shows what comes. */
import {
  type BrowserProgress,
  type ChatMessage,
  loadModel,
  type RemoteModel,
  removeStoredModel,
} from "../../src/browser.ts";
import { clearMessages, showAnswer, showQuestion } from "./conversation.ts";
import { find, make } from "./elements.ts";
import { bytes, milliseconds } from "./format.ts";
import { clearProgram, showProgram } from "./program-panel.ts";
import { editSettings, loadSettings, readSettings, type Settings } from "./settings.ts";

type Message = ChatMessage & { readonly content: string };

const page = {
  modelName: find("model-name", HTMLElement),
  runsOn: find("runs-on", HTMLElement),
  runsOnText: find("runs-on-text", HTMLElement),
  start: find("start", HTMLElement),
  loading: find("loading", HTMLElement),
  loadPhase: find("load-phase", HTMLElement),
  loadDetail: find("load-detail", HTMLElement),
  loadBar: find("load-bar", HTMLProgressElement),
  loadStop: find("load-stop", HTMLButtonElement),
  failure: find("failure", HTMLElement),
  failureText: find("failure-text", HTMLElement),
  loadAgain: find("load-again", HTMLButtonElement),
  loadUnstored: find("load-unstored", HTMLButtonElement),
  suggestions: find("suggestions", HTMLElement),
  composer: find("composer", HTMLFormElement),
  message: find("message", HTMLTextAreaElement),
  thinking: find("thinking", HTMLInputElement),
  speed: find("speed", HTMLElement),
  send: find("send", HTMLButtonElement),
  stop: find("stop", HTMLButtonElement),
  newChat: find("new-chat", HTMLButtonElement),
  program: find("program", HTMLElement),
  showProgram: find("show-program", HTMLButtonElement),
  announcer: find("announcer", HTMLElement),
};

const suggestions = [
  "What is 27 + 15?",
  "Tell me a story about a fox.",
  "Sort these words: pear, apple, fig.",
  "Count from 3 to 9.",
];

let settings = readSettings();
let model: RemoteModel | null = null;
/** End the loading and the answer that are under way. */
let loading: AbortController | null = null;
let answering: AbortController | null = null;
/** A new array for every conversation: an answer that comes late belongs to the one it was asked in. */
let messages: Message[] = [];

async function load(overrides: { storage?: "none" } = {}): Promise<void> {
  loading?.abort();
  const controller = new AbortController();
  loading = controller;
  await model?.close();
  model = null;
  clearProgram();
  newChat();
  setState("loading", "Loading");
  page.modelName.textContent = new URL(settings.model, location.href).pathname.split("/").filter(Boolean).at(-1) ?? "";
  const options = { ...loadSettings(settings), ...overrides, onProgress: showProgress, signal: controller.signal };
  try {
    const loaded = await loadModel(settings.model, options);
    if (controller.signal.aborted) return await loaded.close();
    model = loaded;
    showReady(loaded);
  } catch (error) {
    // Another load has begun and shows its own progress.
    if (loading === controller) showFailure(error, controller.signal.aborted);
  } finally {
    if (loading === controller) loading = null;
  }
}

function showProgress(progress: BrowserProgress): void {
  const { phase, done, total } = progress;
  const [name, detail] =
    phase === "download"
      ? ["Downloading the model", `${bytes(done)} of ${bytes(total)}`]
      : phase === "compile"
        ? ["Compiling", ""]
        : ["Preparing the weights", `${bytes(done)} of ${bytes(total)}`];
  page.loadPhase.textContent = name;
  page.loadDetail.textContent = detail;
  page.loadStop.hidden = phase !== "download";
  // Without a value the bar shows that something goes on.
  if (phase === "compile") page.loadBar.removeAttribute("value");
  else page.loadBar.value = total === 0 ? 1 : done / total;
}

function showReady(loaded: RemoteModel): void {
  const { backend, storage } = loaded;
  const threads = (backend.threads ?? 1) > 1 ? ` · ${backend.threads} threads` : "";
  setState("ready", `${backend.label.replace(/ (with|on) .*/, "")}${threads}`);
  page.runsOn.title = [backend.summary, ...backend.refused.map(({ label, reason }) => `${label}: ${reason}`)].join(
    "\n",
  );
  showProgram(loaded, () => void forget());
  announce(`The model is ready. It runs on ${backend.summary}.`);
  page.speed.textContent = `ready in ${milliseconds(loaded.loadMs)}${storage.kept > 0 && storage.kept === storage.total ? ", from storage" : ""}`;
  if (matchMedia("(hover: hover)").matches) page.message.focus();
}

function showFailure(error: unknown, paused: boolean): void {
  setState(paused ? "paused" : "failed", paused ? "Paused" : "Not loaded");
  page.failure.classList.toggle("paused", paused);
  page.failureText.textContent = paused
    ? "The download is paused. What has arrived is kept."
    : error instanceof Error
      ? error.message
      : String(error);
  page.loadAgain.textContent = paused ? "Go on" : "Try again";
  page.loadUnstored.hidden = paused || !/^storage/.test(page.failureText.textContent ?? "");
}

function setState(state: "loading" | "ready" | "paused" | "failed", text: string): void {
  page.runsOn.dataset.state = state;
  page.runsOnText.textContent = text;
  page.loading.hidden = state !== "loading";
  page.failure.hidden = state !== "failed" && state !== "paused";
  page.suggestions.hidden = state !== "ready";
  page.send.disabled = state !== "ready";
  page.newChat.disabled = state !== "ready";
  page.speed.textContent = "";
  if (state !== "loading") return;
  page.loadPhase.textContent = "Looking for the model";
  page.loadDetail.textContent = "";
  page.loadBar.removeAttribute("value");
  page.loadStop.hidden = true;
}

async function ask(content: string): Promise<void> {
  if (model === null || answering !== null || content.trim() === "") return;
  const controller = new AbortController();
  answering = controller;
  const before = messages;
  page.start.hidden = true;
  page.send.hidden = true;
  page.stop.hidden = false;
  page.speed.textContent = "";
  const question: Message = { role: "user", content: content.trim() };
  showQuestion(question);
  const view = showAnswer();
  const conversation = [...before, question];
  let tokens = 0;
  let first = 0;
  try {
    const { temperature, maxTokens } = settings;
    const options = { temperature, maxTokens, thinking: page.thinking.checked, signal: controller.signal };
    const answer = model.chat(conversation, options);
    for await (const part of answer) {
      view.add(part);
      first ||= performance.now();
      tokens += part.tokens.length;
      const seconds = (performance.now() - first) / 1000;
      if (seconds > 0.2) page.speed.textContent = `${(tokens / seconds).toFixed(0)} tokens/s`;
    }
    const text = view.finish(await answer.result);
    // An answer that was stopped is remembered as far as it went, but not one that never began.
    if (text !== "" && messages === before) messages = [...conversation, { role: "assistant", content: text }];
    announce(text === "" ? "Stopped" : text);
  } catch (error) {
    // To be shortened, perhaps.
    if (page.message.value === "") page.message.value = content;
    grow();
    view.fail(error instanceof Error ? error.message : String(error));
  } finally {
    page.send.hidden = false;
    page.stop.hidden = true;
    answering = null;
    page.message.focus();
  }
}

function newChat(): void {
  answering?.abort();
  messages = [];
  clearMessages();
  page.start.hidden = false;
}

async function forget(): Promise<void> {
  await model?.close();
  model = null;
  await removeStoredModel(settings.model);
  await load();
}

function apply(chosen: Settings): void {
  const before = settings;
  settings = chosen;
  document.documentElement.style.colorScheme = chosen.theme;
  const reload = JSON.stringify(loadSettings(before)) !== JSON.stringify(loadSettings(chosen));
  if (reload || before.model !== chosen.model || model === null) void load();
}

/** For screen readers: whole sentences, not tokens as they come. */
function announce(text: string): void {
  page.announcer.textContent = text;
}

function grow(): void {
  page.message.style.height = "auto";
  page.message.style.height = `${page.message.scrollHeight}px`;
}

function listen(): void {
  page.composer.addEventListener("submit", (event) => {
    event.preventDefault();
    const { value } = page.message;
    if (model === null || answering !== null) return;
    page.message.value = "";
    grow();
    void ask(value);
  });
  page.message.addEventListener("input", grow);
  page.message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      page.composer.requestSubmit();
    } else if (event.key === "ArrowUp" && page.message.value === "") {
      page.message.value = messages.findLast(({ role }) => role === "user")?.content ?? "";
      grow();
    }
  });
  document.addEventListener("keydown", (event) => {
    const writing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "Escape" && document.querySelector("dialog[open]") === null) answering?.abort();
    if (event.key === "/" && !writing) {
      event.preventDefault();
      page.message.focus();
    }
  });
  page.stop.addEventListener("click", () => answering?.abort());
  page.loadStop.addEventListener("click", () => loading?.abort());
  page.loadAgain.addEventListener("click", () => void load());
  page.loadUnstored.addEventListener("click", () => void load({ storage: "none" }));
  page.newChat.addEventListener("click", newChat);
  find("show-settings", HTMLButtonElement).addEventListener("click", () => editSettings(settings, apply));
  page.showProgram.addEventListener("click", () => {
    const shown = page.program.classList.toggle("shown");
    page.showProgram.setAttribute("aria-expanded", String(shown));
  });
  for (const text of suggestions) {
    const button = make("button", { type: "button", click: () => void ask(text) }, text);
    page.suggestions.append(make("li", {}, button));
  }
}

listen();
document.documentElement.style.colorScheme = settings.theme;
void load();
