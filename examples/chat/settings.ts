/** What the person has chosen: kept between visits, overruled by the page's address (`?backend=js&threads=2`). */
import type { LoadSettings } from "../../src/browser.ts";
import { find } from "./elements.ts";

export interface Settings {
  /** Address of the model's folder. */
  readonly model: string;
  /** Weights, and with `+` inputs; empty: as stored. */
  readonly quantize: "" | "int8" | "int4" | "int8+int8" | "int4+int8";
  /** Empty: the fastest there is. */
  readonly backend: string;
  /** Null: as many as the machine has. */
  readonly threads: number | null;
  /** Whether the files are kept in the browser. */
  readonly store: boolean;
  readonly temperature: number;
  readonly maxTokens: number;
  readonly theme: string;
}

const defaults: Settings = {
  model: "/models/tiny-deepseek/",
  quantize: "",
  backend: "",
  threads: null,
  store: true,
  temperature: 0.6,
  maxTokens: 512,
  theme: "light dark",
};

const key = "ciuic chat settings";

/** Settings of texts, as a form, an address or the browser's storage has them; what makes no sense is left out. */
function readTexts(texts: ReadonlyMap<string, string>, base: Settings): Settings {
  const text = (name: keyof Settings, known: RegExp) => {
    const value = texts.get(name);
    return value !== undefined && known.test(value) ? value : undefined;
  };
  const quantize = text("quantize", /^(int[48](\+int8)?)?$/) as Settings["quantize"] | undefined; // what matches
  const threads = text("threads", /^\d*$/);
  const store = text("store", /^(true|false)$/);
  const temperature = text("temperature", /^\d+(\.\d+)?$/);
  const maxTokens = text("maxTokens", /^[1-9]\d*$/);
  return {
    model: text("model", /./) ?? base.model,
    quantize: quantize ?? base.quantize,
    backend: text("backend", /^\w*$/) ?? base.backend,
    threads: threads === undefined ? base.threads : threads === "" ? null : Number(threads),
    store: store === undefined ? base.store : store === "true",
    temperature: temperature === undefined ? base.temperature : Number(temperature),
    maxTokens: maxTokens === undefined ? base.maxTokens : Number(maxTokens),
    theme: text("theme", /^(light|dark|light dark)$/) ?? base.theme,
  };
}

export function readSettings(): Settings {
  const kept = new Map<string, string>();
  try {
    const value: unknown = JSON.parse(localStorage.getItem(key) ?? "{}");
    for (const [name, each] of Object.entries(value ?? {})) kept.set(name, String(each ?? ""));
  } catch {
    // Storage may be forbidden, or hold something else: then the defaults are used.
  }
  return readTexts(new Map(new URLSearchParams(location.search)), readTexts(kept, defaults));
}

function keepSettings(settings: Settings): void {
  try {
    localStorage.setItem(key, JSON.stringify(settings));
  } catch {
    // As above: they hold for this visit.
  }
}

/** The part of the settings that takes loading again. */
export function loadSettings({ quantize, backend, threads, store }: Settings): LoadSettings {
  const [weights, activations] = quantize.split("+") as ["int8" | "int4", "int8"?]; // by its type
  return {
    ...(quantize === "" ? {} : { quantize: { weights, ...(activations && { activations }) } }),
    ...(backend === "" ? {} : { backend }),
    ...(threads === null ? {} : { threads }),
    ...(store ? {} : { storage: "none" as const }),
  };
}

/** Shows the dialog; calls back with what was chosen, unless it was left. */
export function editSettings(current: Settings, apply: (settings: Settings) => void): void {
  const dialog = find("settings", HTMLDialogElement);
  const form = find("settings-form", HTMLFormElement);
  const shown = find("temperature-shown", HTMLOutputElement);
  const field = (name: string) => form.elements.namedItem(name) as HTMLInputElement | HTMLSelectElement; // of the page
  for (const [name, value] of Object.entries(current)) {
    const input = field(name);
    if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = value === true;
    else input.value = String(value ?? "");
  }
  const showTemperature = () => {
    shown.value = Number(field("temperature").value) === 0 ? "0, always the likeliest" : field("temperature").value;
  };
  field("temperature").oninput = showTemperature;
  showTemperature();
  dialog.onclose = () => {
    if (dialog.returnValue !== "apply") return;
    const texts = new Map([...new FormData(form)].map(([name, value]) => [name, String(value)]));
    const store = field("store");
    texts.set("store", String(store instanceof HTMLInputElement && store.checked));
    const settings = readTexts(texts, current);
    keepSettings(settings);
    apply(settings);
  };
  dialog.returnValue = "";
  dialog.showModal();
}
